"""Tables of numbers drawn as figures: ours beside those that a paper prints."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis import captions, curves, looks, measures, style
from analysis.table_layout import laid_out

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.load import Experiment

_ROW_HEIGHT = 0.17  # inches, at 7 pt
END_COLUMNS = ["case", "method", "tuned", "num_runs", "num_diverged", "y", "value", "low", "high"]


def endpoints(
    experiment: Experiment, case: str, y: str, take: str = "final", direction: str = "min"
) -> pd.DataFrame:
    """Return one row a method: the median over seeds of a run's last or best value.

    Args:
        y: "loss" (its mean over the last tenth of the steps), or "<metric>, <split>".
        take: "final", or "best" of the evaluations in `direction`.
        direction: "min" or "max".
    Returns:
        Columns `END_COLUMNS`; low and high: 95 % bootstrap interval, nan for one seed. A diverged
        run counts as infinitely bad. A method without any run has num_runs 0 and nan.
    """
    rows = []
    for method in experiment.methods(case):
        values = _ends(experiment, case, method, y, take, direction)
        diverged = curves.diverged_seeds(experiment, case, method)
        row = {
            "case": case, "method": method, "tuned": curves.tuned(experiment, case, method),
            "num_runs": len(values), "num_diverged": len(diverged & set(values.index)), "y": y,
            "value": np.nan, "low": np.nan, "high": np.nan,
        }  # fmt: skip
        if len(values):
            row["value"], low, high = measures.bootstrap_interval(values.to_numpy())
            if len(values) > 1:
                row.update(low=low, high=high)
        rows.append(row)
    return pd.DataFrame(rows, columns=END_COLUMNS)


def _ends(
    experiment: Experiment, case: str, method: str, y: str, take: str, direction: str
) -> pd.Series:
    """One number a seed; a diverged run's is infinitely bad."""
    worst = np.inf if direction == "min" else -np.inf
    if y == "loss":
        frame = experiment.steps(case, ("step", "loss", "train_seconds"))
        rows = frame[frame["method"] == method].sort_values("step")
        values = rows.groupby("seed")["loss"].agg(lambda v: v.tail(max(1, len(v) // 10)).mean())
    else:
        metric, _, split = y.partition(", ")
        frame = experiment.evals(case)
        chosen = (frame["metric"] == metric) & (frame["split"] == split)
        rows = frame[chosen & (frame["method"] == method)].sort_values("step")
        how = "last" if take == "final" else direction
        values = rows.groupby("seed")["value"].agg(how)
    values[values.index.isin(curves.diverged_seeds(experiment, case, method))] = worst
    return values.astype(float).fillna(worst)


def number_text(value: Any, low: float = np.nan, high: float = np.nan, digits: int = 3) -> str:
    """A number for a table, with its interval in brackets: "1.23 [1.2, 1.3]"; nan: a dash."""
    if isinstance(value, str):
        return value
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if value is None or value != value:
        return "–"
    if isinstance(value, (int, np.integer)):
        return f"{value:,}"
    text = f"{value:.{digits}g}"
    if low == low and high == high:
        text += f" [{low:.{digits}g}, {high:.{digits}g}]"
    return text


def draw_table(
    axes: Axes, frame: pd.DataFrame, bold: Collection[tuple[int, str]] = (), title: str = ""
) -> None:
    """Draw a frame as a table, one row a row: numbers to the right, words to the left.

    Args:
        frame: cells are written by `number_text`; the columns' names are the header.
        bold: cells (row, column) to emphasise, such as the best of a column.
    """
    axes.set_axis_off()
    if title:
        axes.set_title(title)
    cells = _cells(frame)
    share = axes.figure.get_figwidth() / axes.get_subplotspec().get_gridspec().ncols
    layout = laid_out(frame.columns, cells, bold, share)
    head = layout.header_lines
    num_rows = len(cells) + head
    for column, name in enumerate(layout.names):
        left = layout.left[column]
        x = layout.edges[column] if left else layout.edges[column + 1] - layout.gap
        for row in range(-1, len(cells)):
            text = name if row < 0 else cells[row][column]
            strong = row < 0 or (row, frame.columns[column]) in bold
            middle = head / 2 if row < 0 else head + row + 0.5
            axes.text(
                x, 1 - middle / num_rows, text, ha="left" if left else "right", va="center",
                fontsize=layout.font_size, fontweight="bold" if strong else "normal",
                transform=axes.transAxes,
            )  # fmt: skip
    for y, thick in ((1.0, 0.8), (1 - head / num_rows, 0.5), (0.0, 0.8)):
        axes.plot([0, 1], [y, y], color="black", linewidth=thick, transform=axes.transAxes,
                  clip_on=False)  # fmt: skip
    axes.set(xlim=(0, 1), ylim=(0, 1))


def _cells(frame: pd.DataFrame) -> list[list[str]]:
    return [[number_text(value) for value in row] for row in frame.itertuples(index=False)]


def table_figure(
    frame: pd.DataFrame,
    title: str,
    sentences: Sequence[str] = (),
    experiments: Sequence[Experiment] = (),
    bold: Collection[tuple[int, str]] = (),
    width: float | None = None,
    labels: Mapping[str, str] | None = None,
) -> Figure:
    """Draw a table of numbers as a figure of its own.

    Args:
        frame: see `draw_table`; a column `method` gets the methods' names.
        title: the paper and the item; what stands in for the paper's data is added.
        sentences: the caption.
        experiments: where the numbers come from, for stand-ins and provenance.
        labels: a method's name, where its own does not fit.
    """
    from matplotlib.figure import Figure

    frame = frame.copy()
    if "method" in frame:
        names = looks.lines(list(dict.fromkeys(frame["method"])), labels)
        frame["method"] = [names[method]["label"] for method in frame["method"]]
    width = width or (style.PAGE_WIDTH if len(frame.columns) > 3 else style.COLUMN_WIDTH)
    heading = captions.heading(title, experiments, width)
    caption = [*sentences]
    for experiment in experiments:
        caption.append(captions.diverged_runs(experiment, labels))
        caption.append(captions.missing(experiment, labels=labels))
    if experiments:
        caption.append(curves.provenance(pd.concat([e.runs() for e in experiments])))
    caption = [sentence for sentence in caption if sentence]
    with style.context():
        room = style.head_height(heading, (), width) + style.footnote_height(caption, width)
        num_rows = len(frame) + laid_out(frame.columns, _cells(frame), bold, width).header_lines
        size = (width, _ROW_HEIGHT * (num_rows + 0.5) + room)
        figure = Figure(figsize=size, layout="constrained")
        draw_table(figure.subplots(), frame, bold)
        style.head(figure, heading)
        style.footnote(figure, caption)
    return figure
