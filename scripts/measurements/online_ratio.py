"""The adaptive ratio mu of AdaGrad on convex sums with minibatch noise.

[Agarwal et al. 2019, section 4.1 and slides "Theory"]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from optimizers import FullMatrixAdagrad
from scripts.measurements.kit import log_slope
from scripts.measurements.online_kit import Played, play, tuned
from tasks.streams import STREAMS, Drawn, Shape, horizons
from tasks.synthetic import anisotropic_covariance, gaussian_samples

# Sums of this many losses; a batch is one of them, drawn with replacement.
NUM_LOSSES = 2000
# What a sum is made of, and the radius of its ball, which never binds for the second.
RADII = {"box": 1.0, "logistic": 1e3, "least_squares": 4.0}
CONDITION, NOISE, DIM = 100.0, 0.5, 10
RATES = tuple(10.0 ** (k / 2) for k in range(-4, 4))
TUNING_SEEDS, TUNING_STEPS = (100, 101), 500
SEEDS = (0, 1, 2, 3, 4)
FIRST = 100


class Apart(torch.optim.Optimizer):
    """One optimizer a parameter: for those that take all their parameters for one vector."""

    def __init__(self, params: Sequence[nn.Parameter], cls: Callable, lr: float) -> None:
        super().__init__(params, {"lr": lr})
        self.parts = [cls([parameter], lr=lr) for parameter in self.param_groups[0]["params"]]

    def step(self, closure=None) -> None:
        """Step each; rates are not driven."""
        for part in self.parts:
            part.step()


METHODS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adagrad": torch.optim.Adagrad,
    "full_adagrad": partial(Apart, cls=FullMatrixAdagrad),
}


def drawn(name: str, dim: int, generator: torch.Generator) -> Drawn:
    """The losses of one sum; for "logistic" those of GGT's Fig. 2, which are not normalised."""
    if name != "logistic":
        shape = Shape(NUM_LOSSES, dim, 1, CONDITION, RADII[name], NOISE)
        return STREAMS[name].draw(shape, generator)
    covariance = anisotropic_covariance(dim, CONDITION**2, generator)
    inputs = gaussian_samples(NUM_LOSSES, covariance, generator)
    hidden = torch.randn(dim, dtype=torch.float64, generator=generator)
    hidden = hidden / (hidden @ covariance @ hidden).sqrt()
    uniform = torch.rand(NUM_LOSSES, dtype=torch.float64, generator=generator)
    labels = torch.where(uniform < torch.sigmoid(inputs @ hidden), 1.0, -1.0).double()
    return Drawn(inputs[..., None], labels, hidden[:, None])


