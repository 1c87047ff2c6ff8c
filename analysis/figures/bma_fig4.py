"""Fig. 4 of the AdaGrad-BMA paper: block means of an empirical Fisher matrix [Lu et al. 2018].

Above, the matrix and its approximations for three partitions, as in the paper. Below, what the
paper's three errors depend on, the normalisation that it does not tell, and the errors of other
approximations against the numbers that they store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis import block_means, matrices, style
from analysis.frames import MissingRecordsError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = ()
MEASUREMENTS = ("bma_fisher", "bma_fisher_trained", block_means.MATRIX)
TITLE = "AdaGrad-BMA paper, Fig. 4"
PARTITIONS = {
    "layer": "weights or biases of a layer", "unit": "of a unit", "group": "groups within a unit",
}  # fmt: skip
PUBLISHED = {"layer": 0.1036, "unit": 0.1024, "group": 0.0998}
# The linear scaling that comes closest to the paper's errors.
CHOSEN = "mean of the diagonal 1"
COLORS = {"layer": style.BLUE, "unit": style.GREEN, "group": style.VERMILLION}
KINDS = {
    "block means": (style.BLUE, "o"), "diagonal blocks": (style.GREEN, "s"),
    "diagonal": (style.BLACK, "x"), "rank": (style.VERMILLION, "^"),
    "Kronecker products": (style.PURPLE, "D"),
}  # fmt: skip
COLUMNS = ["state", "case", "normalization", "partition", "method", "storage", "published",
           "num_seeds", "value", "low", "high"]  # fmt: skip


def table(records: Records) -> pd.DataFrame:
    """Return mean squared errors, one row a state of the weights and approximation.

    case: "block_mean" (with `normalization` and `partition`) or "baseline" (with `method` and
    `storage`); value: mean over draws of the initial weights; low, high: least and largest.

    Raises:
        MissingRecordsError: if none of it was measured.
    """
    parts, absent = [], []
    for name in MEASUREMENTS[:2]:
        try:
            parts.append(_errors(records.measurement(name)))
        except MissingRecordsError as error:
            absent.append(str(error))
    if not parts:
        raise MissingRecordsError("; ".join(absent))
    return pd.concat(parts, ignore_index=True)[COLUMNS]


def _errors(rows: pd.DataFrame) -> pd.DataFrame:
    rows = rows[rows["case"].isin(["block_mean", "baseline"])]
    keys = COLUMNS[:7]
    grouped = rows.groupby(keys, sort=False, dropna=False)["value"]
    return grouped.agg(num_seeds="size", value="mean", low="min", high="max").reset_index()


# ---------------------------------------------------------------- the drawing


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure; the matrices come from the records, the errors from `data`."""
    from matplotlib.figure import Figure

    data = table(records) if data is None else data
    said = []
    with style.context():
        figure = Figure(figsize=(style.PAGE_WIDTH, 5.6), layout="constrained")
        top, bottom = figure.subfigures(2, 1, height_ratios=[1, 1.5])
        try:
            _draw_matrices(top, records, data)
        except MissingRecordsError as error:
            said.append(f"The matrix is not drawn: {error}.")
        left, right = bottom.subplots(1, 2, width_ratios=[1.35, 1])
        _draw_normalizations(left, data)
        _draw_storage(right, data)
        style.head(figure, TITLE)
        style.footnote(figure, [*said, *_caption(records, data)])
    return figure


def _draw_matrices(figure, records: Records, data: pd.DataFrame) -> None:
    matrix, tensors = block_means.fisher(records)
    panels = figure.subplots(1, 4)
    _show_root(panels[0], matrix)
    panels[0].set_title(f"(a) {len(matrix)} × {len(matrix)}", fontsize=8)
    for axes, letter, partition in zip(panels[1:], "bcd", PARTITIONS, strict=True):
        sizes = block_means.sizes(tensors, partition)
        diagonal, constants = block_means.approximate(matrix, sizes)
        _show_root(axes, np.add(*block_means.expand(diagonal, constants, sizes)), matrix)
        title = f"({letter}) {PARTITIONS[partition]}: {len(sizes)}"
        ours = _chosen(data, "initial", partition)
        if ours is not None:
            title += f"\nMSE {ours:.3g}, paper {PUBLISHED[partition]:g}"
        axes.set_title(title, fontsize=7)


