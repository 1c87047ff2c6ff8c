"""The table through which every optimizer in conf/optimizer goes, found by its file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

FOLDER = Path(__file__).parents[2] / "conf" / "optimizer"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))

# The `printed` readings are not stable in float32; their own state must then be float64 too.
FLOAT64_ONLY: dict[str, dict[str, Any]] = {"ggt_printed": {"window_dtype": "float64"}}

# Small enough for the steepest curvature here, 1400, of Rosenbrock's function at its start.
LR = 1e-3


def make(name: str, model: nn.Module, dtype: torch.dtype, **overrides: Any):
    """Instantiate conf/optimizer/<name>.yaml for `model`, as run.py does."""
    config = OmegaConf.load(FOLDER / f"{name}.yaml")
    extra = FLOAT64_ONLY.get(name, {}) if dtype == torch.float64 else {}
    for key, value in {**extra, **overrides}.items():
        config[key] = value
    return instantiate(config)(model)


class Flat(nn.Module):
    """A loss of one vector, kept as two parameters of different shape."""

    def __init__(self, start: list[float], loss: Callable[[Tensor], Tensor], dtype: torch.dtype):
        super().__init__()
        values = torch.tensor(start, dtype=dtype)
        self.first = nn.Parameter(values[:1].clone())
        self.rest = nn.Parameter(values[1:].clone().view(-1, 1))
        self.loss = loss

    def forward(self) -> Tensor:
        return self.loss(torch.cat([self.first, self.rest.view(-1)]))


def quadratic(dtype: torch.dtype) -> Flat:
    scales = torch.tensor([1.0, 3.0, 10.0, 100.0], dtype=dtype)
    return Flat([1.0, -2.0, 0.5, 1.0], lambda x: 0.5 * (scales * x**2).sum(), dtype)


def rosenbrock(dtype: torch.dtype) -> Flat:
    def loss(x: Tensor) -> Tensor:
        return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2

    return Flat([-1.2, 1.0], loss, dtype)


def logistic(dtype: torch.dtype) -> Flat:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(50, 6, generator=generator, dtype=torch.float64).to(dtype)
    labels = (inputs[:, 0] + 0.5 * torch.randn(50, generator=generator)).sign().to(dtype)
    return Flat([0.0] * 6, lambda w: nn.functional.softplus(-labels * (inputs @ w)).mean(), dtype)


PROBLEMS = {"quadratic": quadratic, "rosenbrock": rosenbrock, "logistic": logistic}


def descend(model: Flat, optimizer: torch.optim.Optimizer, num_steps: int) -> float:
    """Take steps and return the loss after them."""
    for _ in range(num_steps):
        optimizer.zero_grad()
        model().backward()
        optimizer.step()
    return float(model().detach())
