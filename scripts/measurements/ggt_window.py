"""The matrices of GGT's Fig. 1 as they are in training: a window G, G^T G and the basis U.

`ggt_fig1` trains the character LSTM on the Penn Treebank for a moment (it reads the prepared data)
and keeps what its figure draws.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from optimizers import GGT

Rows = list[dict[str, Any]]

TASK = ["task=ptb_lstm", "scale=small", "tracking=none", "task.hidden_size=64"]
NUM_STEPS, WINDOW = 40, 24
NUM_COORDINATES = 48  # of the parameters, evenly spaced: rows of G and of U that are kept
DAMPING = 1e-4


def fig1() -> Rows:
    """G^T G, its eigenvalues, and rows of G and of U = G V S^-1 of a window, oldest column first.

    Columns: case ("gram", "G", "U": entries; "eigenvalue"; "unit": entries of U^T U; "root":
    relative error of the fast form against a dense SVD of G), row, column, value.
    """
    G = trained_window().double()
    gram = G.T @ G
    squared, V = torch.linalg.eigh(gram)
    squared, V = squared.flip(0), V.flip(1)
    U = G @ V / squared.sqrt()
    chosen = torch.linspace(0, len(G) - 1, NUM_COORDINATES).round().long()
    matrices = {"gram": gram, "G": G[chosen], "U": U[chosen], "unit": U.T @ U}
    rows = [
        {"case": case, "row": i, "column": j, "value": round_off(value)}
        for case, matrix in matrices.items()
        for i, line in enumerate(matrix.tolist())
        for j, value in enumerate(line)
    ]
    rows += [
        {"case": "eigenvalue", "row": i, "column": 0, "value": value}
        for i, value in enumerate(squared.tolist())
    ]
    error = root_error(G, U, squared.sqrt())
    return [*rows, {"case": "root", "row": 0, "column": 0, "value": error}]


def round_off(value: float) -> float:
    """Five digits: what a picture shows."""
    return float(f"{value:.4e}")


def trained_window() -> Tensor:
    """G, shape (d, WINDOW), oldest column first, after a short training run."""
    from hydra.utils import instantiate

    import run

    task = instantiate(run.compose(TASK).task)
    task.setup("cpu", torch.float32)
    model = task.build_model()
    optimizer = GGT(model.parameters(), lr=0.3, window=WINDOW)
    for _, batch in zip(range(NUM_STEPS), task.batches(0), strict=False):
        optimizer.zero_grad()
        task.backward(model, batch)
        optimizer.step()
    state = optimizer.state["window"]
    newest = (state["count"] - 1) % WINDOW
    order = (newest + 1 + torch.arange(WINDOW)) % WINDOW
    return state["rows"][order].T.clone()


def root_error(G: Tensor, U: Tensor, s: Tensor) -> float:
    """Relative error of U (S + eps)^{-1} U^T v against G's own SVD, v the newest column."""
    v = G[:, -1]
    left, exact, _ = torch.linalg.svd(G, full_matrices=False)
    dense = left @ ((left.T @ v) / (exact + DAMPING))
    fast = U @ ((U.T @ v) / (s + DAMPING))
    return float((fast - dense).norm() / dense.norm())


EXACT = {"ggt_fig1": fig1}
