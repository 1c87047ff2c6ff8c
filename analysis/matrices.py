"""Matrices as pictures: a table of their entries, and panels side by side."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = ["panel", "row", "column", "value"]


def table(panels: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Return the entries of named matrices, one row each (`COLUMNS`)."""
    parts = []
    for panel, matrix in panels.items():
        row, column = np.indices(matrix.shape)
        parts.append(pd.DataFrame({
            "panel": panel, "row": row.ravel(), "column": column.ravel(), "value": matrix.ravel(),
        }))  # fmt: skip
    return pd.concat(parts, ignore_index=True)[COLUMNS]


def matrix_of(data: pd.DataFrame, panel: str) -> np.ndarray:
    """The matrix of one panel of `table`."""
    rows = data[data["panel"] == panel]
    return rows.pivot(index="row", columns="column", values="value").to_numpy()


def draw(
    data: pd.DataFrame,
    panels: Mapping[str, str],
    title: str,
    *,
    lines: Sequence[int] = (),
    of: Collection[int] = (),
    shared: bool = False,
    sentences: Sequence[str] = (),
) -> Figure:
    """Draw the matrices of `table` side by side.

    Args:
        panels: those to draw, with their titles.
        lines: rows and columns before which a block begins.
        of: sizes of the matrices in which the lines are drawn.
        shared: one scale for all panels; else each has its own.
        sentences: the caption.
    """
    from matplotlib.figure import Figure

    most = np.abs(data["value"].to_numpy()).max() if shared else None
    with style.context():
        figure = Figure(figsize=(style.PAGE_WIDTH, 2.5), layout="constrained")
        for axes, (panel, name) in zip(
            figure.subplots(1, len(panels)), panels.items(), strict=True
        ):
            matrix = matrix_of(data, panel)
            show(axes, matrix, most)
            axes.set_title(name)
            if len(matrix) in of:
                separate(axes, lines)
        style.head(figure, title)
        style.footnote(figure, sentences)
    return figure


def show(axes: Axes, matrix: np.ndarray, most: float | None = None) -> None:
    """Show a matrix: blue below 0, red above, white at 0; colours end at `most`, by default the
    largest absolute entry."""
    most = most or max(float(np.abs(matrix).max()), 1e-300)
    # Rasterised: an SVG with an element an entry would be megabytes.
    axes.imshow(matrix, cmap="RdBu_r", vmin=-most, vmax=most, interpolation="nearest",
                rasterized=True)  # fmt: skip
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(True)


def separate(axes: Axes, lines: Sequence[int], **look) -> None:
    """Draw the borders of blocks that begin before these rows and columns."""
    for place in lines:
        for draw_line in (axes.axhline, axes.axvline):
            draw_line(place - 0.5, **{"color": "0.2", "linewidth": 0.6, **look})
