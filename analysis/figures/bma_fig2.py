"""Fig. 2 of the AdaGrad-BMA paper: expansion matrices, of a matrix from training [Lu et al. 2018].

Lambda and B are those of the block-mean approximation of a corner of the small MNIST model's Fisher
matrix, ten weights of the first convolution, with the paper's partition (2, 5, 3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis import block_means, matrices

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = ()
MEASUREMENTS = (block_means.MATRIX,)
TITLE = "AdaGrad-BMA paper, Fig. 2"
SIZES = np.array([2, 5, 3])
OF = "Fisher matrix of ten weights of the first convolution (small model, MNIST, initial weights)"
PANELS = {
    "lambda": "(a) Λ", "lambda_bar": "(b) Λ, expanded", "b": "(c) B", "b_bar": "(d) B, expanded",
}  # fmt: skip


def table(records: Records) -> pd.DataFrame:
    """Return the entries of the four matrices: panel, row, column, value.

    Raises:
        MissingRecordsError: if the matrix was not measured.
    """
    matrix = corner(records)
    diagonal, constants = block_means.approximate(matrix, SIZES)
    expanded = block_means.expand(diagonal, constants, SIZES)
    shown = dict(zip(PANELS, (np.diag(diagonal), expanded[0], constants, expanded[1]), strict=True))
    return matrices.table(shown)


def corner(records: Records) -> np.ndarray:
    """The rows and columns of the Fisher matrix's first ten parameters."""
    matrix, _ = block_means.fisher(records)
    return matrix[: SIZES.sum(), : SIZES.sum()]


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    data = table(records) if data is None else data
    return matrices.draw(
        data, PANELS, TITLE, lines=np.cumsum(SIZES)[:-1], of=(10,), shared=True,
        sentences=[
            f"Λ and B: best block means of the {OF}, partition (2, 5, 3). One scale for all: blue "
            "below 0, red above."
        ],
    )  # fmt: skip
