"""Figures of one number a method: a line of the figure each, with marks for its variants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis import captions, curves, style
from analysis.looks import BLACK, BLUE, GREEN, PURPLE, SKY, VERMILLION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.load import Experiment

# Colour, marker: one a variant, told apart in grey as well.
_MARKS = ((BLACK, "o"), (BLUE, "s"), (VERMILLION, "^"), (GREEN, "D"), (PURPLE, "v"), (SKY, "P"))
_MARK_HEIGHT = 0.13  # inches, for the text beside a mark
_HUGE = 1e30


def draw(
    data: pd.DataFrame,
    experiment: Experiment,
    *,
    title: str,
    rows: Mapping[str, str],
    variants: Mapping[str, str],
    names: Mapping[tuple[str, str], str],
    xlabel: str,
    sentences: Sequence[str] = (),
) -> Figure:
    """Draw final values: a line for each of `rows`, in it a mark for each of `variants`.

    Beside a mark stands what was tuned; a method without a run, or whose runs diverged, is said at
    the left end of its line. The x axis is logarithmic.

    Args:
        data: of `tables.endpoints`.
        rows, variants: key -> label.
        names: (row, variant) -> method; a pair that is not there is left out.
    """
    from matplotlib.figure import Figure

    found = {row["method"]: row for row in data.to_dict("records")}
    marks = dict(zip(variants, _MARKS, strict=False))
    caption = [
        *sentences,
        captions.missing(experiment),
        captions.diverged(data.assign(experiment=experiment.name)),
    ]
    caption.append(curves.provenance(experiment.runs()))
    with style.context():
        caption = [sentence for sentence in caption if sentence]
        most = max(sum((row, v) in names for v in variants) for row in rows)
        height = (_MARK_HEIGHT * most + 0.1) * len(rows) + 1.1
        height += style.footnote_height(caption, style.PAGE_WIDTH)
        figure = Figure(figsize=(style.PAGE_WIDTH, height), layout="constrained")
        axes = figure.subplots()
        for line, row in enumerate(rows):
            used = [v for v in variants if names.get((row, v)) in found]
            for place, variant in enumerate(used):
                y = line + 0.7 * ((place + 0.5) / len(used) - 0.5)
                label = f"{rows[row]}, {variants[variant]}"
                _mark(axes, found[names[row, variant]], y, *marks[variant], label)
        axes.set_yticks(range(len(rows)), list(rows.values()))
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xscale("log")
        axes.set_xlabel(xlabel)
        low, high = axes.get_xlim()
        axes.set_xlim(low, high * (high / low) ** 0.12)  # room for the text of the last mark
        axes.grid(True, axis="x")
        entries = [
            {"color": color, "marker": marker, "linestyle": "none", "markersize": 4, "label": text}
            for (color, marker), text in zip(marks.values(), variants.values(), strict=True)
        ]
        style.head(figure, captions.heading(title, [experiment], style.PAGE_WIDTH), entries)
        style.footnote(figure, caption)
    return figure


def _mark(axes: Axes, row: dict, y: float, color: str, marker: str, label: str) -> None:
    if not row["num_runs"] or not np.isfinite(row["value"]):
        what = "no run" if not row["num_runs"] else "diverged"
        axes.annotate(
            f"{label}: {what}", (0.01, y), xycoords=("axes fraction", "data"), va="center",
            fontsize=6, color=color,
        )  # fmt: skip
        return
    high = min(row["high"], _HUGE)
    if row["low"] == row["low"]:
        axes.plot([row["low"], high], [y, y], color=color, linewidth=1)
    axes.plot([row["value"]], [y], color=color, marker=marker, markersize=4, linestyle="none")
    text = f"{row['value']:.3g}" + (f" ({row['tuned']})" if row["tuned"] else "")
    if row["num_diverged"]:
        text += f", {row['num_diverged']}/{row['num_runs']} diverged"
    axes.annotate(
        text, (max(row["value"], high if high == high else 0), y), xytext=(5, 0),
        textcoords="offset points", va="center", fontsize=6, color="0.3",
    )  # fmt: skip