def _show_root(axes: Axes, matrix: np.ndarray, like: np.ndarray | None = None) -> None:
    """Show the signed square root, in which small entries are seen too; 2 % of them are clipped."""
    most = np.quantile(np.sqrt(np.abs(matrix if like is None else like)), 0.98)
    matrices.show(axes, np.sign(matrix) * np.sqrt(np.abs(matrix)), float(most))


def _chosen(data: pd.DataFrame, state: str, partition: str) -> float | None:
    rows = data[(data["state"] == state) & (data["partition"] == partition)]
    rows = rows[rows["normalization"] == CHOSEN]
    return float(rows["value"].iloc[0]) if len(rows) else None


def _draw_normalizations(axes: Axes, data: pd.DataFrame) -> None:
    rows = data[data["case"] == "block_mean"]
    names = list(rows.groupby("normalization")["value"].median().sort_values().index)
    for partition, color in COLORS.items():
        axes.axvline(PUBLISHED[partition], color=color, linewidth=0.8, linestyle=":")
        for state, offset in (("initial", 0.15), ("trained", -0.15)):
            own = rows[(rows["partition"] == partition) & (rows["state"] == state)]
            places = np.array([names.index(name) for name in own["normalization"]]) + offset
            face = color if state == "initial" else "none"
            axes.plot(own["value"], places, linestyle="none", marker="o", markersize=3.5,
                      color=color, markerfacecolor=face, markeredgewidth=0.8,
                      label=f"{partition}, {state}")  # fmt: skip
            axes.hlines(places, own["low"], own["high"], color=color, linewidth=0.7)
    axes.set(xscale="log", xlabel="mean squared error (dotted: paper)", xlim=(1e-6, None))
    axes.set_yticks(range(len(names)), names, fontsize=6.5)
    axes.set_title("by normalisation", fontsize=8)
    axes.legend(fontsize=6, loc="upper left", handlelength=1)
    axes.grid(True)


def _draw_storage(axes: Axes, data: pd.DataFrame) -> None:
    rows = data[(data["case"] == "baseline") & (data["state"] == data["state"].iloc[0])]
    for kind, (color, marker) in KINDS.items():
        own = rows[[_kind(method) == kind for method in rows["method"]]].sort_values("storage")
        axes.plot(own["storage"], own["value"], color=color, marker=marker, markersize=4,
                  linewidth=0.8, label=kind)  # fmt: skip
        axes.vlines(own["storage"], own["low"], own["high"], color=color, linewidth=0.7)
    axes.set(xscale="log", yscale="log", xlabel="numbers stored", ylabel="mean squared error")
    state = str(data["state"].iloc[0])
    axes.set_title(f"by storage, {state} weights", fontsize=8)
    axes.legend(fontsize=6)
    axes.grid(True)


def _kind(method: str) -> str:
    """The kind of a method's name: the longest that it begins with."""
    return max((kind for kind in KINDS if method.startswith(kind)), key=len)


def _caption(records: Records, data: pd.DataFrame) -> list[str]:
    seeds = "; ".join(
        f"{state} weights: {int(rows['num_seeds'].max())} draws"
        for state, rows in data.groupby("state", sort=False)
    )
    said = [
        "Empirical Fisher matrix of the small model over 2000 training images of MNIST; colours: "
        "signed square root of the entries of one draw, 2 % of them clipped.",
        "The paper says that its values are normalised, not how: the errors above are for "
        f"{CHOSEN}.",
        f"Marks: mean, lines: range ({seeds}; trained: 150 steps of AdaGrad-BMA).",
    ]
    for name in MEASUREMENTS[:2]:
        try:
            records.measured(name)
        except MissingRecordsError as error:
            said.append(f"Not shown: {error}.")
    return said
