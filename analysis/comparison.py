"""Figures that compare the methods of an experiment: a table of curves, and its drawing.

A figure of a paper is a list of panels:

    PANELS = (
        Panel("kradagrad_fig1", "n128", transform=("ratio", "sgd"), title="divided by SGD"),
        Panel("kradagrad_fig1", "n128", log=True),
    )

    def table(records):
        return comparison.table(records, PANELS)

    def draw(records, data=None):
        return comparison.draw(records, PANELS, data, title=TITLE)

What could not be drawn is said in its panel, in the legend or in the caption.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis import captions, curves, looks, style
from analysis.frames import MissingRecordsError
from analysis.panels import COLUMNS, X_LABELS, Panel, panel_table, why_not_comparable
from analysis.tables import draw_table, endpoints, table_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.load import Experiment, Records

__all__ = [
    "COLUMNS", "Panel", "draw", "draw_panel", "draw_table", "endpoints", "table", "table_figure",
    "why_not_comparable",
]  # fmt: skip

# Room above the start of a training curve; what rises further leaves the panel.
_OVERSHOOT_LINEAR, _OVERSHOOT_LOG = 0.25, 10.0
# A decade: values that span more are drawn on a logarithmic axis.
_WIDE = 10.0


def table(records: Records, panels: Sequence[Panel]) -> pd.DataFrame:
    """Return the curves of all panels, tidy (`COLUMNS`).

    Raises:
        MissingRecordsError: if no panel has a curve; names what is missing with its command.
    """
    parts = [panel_table(records, panel, number) for number, panel in enumerate(panels)]
    data = pd.concat(parts, ignore_index=True)
    if data["value"].isna().all() and not data["note"].str.startswith("not comparable").any():
        raise MissingRecordsError("; ".join(dict.fromkeys(data.loc[data["note"] != "", "note"])))
    return data


def draw(
    records: Records,
    panels: Sequence[Panel],
    data: pd.DataFrame | None = None,
    *,
    title: str,
    labels: Mapping[str, str] | None = None,
    ordered: bool = False,
    columns: int | None = None,
    width: float | None = None,
    height: float = 2.2,
    sentences: Sequence[str] = (),
) -> Figure:
    """Draw a table of `table`: a panel each, one legend above, what was run below.

    Args:
        title: the paper and the item; what stands in for the paper's data is added.
        labels: a method's name in the legend, where its own does not fit.
        ordered: the methods are values of one quantity in order: shades of one colour map.
        columns: panels side by side; by default as many as the page has room for, at most three.
        width: in inches; by default a column of a page for one panel and the page for more.
        height: of one row of panels, in inches.
        sentences: put first in the caption.
    """
    from matplotlib.figure import Figure

    data = table(records, panels) if data is None else data
    columns = columns or (len(panels) if len(panels) <= 3 else 2 if len(panels) == 4 else 3)
    num_rows = -(-len(panels) // columns)
    width = width or (style.PAGE_WIDTH if columns > 1 else style.COLUMN_WIDTH)
    methods = [method for method in dict.fromkeys(data["method"]) if method]
    drawn = looks.lines(methods, labels, ordered)
    experiments = _experiments(records, panels)
    with style.context():
        legend = _legend(data, drawn)
        heading = captions.heading(title, experiments.values(), width)
        caption = _caption(experiments, panels, data, labels, sentences)
        room = 0.13 * (style.num_legend_rows(legend.values(), width) + heading.count("\n") + 2)
        room += 0.1 * (len(" ".join(caption)) * 0.046 / width + 1)
        figure = Figure(figsize=(width, height * num_rows + room), layout="constrained")
        grid = figure.subplots(num_rows, columns, squeeze=False)
        for axes, (number, panel) in zip(grid.flat, enumerate(panels), strict=False):
            draw_panel(axes, panel, data[data["panel"] == number], drawn)
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        style.head(figure, heading, [drawn[m] | {"label": legend[m]} for m in methods])
        style.footnote(figure, caption)
    return figure


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
        note = "\n".join(dict.fromkeys(rows["note"]))
        axes.set(xticks=[], yticks=[], ylabel="")
        share = axes.figure.get_figwidth() / axes.get_subplotspec().get_gridspec().ncols
        # At 7 pt a character is about 0.06 inch wide; the panel leaves room for its neighbours.
        text = textwrap.fill(note, int((share - 0.4) / 0.06))
        axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, fontsize=7)
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


# ---------------------------------------------------------------- axes


def _set_x(axes: Axes, panel: Panel, points: pd.DataFrame) -> None:
    last = max(points[panel.x].max(), 1e-9)
    if panel.log_x:
        # Step 0 has no place on a log axis.
        positive = points.loc[points[panel.x] > 0, panel.x]
        axes.set_xscale("log")
        axes.set_xlim(positive.min() if len(positive) else None, 1.02 * last)
    else:
        axes.set_xlim(0, 1.02 * last)  # the last mark is whole


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
    label = {"loss": "training loss"}.get(panel.y, panel.y)
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
    if panel.hidden and not panel.transform and not panel.log_x:
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
    if panel.y == "loss" and not panel.transform and start > low:
        room = start * _OVERSHOOT_LOG if log else start + _OVERSHOOT_LINEAR * (start - low)
        high = min(high, room)
    if log:
        margin = max(high / low, 1.0) ** 0.03 * 1.02
        return (low / margin, high * margin)
    margin = 0.04 * (high - low) or 1e-12
    return (low - margin, high + margin)


# ---------------------------------------------------------------- words


def _experiments(records: Records, panels: Sequence[Panel]) -> dict[str, Experiment]:
    found = {}
    for name in dict.fromkeys(panel.experiment for panel in panels):
        try:
            found[name] = records.experiment(name)
        except MissingRecordsError:
            continue  # its panels say so
    return found


def _legend(data: pd.DataFrame, drawn: Mapping[str, Mapping[str, object]]) -> dict[str, str]:
    """Each method's entry: with the chosen values where they are the same in all panels."""
    entries = {}
    for method, look in drawn.items():
        rows = data[(data["method"] == method) & (data["note"] == "")]
        tuned = set(rows["tuned"])
        entries[method] = str(look["label"])
        if rows.empty:
            entries[method] += ": no run"
        elif _one_rate_each(data) and tuned != {""}:
            entries[method] += f", {tuned.pop()}"
    return entries


