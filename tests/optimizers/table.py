"""The table through which every optimizer in conf/optimizer goes, found by its file.

What others' classes, or the method itself, do not promise is in `EXEMPT`, with the reason; a
reading that is unstable as printed is exempt from float32.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

from optimizers.base import PreconditionedOptimizer
from optimizers.capture.record import RecordsSamples

FOLDER = Path(__file__).parents[2] / "conf" / "optimizer"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))

# The `printed` readings are not stable in float32; their own state must then be float64 too.
FLOAT64_ONLY: dict[str, dict[str, Any]] = {"ggt_printed": {"window_dtype": "float64"}}

# Test -> optimizer -> why it does not hold there.
EXEMPT: dict[str, dict[str, str]] = {
    "state_dict": {
        "scalable_shampoo": "keeps objects in its state, which a checkpoint refuses",
        "psgd_kron": "float32 factors of a float64 model are restored in float64",
    },
    "first_step": {"soap": "its first step begins the factors and moves nothing"},
    "half": {
        "adadelta": "its first steps are smaller than bfloat16 resolves",
        **dict.fromkeys(("adam", "adamw", "rmsprop", "soap"), "eps=1e-8 is 0 in float16"),
        "lars": "its steps, 1e-4 of a weight's norm, are smaller than bfloat16 resolves",
    },
    "huge": {"lars": "cuts the gradient's entries after it has divided by their norm"},
}

# Small enough for the steepest curvature here, 1400, of Rosenbrock's function at its start.
LR = 1e-3

# Roots and blocks small enough to be renewed, and to divide unevenly, within a few steps.
SMALL = {"update_freq": 2, "block_size": 3}


def config_of(name: str) -> Any:
    return OmegaConf.load(FOLDER / f"{name}.yaml")


def package_of(name: str) -> str:
    """The package that the optimizer's class comes from."""
    return config_of(name).cls.path.split(".")[0]


def is_ours(name: str) -> bool:
    """Whether the class is held to our own rules for hard input; torch's and peers' are not."""
    ours = package_of(name) == "optimizers"
    return ours and issubclass(get_class(config_of(name).cls.path), PreconditionedOptimizer)


OURS = [name for name in NAMES if is_ours(name)]


def names(found: list[str], exempt: str = "") -> list[Any]:
    """Optimizers as test parameters, without those exempt, skipped where a package is missing."""
    parameters = []
    for name in found:
        package = package_of(name)
        missing = importlib.util.find_spec(package) is None
        reason = f"{package} is not there; pip install -e '.[peers]'"
        marks = [pytest.mark.skipif(missing, reason=reason)]
        if name not in EXEMPT.get(exempt, {}):
            parameters.append(pytest.param(name, marks=marks, id=name))
    return parameters


def cases(found: list[str], exempt: str = "") -> list[Any]:
    """(name, dtype) as test parameters."""
    return [
        pytest.param(*parameter.values, dtype, marks=parameter.marks, id=f"{parameter.id}-{dtype}")
        for parameter in names(found, exempt)
        for dtype in (torch.float32, torch.float64)
        if dtype == torch.float64 or parameter.id not in FLOAT64_ONLY
    ]


def make(name: str, model: nn.Module, dtype: torch.dtype, **overrides: Any):
    """Instantiate conf/optimizer/<name>.yaml for `model`, as run.py does."""
    config = config_of(name)
    extra = FLOAT64_ONLY.get(name, {}) if dtype == torch.float64 else {}
    for key, value in {**extra, **overrides}.items():
        config[key] = value
    return instantiate(config)(model)


def make_small(name: str, model: nn.Module, dtype: torch.dtype, **overrides: Any):
    """The same with those of `SMALL` that it has."""
    own = config_of(name)
    return make(name, model, dtype, **{k: v for k, v in SMALL.items() if k in own}, **overrides)


# ---------------------------------------------------------------- steps, as the runner makes them


def recording(optimizer: torch.optim.Optimizer, num_samples: int):
    """The context of a pass of which the optimizer may want the samples."""
    if isinstance(optimizer, RecordsSamples) and optimizer.wants_samples():
        device = optimizer.param_groups[0]["params"][0].device
        weights = torch.full((num_samples,), 1 / num_samples, device=device)
        return optimizer.record(num_samples=num_samples, batch_dim=0, weights=weights)
    return contextlib.nullcontext()


def closure_of(
    optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor], num_samples: int
) -> Callable[..., Tensor]:
    """The closure `closure(backward=True)` that a search is given."""

    def closure(backward: bool = True) -> Tensor:
        if not backward:
            return loss()
        optimizer.zero_grad()
        with recording(optimizer, num_samples):
            value = loss()
            if value.requires_grad:
                value.backward()
        return value.detach()

    return closure


def take_step(
    optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor], num_samples: int = 1
) -> None:
    """One step on a loss, with samples recorded or a closure given where it is asked for."""
    closure = closure_of(optimizer, loss, num_samples)
    if getattr(optimizer, "needs_closure", False):
        optimizer.step(closure)
    else:
        closure()
        optimizer.step()


def descend(model: nn.Module, optimizer: torch.optim.Optimizer, num_steps: int) -> float:
    """Take steps and return the loss after them; what is drawn is drawn alike each time."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  what some peers draw from
    for _ in range(num_steps):
        take_step(optimizer, model, model.num_samples)
    with torch.no_grad():
        return float(model())


@contextlib.contextmanager
def unmoved(model: nn.Module) -> Iterator[None]:
    """Require that every parameter is, bit for bit, what it was."""
    before = [parameter.detach().clone() for parameter in model.parameters()]
    yield
    for parameter, value in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter, value)


# ---------------------------------------------------------------- problems


class Flat(nn.Module):
    """A loss of one vector, kept as two parameters of different shape."""

    num_samples = 1

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


class Shapes(nn.Module):
    """A separable quadratic of parameters of every number of modes."""

    num_samples = 1
    SHAPES = ((), (1,), (5,), (4, 3), (3, 2, 4), (2, 3, 2, 2))

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)

        def draw(shape: tuple[int, ...]) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

        self.tensors = nn.ParameterList([nn.Parameter(draw(shape)) for shape in self.SHAPES])
        self.scales = [draw(shape).exp() for shape in self.SHAPES]

    def forward(self) -> Tensor:
        pairs = zip(self.tensors, self.scales, strict=True)
        return sum(0.5 * (scale * x**2).sum() for x, scale in pairs)


class Network(nn.Module):
    """Regression by a convolution, a norm and a linear layer; its samples can be recorded."""

    num_samples = 6

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(2)
            self.conv = nn.Conv2d(1, 2, 3, dtype=dtype)
            self.norm = nn.LayerNorm(8, dtype=dtype)
            self.linear = nn.Linear(8, 3, dtype=dtype)
            self.inputs = torch.randn(self.num_samples, 1, 4, 4).to(dtype)
            self.targets = torch.randn(self.num_samples, 3).to(dtype)

    def forward(self) -> Tensor:
        hidden = self.norm(self.conv(self.inputs).tanh().flatten(1))
        return nn.functional.mse_loss(self.linear(hidden), self.targets)


PROBLEMS = {
    "quadratic": quadratic,
    "rosenbrock": rosenbrock,
    "logistic": logistic,
    "shapes": Shapes,
    "network": Network,
}