class Sum:
    """Convex sums of one kind, one a seed: what is drawn, its minimisers and the minibatches."""

    def __init__(self, name: str, dim: int, seeds: Sequence[int], steps: int) -> None:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        parts = [drawn(name, dim, generator) for generator in generators]
        self.loss = STREAMS[name].loss
        self.best = torch.stack([STREAMS[name].best(part, RADII[name]) for part in parts])
        self.parts: list[Drawn] = parts
        self.chosen = torch.stack(
            [torch.randint(NUM_LOSSES, (steps,), generator=generator) for generator in generators]
        )
        self.inputs = torch.stack([part.inputs for part in parts])
        self.targets = torch.stack([part.targets for part in parts])
        self._rows = torch.arange(len(parts))

    def oracle(self, t: int, points: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and gradient of one of the losses of each sum."""
        chosen = self.chosen[:, t]
        return self.loss(points, self.inputs[self._rows, chosen], self.targets[self._rows, chosen])

    def paid_by_best(self, steps: int) -> Tensor:
        """Running sums of what the minimiser pays on the same batches, shape (steps, sums)."""
        paid = [
            self.loss(best, part.inputs[chosen], part.targets[chosen])[0]
            for best, part, chosen in zip(
                self.best, self.parts, self.chosen[:, :steps], strict=True
            )
        ]
        return torch.stack(paid, dim=1).cumsum(0)

    def gap(self, index: int, point: Tensor) -> float:
        """f(point) - f* of a sum."""
        part = self.parts[index]
        values = [
            self.loss(at, part.inputs, part.targets)[0].mean() for at in (point, self.best[index])
        ]
        return (values[0] - values[1]).item()


def ratios(
    names: Sequence[str],
    steps: int,
    *,
    dim: int = DIM,
    seeds: Sequence[int] = SEEDS,
    tuning_steps: int = TUNING_STEPS,
) -> list[dict[str, Any]]:
    """Both forms of mu, for each sum, method, horizon and seed, from x_1 = 0.

    Quantities: `gap_ratio`, (f(x_A) - f*) / (|x_1 - x*| sigma / sqrt(T)) with x_A the average of
    the points and sigma^2 the mean squared norm of the gradients; `regret_ratio`, regret /
    (|x_1 - x*| sqrt(sum |g|^2)); `slope` of log gap_ratio on log T from 100 on. The rate `lr` is
    chosen by the mean regret on other seeds.
    """
    rows = []
    for name in names:
        problem = Sum(name, dim, seeds, steps)
        for method, cls in METHODS.items():
            lr = tuned_rate(name, dim, cls, tuning_steps)
            start = torch.zeros_like(problem.best)
            played = play(problem.oracle, partial(cls, lr=lr), start, steps, keep_points=True)
            regrets = played.losses.cumsum(0) - problem.paid_by_best(steps)
            for index, seed in enumerate(seeds):
                labels = {"problem": name, "method": method, "dim": dim, "seed": seed, "lr": lr}
                found = of_sum(problem, played, regrets, index, horizons(steps, FIRST))
                rows += [{**labels, **row} for row in found]
    return rows


def of_sum(
    problem: Sum, played: Played, regrets: Tensor, index: int, marks: Sequence[int]
) -> list[dict[str, Any]]:
    """Rows of one of the sums that were played."""
    rows, found = [], []
    distance = problem.best[index].norm().item()
    for k in marks:
        length = distance * math.sqrt(played.squares[k - 1, index].item())
        average = played.points[:k, index].double().mean(0)
        # sigma / sqrt(T) = sqrt(sum |g|^2) / T
        found.append((k, problem.gap(index, average) * k / length))
        regret = regrets[k - 1, index].item() / length
        rows.append({"horizon": k, "quantity": "gap_ratio", "value": found[-1][1]})
        rows.append({"horizon": k, "quantity": "regret_ratio", "value": regret})
    slope = log_slope(*zip(*found, strict=True)) if len(found) > 1 else math.nan
    return [*rows, {"horizon": marks[-1], "quantity": "slope", "value": slope}]


def tuned_rate(name: str, dim: int, cls: Callable[..., torch.optim.Optimizer], steps: int) -> float:
    """The rate of least mean regret on the tuning seeds."""
    problem = Sum(name, dim, TUNING_SEEDS, steps)
    best = problem.paid_by_best(steps)[-1]

    def score(lr: float) -> list[float]:
        start = torch.zeros_like(problem.best)
        played = play(problem.oracle, partial(cls, lr=lr), start, steps)
        return (played.losses.sum(0) - best).tolist()

    return tuned(score, RATES)


def three_sums() -> list[dict[str, Any]]:
    """Three convex sums in 10 dimensions, 10 000 steps."""
    return ratios(tuple(RADII), 10_000)


def long() -> list[dict[str, Any]]:
    """The sum without smoothness, where the rate 1/sqrt(T) is sharp, 100 000 steps."""
    return ratios(("box",), 100_000)


def dims() -> list[dict[str, Any]]:
    """The same sum in 4 to 256 dimensions, 1000 steps."""
    sizes = (4, 16, 64, 256)
    found = [ratios(("box",), 1000, dim=dim, seeds=(0, 1, 2), tuning_steps=200) for dim in sizes]
    return [row for rows in found for row in rows if row["quantity"] != "slope"]


SLOW = {"online_ratio": three_sums, "online_ratio_long": long, "online_ratio_dims": dims}
