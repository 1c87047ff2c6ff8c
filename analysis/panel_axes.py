"""The drawing of one panel of a comparison: curves, limits, ticks, notes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis import curves, lettering, looks, style
from analysis.panels import X_LABELS, Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Room above the start of a training curve; what rises further leaves the panel.
_OVERSHOOT_LINEAR, _OVERSHOOT_LOG = 0.25, 10.0
_SPLITS = {"": "training", "train": "training", "valid": "validation", "val": "validation"}
_METRICS = {"nll": "NLL", "bleu": "BLEU", "bits_per_char": "bits per character"}
# A decade: values that span more are drawn on a logarithmic axis.
_WIDE = 10.0


def draw_panel(
    axes: Axes, panel: Panel, rows: pd.DataFrame, drawn: Mapping[str, Mapping[str, object]]
) -> None:
    """Draw one panel.

    Args:
        rows: the panel's rows of `table`.
        drawn: each method's look, of `looks.lines`.
    """
    axes.set_title(panel.case if panel.title is None else panel.title)
    axes.set(xlabel=X_LABELS[panel.x], ylabel=panel.ylabel or _ylabel(panel, drawn))
    points = rows[rows["note"] == ""]
    if points.empty:
        write_note(axes, "; ".join(dict.fromkeys(rows["note"])))
        return
    for method, curve in points.groupby("method", sort=False):
        curves.draw_curve(axes, curve, panel.x, drawn[method])
    log = _is_log(panel, points)
    if log:
        axes.set_yscale("log")
    axes.set_ylim(*(panel.ylim or _limits(panel, points, log)))
    if log:
        _set_plain_ticks(axes)
    for label, value in panel.references.items():
        axes.axhline(value, color="0.5", linestyle=":", linewidth=0.8)
        axes.annotate(
            label, (1, value), xycoords=("axes fraction", "data"), ha="right", va="bottom",
            fontsize=6, color=style.CAPTION_COLOR,
        )  # fmt: skip
    _set_x(axes, panel, points)
    axes.grid(True)


def write_note(axes: Axes, note: str) -> None:
    """Write into an empty panel why it is empty."""
    axes.set(xticks=[], yticks=[], xlabel="", ylabel="")
    share = axes.figure.get_figwidth() / axes.get_subplotspec().get_gridspec().ncols
    # Labels of the axis take a fifth of a panel's share of the width.
    text = lettering.wrapped(note, 0.8 * share - 0.1, 7)
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, fontsize=7)


def _set_x(axes: Axes, panel: Panel, points: pd.DataFrame) -> None:
    last = max(points[panel.x].max(), 1e-9)
    if panel.log_x:
        # Step 0 has no place on a log axis.
        positive = points.loc[points[panel.x] > 0, panel.x]
        axes.set_xscale("log")
        axes.set_xlim(positive.min() if len(positive) else None, 1.02 * last)
    elif _are_few(points):
        axes.set_xlim(*((-0.5, 1) if points[panel.x].max() <= 0 else (-0.05 * last, 1.05 * last)))
    else:
        axes.set_xlim(0, 1.02 * last)  # the last mark is whole


def _are_few(points: pd.DataFrame) -> bool:
    """Whether there are dots and no curves: all are shown, and whole."""
    return points["step"].nunique() < curves.FEW_POINTS


def _set_plain_ticks(axes: Axes) -> None:
    """Few decades are read as plain numbers; powers of ten alone would leave one tick or none."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    low, high = axes.get_ylim()
    if not 0 < low < high or high > 1e3 * low or not 1e-3 <= low < high <= 1e4:
        return
    few = (1, 1.5, 2, 3, 4, 6) if high < 12 * low else (1, 2, 5)
    narrow = high < 3 * low
    axes.yaxis.set_major_locator(
        MaxNLocator(6, steps=[1, 2, 5, 10]) if narrow else LogLocator(subs=few)
    )
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:g}")


def _ylabel(panel: Panel, drawn: Mapping[str, Mapping[str, object]]) -> str:
    metric, _, split = panel.y.partition(", ")
    label = f"{_SPLITS.get(split, split)} {_METRICS.get(metric, metric.replace('_', ' '))}"
    if panel.exponentiate:
        label = "training perplexity"
    if panel.suboptimality:
        label = f"{label} − optimum"
    if panel.transform:
        kind, method = panel.transform
        name = drawn[method]["label"] if method in drawn else looks.line(method)["label"]
        label = f"{label} / {name}" if kind == "ratio" else f"{label} − {name}"
    return label


def _is_log(panel: Panel, points: pd.DataFrame) -> bool:
    if panel.log is not None:
        return panel.log
    finite = points.loc[np.isfinite(points["value"]), "value"]
    return len(finite) > 0 and finite.min() > 0 and finite.max() > _WIDE * finite.min()


def _shown(panel: Panel, points: pd.DataFrame) -> pd.DataFrame:
    shown = points[np.isfinite(points["value"])]
    if panel.hidden and not panel.transform and not panel.log_x and not _are_few(points):
        late = shown[shown["step"] >= panel.hidden * points["step"].max()]
        shown = late if len(late) else shown
    return shown


def _limits(panel: Panel, points: pd.DataFrame, log: bool) -> tuple[float | None, float | None]:
    """Limits that hold all curves and bands after their start, without what blows up."""
    shown = _shown(panel, points)
    if shown.empty:
        return (None, None)
    ends = np.concatenate([shown[name].to_numpy() for name in ("value", "low", "high")])
    ends = ends[np.isfinite(ends) & ((ends > 0) | (not log))]
    if not len(ends):
        return (None, None)
    low, high = ends.min(), ends.max()
    start = shown.loc[shown["step"] == shown["step"].min(), "value"].max()
    if panel.y == "loss" and not panel.transform and start > low and not _are_few(points):
        room = start * _OVERSHOOT_LOG if log else start + _OVERSHOOT_LINEAR * (start - low)
        high = min(high, room)
    if log:
        margin = max(high / low, 1.0) ** 0.03 * 1.02
        return (low / margin, high * margin)
    margin = 0.04 * (high - low) or 1e-12
    return (low - margin, high + margin)
