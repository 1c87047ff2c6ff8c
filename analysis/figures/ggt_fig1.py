"""GGT Fig. 1: the small and the tall matrices of the low-rank root [Agarwal et al. 2019].

The paper sketches G^T G = V S^2 V^T and U = G V S^-1; here they are those of a window in training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = ()
MEASUREMENTS = ("ggt_fig1",)
TITLE = "GGT paper, Fig. 1: the matrices of a real window"
PANELS = {"G": "G (d × r)", "gram": "GᵀG (r × r)", "U": "U = G V Σ⁻¹", "unit": "UᵀU"}


def table(records: Records) -> pd.DataFrame:
    """Return the entries that are drawn: case, row, column, value.

    Raises:
        MissingRecordsError: if the measurement was not made.
    """
    frame = records.measurement(*MEASUREMENTS)
    return frame[["case", "row", "column", "value"]]


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    from matplotlib.figure import Figure

    data = table(records) if data is None else data
    with style.context():
        figure = Figure(figsize=(style.PAGE_WIDTH, 2.9), layout="constrained")
        grid = figure.subplots(1, len(PANELS) + 1, width_ratios=[0.8, 1, 0.8, 1, 1.3])
        for axes, (case, title) in zip(grid, PANELS.items(), strict=False):
            _draw_matrix(axes, data[data["case"] == case], title)
        _draw_eigenvalues(grid[-1], data[data["case"] == "eigenvalue"])
        figure.suptitle(TITLE, fontsize=9)
        style.footnote(figure, _caption(records, data))
    return figure


def _draw_matrix(axes: Axes, rows: pd.DataFrame, title: str) -> None:
    matrix = rows.pivot(index="row", columns="column", values="value").to_numpy()
    # A few large entries would pale all others.
    most = np.quantile(np.abs(matrix), 0.98) or 1.0
    axes.imshow(
        matrix, cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto", interpolation="nearest"
    )
    if matrix.shape[0] == matrix.shape[1]:
        axes.set_aspect("equal")
    axes.set_title(title, fontsize=8)
    axes.set(xticks=[], yticks=[], xlabel=f"r = {matrix.shape[1]} columns")
    for spine in axes.spines.values():
        spine.set_visible(True)


def _draw_eigenvalues(axes: Axes, rows: pd.DataFrame) -> None:
    ordered = rows.sort_values("row")
    axes.semilogy(1 + ordered["row"], ordered["value"], "o-", color="0.2", markersize=2.5)
    axes.set(xlabel="index", title="eigenvalues Σ²")
    axes.title.set_fontsize(8)
    axes.grid(True)


def _caption(records: Records, data: pd.DataFrame) -> list[str]:
    facts = records.measurement(*MEASUREMENTS).attrs
    values = data.loc[data["case"] == "eigenvalue", "value"]
    error = data.loc[data["case"] == "root", "value"].iloc[0]
    unit = data[data["case"] == "unit"]
    off = (unit["value"] - (unit["row"] == unit["column"])).abs().max()
    rows = data.loc[data["case"] == "G", "row"].nunique()
    return [
        "Three-layer LSTM on the characters of PTB after 40 steps of GGT, momentum in a window of "
        f"{len(values)} columns, oldest left; G and U by {rows} evenly spaced rows.",
        "Blue is negative, red positive; each panel has its own scale.",
        f"Condition number of GᵀG: {values.max() / values.min():.3g}. Largest entry of UᵀU − I: "
        f"{off:.1e}; relative error of the root against an SVD of G: {error:.1e}.",
        f"Commit {str(facts.get('commit'))[:10]}.",
    ]
