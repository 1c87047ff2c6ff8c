"""Sizes: parameters of the models of GGT's paper, and what its optimizers keep.

`ggt_models`: exact numbers of parameters at scale=paper (sections 3.2 and 3.3).
`ggt_memory`: bytes of state against dimension and window (section 2.1; section 1.1 for the dense
matrix).
"""

from __future__ import annotations

from typing import Any

import torch

from optimizers import GGT, FullMatrixAdagrad, state_bytes
from scripts.measurements.kit import log_slope

Rows = list[dict[str, Any]]

MODELS = {"shake_shake": "cifar10_shakeshake", "char_lstm": "ptb_lstm"}
DENSE_DIM = 10_000


def models() -> Rows:
    """Numbers of parameters; columns: case, value."""
    from hydra.utils import instantiate

    import run

    rows = []
    for case, task in MODELS.items():
        cfg = run.compose([f"task={task}", "scale=paper", "tracking=none"])
        with torch.device("meta"):
            model = instantiate(cfg.task).make_model()
        rows.append({"case": case, "value": sum(p.numel() for p in model.parameters())})
    return rows


def memory() -> Rows:
    """Bytes of state and their exponents.

    Columns: case ("ggt": bytes; "slope in d", "slope in r": of log bytes; "dense": bytes of full
    AdaGrad, at d = 10,000 by the polynomial of the others), d, r, value.
    """
    rows, bytes_of = [], {}
    for d in (10_000, 30_000, 100_000, 300_000):
        bytes_of[d] = kept(d, 50)
        rows.append({"case": "ggt", "d": d, "r": 50, "value": bytes_of[d]})
    by_window = {r: kept(100_000, r) for r in (100, 200, 400)}
    rows += [{"case": "ggt", "d": 100_000, "r": r, "value": v} for r, v in by_window.items()]
    rows.append({"case": "slope in d", "d": 0, "r": 50, "value": log_slope(*columns(bytes_of))})
    slope = log_slope(*columns(by_window))
    rows.append({"case": "slope in r", "d": 100_000, "r": 0, "value": slope})
    dense = {d: state_bytes(stepped(FullMatrixAdagrad, d)) for d in (250, 500, 1000)}
    # Matrices of d^2 numbers, vectors of d and scalars: a + b d + c d^2 bytes exactly.
    powers = torch.tensor([[1, d, d * d] for d in dense], dtype=torch.float64)
    fit = torch.linalg.solve(powers, torch.tensor(list(dense.values()), dtype=torch.float64))
    dense[DENSE_DIM] = float(fit @ torch.tensor([1, DENSE_DIM, DENSE_DIM**2], dtype=fit.dtype))
    return rows + [{"case": "dense", "d": d, "r": 0, "value": v} for d, v in dense.items()]


def columns(table: dict[int, int]) -> tuple[list[int], list[int]]:
    return list(table), list(table.values())


def kept(d: int, r: int) -> int:
    """Bytes that GGT keeps between steps."""
    return state_bytes(stepped(GGT, d, window=r))


def stepped(cls: type[torch.optim.Optimizer], d: int, **options: Any) -> torch.optim.Optimizer:
    """An optimizer of one parameter of d values after its first step."""
    x = torch.nn.Parameter(torch.zeros(d))
    x.grad = torch.ones(d)
    optimizer = cls([x], **options)
    optimizer.step()
    return optimizer


EXACT = {"ggt_models": models, "ggt_memory": memory}
