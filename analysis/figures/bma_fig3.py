"""Fig. 3 of the AdaGrad-BMA paper: a matrix as a diagonal and a full expansion [Lu et al. 2018]."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis import block_means, matrices
from analysis.figures.bma_fig2 import OF, SIZES, corner

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = ()
MEASUREMENTS = (block_means.MATRIX,)
TITLE = "AdaGrad-BMA paper, Fig. 3"
PANELS = {
    "m": "M", "approximation": "≈ Λ + B, expanded", "lambda_bar": "Λ, expanded",
    "b_bar": "B, expanded",
}  # fmt: skip


def table(records: Records) -> pd.DataFrame:
    """Return the entries of M, its approximation and the two parts: panel, row, column, value.

    Raises:
        MissingRecordsError: if the matrix was not measured.
    """
    matrix = corner(records)
    first, second = block_means.expand(*block_means.approximate(matrix, SIZES), SIZES)
    shown = (matrix, first + second, first, second)
    return matrices.table(dict(zip(PANELS, shown, strict=True)))


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    data = table(records) if data is None else data
    whole = data[data["panel"] == "m"]["value"].to_numpy()
    left = whole - data[data["panel"] == "approximation"]["value"].to_numpy()
    share = np.linalg.norm(left) / max(np.linalg.norm(whole), 1e-300)
    return matrices.draw(
        data, PANELS, TITLE, lines=np.cumsum(SIZES)[:-1], of=(10,), shared=True,
        sentences=[
            f"M: {OF}, partition (2, 5, 3). One scale for all panels: blue below 0, red above. "
            f"Relative error of the approximation: {share:.2g} in the Frobenius norm."
        ],
    )  # fmt: skip
