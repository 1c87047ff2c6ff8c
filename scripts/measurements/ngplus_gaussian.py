"""EFIM and GFIM of Gaussian matrices [Yang et al. 2021, section 2.2 and Fig. 1]."""

from __future__ import annotations

import base64

import torch
from torch import Tensor

NUM_MATRICES, SIZE, CHUNK = 2000, 200, 100
SHOWN = 60  # rows and columns that the picture keeps


def gaussian() -> list[dict[str, object]]:
    """Compare GFIM, mean of G G^T, with the first diagonal block of EFIM, mean of g g^T.

    2000 matrices G of 200 x 200 independent standard normal numbers, g their first column. Rows of
    statistics, with the scale "printed" and "normalised", GFIM / 200:

    case "diagonal": |mean(GFIM) / mean(EFIM) - 1| over the diagonal; "off-diagonal": |mean of the
    difference| in standard errors of that mean; "within three": share of the off-diagonal entries
    that differ by at most three standard errors; "mean", "sd" and "largest", with `matrix`: of the
    diagonal, of the entries off it, and the largest difference.

    Rows of case "picture": the first 60 x 60 entries in base64, little-endian float32, row by row.
    """
    gfim, block = sums()
    rows: list[dict[str, object]] = []
    for scale, divisor in (("printed", 1), ("normalised", SIZE)):
        rows += [{"scale": scale, **row} for row in statistics(gfim / divisor, block)]
    for name, matrix in (("GFIM", gfim), ("EFIM block", block)):
        values = matrix[:SHOWN, :SHOWN].contiguous().float().numpy().astype("<f4").tobytes()
        text = base64.b64encode(values).decode()
        rows.append({"case": "picture", "matrix": name, "size": SHOWN, "text": text})
    return [{**row, "seed": 0} for row in rows]


def sums() -> tuple[Tensor, Tensor]:
    """GFIM and the first diagonal block of EFIM, each (200, 200), float64."""
    generator = torch.Generator().manual_seed(0)
    gfim = torch.zeros(SIZE, SIZE, dtype=torch.float64)
    block = torch.zeros(SIZE, SIZE, dtype=torch.float64)
    for _ in range(NUM_MATRICES // CHUNK):
        G = torch.randn(CHUNK, SIZE, SIZE, generator=generator)
        # All columns of a chunk side by side: one product, whose sums of float32 are short.
        wide = G.transpose(0, 1).reshape(SIZE, -1)
        gfim += (wide @ wide.T).double()
        first = G[:, :, 0].double()
        block += first.T @ first
    return gfim / NUM_MATRICES, block / NUM_MATRICES


def statistics(gfim: Tensor, block: Tensor) -> list[dict[str, object]]:
    """Rows of `gaussian` for one scale."""
    off = ~torch.eye(SIZE, dtype=torch.bool)
    # An entry off the diagonal is the mean of 2000 products of variance 1; that of GFIM, of 200
    # times as many when it is normalised, so its own error is left out.
    error = NUM_MATRICES**-0.5
    upper = torch.triu(off)
    difference = (gfim - block)[upper]
    ratio = float(gfim.diagonal().mean() / block.diagonal().mean())
    mean_error = error / upper.sum() ** 0.5
    rows: list[dict[str, object]] = [
        {"case": "diagonal", "value": abs(ratio - 1)},
        {"case": "off-diagonal", "value": float(difference.mean().abs() / mean_error)},
        {
            "case": "within three",
            "value": float((difference.abs() <= 3 * error).double().mean()),
        },
        {"case": "largest", "matrix": "difference", "value": float((gfim - block).abs().max())},
    ]
    for name, matrix in (("GFIM", gfim), ("EFIM block", block)):
        diagonal = float(matrix.diagonal().mean())
        rows.append({"case": "mean", "matrix": name, "value": diagonal})
        rows.append({"case": "sd", "matrix": name, "value": float(matrix[off].std())})
    return rows


EXACT = {"ngplus_gaussian": gaussian}
