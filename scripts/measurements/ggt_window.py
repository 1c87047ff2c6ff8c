"""Windows G of GGT as they are in training, of the character LSTM on the Penn Treebank.

`ggt_fig1`: what GGT's Fig. 1 shows, G, G^T G and the basis U of one window.
`ggt_ridge_trained`: what a ridge of 1e-6 on G^T G does to a step there (section 2.2).
Both train for a moment and read the prepared data.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from optimizers import GGT
from optimizers.ggt import ggt_coefficients
from optimizers.linalg.window import RESOLUTION
from scripts.measurements.kit import relative_error

Rows = list[dict[str, Any]]

TASK = ["task=ptb_lstm", "scale=small", "tracking=none", "task.hidden_size=64"]
NUM_STEPS, WINDOW = 40, 24
NUM_COORDINATES = 48  # of the parameters, evenly spaced: rows of G and of U that are kept
DAMPING = 1e-4
RIDGE, RIDGE_STEPS = 1e-6, (30, 45, 60)


def fig1() -> Rows:
    """G^T G, its eigenvalues, and rows of G and of U = G V S^-1 of a window, oldest column first.

    Columns: case ("gram", "G", "U": entries; "eigenvalue"; "unit": entries of U^T U; "root":
    relative error of the fast form against a dense SVD of G), row, column, value.
    """
    ((_, G),) = trained_windows([NUM_STEPS])
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


def ridge_trained() -> Rows:
    """Relative change of the next step by the ridge, at three times of a short training run.

    Columns: case ("step": the change; "condition": of G^T G; "norm": of the newest column), seed
    (the number of steps made), value.
    """
    rows = []
    for count, G in trained_windows(RIDGE_STEPS):
        plain, ridged = (preconditioned(G, ridge) for ridge in (0.0, RIDGE))
        eigenvalues = torch.linalg.eigvalsh(G.T @ G)
        found = {
            "step": relative_error(ridged, plain),
            "condition": float(eigenvalues[-1] / eigenvalues[0]),
            "norm": float(G[:, -1].norm()),
        }
        rows += [{"case": case, "seed": count, "value": value} for case, value in found.items()]
    return rows


def preconditioned(G: Tensor, ridge: float) -> Tensor:
    """[(G G^T)^{1/2} + eps I]^{-1} v within the span of G, v its newest column, by GGT's kernel."""
    gram = G.T @ G
    c, _, _ = ggt_coefficients(
        gram, gram[:, -1], damping=DAMPING, outside_scale=0.0, sgd_mix=0.0, ridge=ridge,
        resolution=RESOLUTION[torch.float32],
    )  # fmt: skip
    return G @ c


def trained_windows(counts: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
    """Yield (steps made, G) of one training run after so many steps, ascending.

    G: shape (d, WINDOW), float64, oldest column first.
    """
    from hydra.utils import instantiate

    import run

    task = instantiate(run.compose(TASK).task)
    task.setup("cpu", torch.float32)
    model = task.build_model()
    optimizer = GGT(model.parameters(), lr=0.3, window=WINDOW)
    for made, batch in zip(range(1, counts[-1] + 1), task.batches(0), strict=False):
        optimizer.zero_grad()
        task.backward(model, batch)
        optimizer.step()
        if made in counts:
            state = optimizer.state["window"]
            newest = (state["count"] - 1) % WINDOW
            order = (newest + 1 + torch.arange(WINDOW)) % WINDOW
            yield made, state["rows"][order].T.double()


def root_error(G: Tensor, U: Tensor, s: Tensor) -> float:
    """Relative error of U (S + eps)^{-1} U^T v against G's own SVD, v the newest column."""
    v = G[:, -1]
    left, exact, _ = torch.linalg.svd(G, full_matrices=False)
    dense = left @ ((left.T @ v) / (exact + DAMPING))
    fast = U @ ((U.T @ v) / (s + DAMPING))
    return float((fast - dense).norm() / dense.norm())


EXACT = {"ggt_fig1": fig1, "ggt_ridge_trained": ridge_trained}
