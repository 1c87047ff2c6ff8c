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

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from analysis import captions, curves, looks, style
from analysis.frames import MissingRecordsError
from analysis.panel_axes import draw_panel
from analysis.panels import COLUMNS, Panel, panel_table, why_not_comparable
from analysis.tables import draw_table, endpoints, table_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.load import Experiment, Records

__all__ = [
    "COLUMNS", "Panel", "draw", "draw_panel", "draw_table", "endpoints", "table", "table_figure",
    "why_not_comparable",
]  # fmt: skip

# More methods than these have their chosen values in the caption: the legend would fill the figure.
_MOST_IN_LEGEND = 8


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
        room = style.head_height(heading, list(legend.values()), width)
        room += style.footnote_height(caption, width)
        figure = Figure(figsize=(width, height * num_rows + room), layout="constrained")
        grid = figure.subplots(num_rows, columns, squeeze=False)
        for axes, (number, panel) in zip(grid.flat, enumerate(panels), strict=False):
            draw_panel(axes, panel, data[data["panel"] == number], drawn)
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        style.head(figure, heading, [drawn[m] | {"label": legend[m]} for m in methods])
        style.footnote(figure, caption)
    return figure


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
        elif _in_legend(data) and tuned != {""}:
            entries[method] += f", {tuned.pop()}"
    return entries


def _in_legend(data: pd.DataFrame) -> bool:
    """Whether the chosen values stand in the legend: one each, and not too many for a legend."""
    chosen = data[data["note"] == ""].groupby("method")["tuned"].nunique()
    return len(chosen) <= _MOST_IN_LEGEND and (chosen.empty or chosen.max() <= 1)


def _caption(
    experiments: Mapping[str, Experiment],
    panels: Sequence[Panel],
    data: pd.DataFrame,
    labels: Mapping[str, str] | None,
    sentences: Sequence[str],
) -> list[str]:
    points = data[data["note"] == ""]
    said = [*sentences, *_about_curves(panels, points)]
    if not _in_legend(data):
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
    many = points.groupby("panel")["step"].nunique() >= curves.FEW_POINTS
    hidden = [
        panel.hidden
        for number, panel in enumerate(panels)
        if panel.hidden and not panel.transform and not panel.log_x and many.get(number, False)
    ]
    if hidden:
        said.append(f"The first {max(hidden) * 100:g} % may lie above a panel.")
    return said
