"""NG+ Fig. 1: GFIM, a diagonal block of EFIM, and their difference [Yang et al. 2021].

For 2000 Gaussian matrices of 200 x 200. Above as the text defines them, below with GFIM / 200; the
paper's picture can only be of the second, as the diagonals differ by that factor.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis import matrices, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = ()
MEASUREMENTS = ("ngplus_gaussian",)
TITLE = "NG+ paper, Fig. 1"
SIZE = 200
SCALES = {"printed": 1, "normalised": SIZE}
PANELS = {"GFIM": "GFIM", "EFIM block": "1st block of EFIM", "difference": "difference"}


def table(records: Records) -> pd.DataFrame:
    """Return the first 60 x 60 entries of all panels: scale, panel, row, column, value.

    Raises:
        MissingRecordsError: if the measurement was not made.
    """
    rows = records.measurement("ngplus_gaussian")
    pictures = {
        row["matrix"]: _decoded(row) for row in _of_case(rows, "picture").to_dict("records")
    }
    parts = []
    for scale, divisor in SCALES.items():
        gfim, block = pictures["GFIM"] / divisor, pictures["EFIM block"]
        shown = {"GFIM": gfim, "EFIM block": block, "difference": gfim - block}
        parts.append(matrices.table(shown).assign(scale=scale))
    return pd.concat(parts, ignore_index=True)


def _of_case(rows: pd.DataFrame, case: str) -> pd.DataFrame:
    return rows[rows["case"] == case]


def _decoded(row: dict) -> np.ndarray:
    size = int(row["size"])
    return np.frombuffer(base64.b64decode(row["text"]), "<f4").reshape(size, size).astype(float)


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    from matplotlib.figure import Figure

    data = table(records) if data is None else data
    with style.context():
        figure = Figure(figsize=(style.PAGE_WIDTH, 4.9), layout="constrained")
        grid = figure.subplots(len(SCALES), len(PANELS))
        for scale, line in zip(SCALES, grid, strict=True):
            rows = data[data["scale"] == scale]
            for axes, (panel, name) in zip(line, PANELS.items(), strict=True):
                matrices.show(axes, matrices.matrix_of(rows, panel))
                image = axes.images[0]
                divisor = " / 200" if panel == "GFIM" and scale == "normalised" else ""
                axes.set_title(f"{name}{divisor}")
                figure.colorbar(image, ax=axes, shrink=0.8)
            line[0].set_ylabel({"printed": "as printed", "normalised": "normalised"}[scale])
        style.head(figure, TITLE)
        style.footnote(figure, _caption(records))
    return figure


def _caption(records: Records) -> list[str]:
    rows = records.measurement("ngplus_gaussian")
    values = rows[rows["case"].isin(["mean", "sd"])].set_index(["scale", "matrix", "case"])["value"]
    said = [
        "2000 matrices of 200 × 200 independent Gaussian numbers; the first 60 rows and columns."
    ]
    for scale in SCALES:
        numbers = "; ".join(
            f"{matrix} {values[scale, matrix, 'mean']:.4g} on the diagonal, standard deviation "
            f"{values[scale, matrix, 'sd']:.2g} off it"
            for matrix in ("GFIM", "EFIM block")
        )
        said.append(f"{scale.capitalize()}: {numbers}.")
    return said