def _one_rate_each(data: pd.DataFrame) -> bool:
    points = data[data["note"] == ""]
    return points.empty or points.groupby("method")["tuned"].nunique().max() <= 1


def _caption(
    experiments: Mapping[str, Experiment],
    panels: Sequence[Panel],
    data: pd.DataFrame,
    labels: Mapping[str, str] | None,
    sentences: Sequence[str],
) -> list[str]:
    points = data[data["note"] == ""]
    said = [*sentences, *_about_curves(panels, points)]
    if not _one_rate_each(data):
        said.append(captions.tuned_values(points, labels))
    said.append(captions.diverged(points, labels))
    for name, experiment in experiments.items():
        cases = list(dict.fromkeys(p.case for p in panels if p.experiment == name))
        methods = [m for m in dict.fromkeys(data.loc[data["experiment"] == name, "method"]) if m]
        paired = any(panel.paired for panel in panels if panel.experiment == name)
        own = captions.of_experiment(experiment, cases, methods, labels, paired)
        prefix = f"{name}: " if len(experiments) > 1 and own else ""
        said.append(prefix + " ".join(own))
    absent = data[(data["note"] != "") & (data["method"] != "")]
    said += [f"{note[0].upper()}{note[1:]}." for note in dict.fromkeys(absent["note"])]
    if experiments:
        said.append(curves.provenance(pd.concat([e.runs() for e in experiments.values()])))
    return [sentence for sentence in dict.fromkeys(said) if sentence]


def _about_curves(panels: Sequence[Panel], points: pd.DataFrame) -> list[str]:
    if points.empty:
        return []
    numbers = "/".join(map(str, sorted(set(points["num_runs"]))))
    if numbers == "1":
        said = ["1 run a curve; no band."]
    else:
        seeds = (
            "the same resampled seeds for all methods"
            if all(panel.paired for panel in panels)
            else "over each method's own seeds"
        )
        said = [
            f"{numbers} runs a curve: median over seeds, 95 % bootstrap band, {seeds}; "
            "a diverged run counts as infinite."
        ]
    widths = sorted(set(points.loc[points["y"] == "loss", "smoothed_steps"].astype(int)) - {1})
    if widths:
        said.append(f"Training loss: mean over the last {'/'.join(map(str, widths))} steps.")
    hidden = [p.hidden for p in panels if p.hidden and not p.transform and not p.log_x]
    if hidden:
        said.append(f"The first {max(hidden) * 100:g} % may lie above a panel.")
    return said
