"""Steps of SGD and of full-matrix AdaGrad on a strongly convex function, against the dimension.

[Agarwal et al. 2019, slides "Results": up to O(1/sqrt(d)) faster than SGD]
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from optimizers import FullMatrixAdagrad
from scripts.measurements.kit import gaussian, log_slope, orthogonal
from scripts.measurements.online_kit import Make, tuned
from scripts.measurements.online_ratio import Apart

SIZES = (4, 8, 16, 32, 64)
# Method -> class and rates, as many for each.
METHODS: dict[str, tuple[Make, tuple[float, ...]]] = {
    "sgd": (torch.optim.SGD, tuple(2.0**k for k in range(-11, -4))),
    "full_adagrad": (partial(Apart, cls=FullMatrixAdagrad), tuple(2.0**k for k in range(-4, 3))),
}
TUNING_SEED, SEEDS = 100, (0, 1, 2, 3, 4)
# Of one seed: so many rotations, minimisers and streams of noise, whose f are averaged.
COPIES = 8
NOISE, TARGET, MOST_STEPS = 10.0, 0.1, 20_000
# Of f over the last steps; fewer than SHORTEST would let single lucky points pass.
SHARE, SHORTEST = 0.1, 50


class Instances(NamedTuple):
    """Copies of our instance: Q (copies, d, d), h (d,), x* (copies, d), the noise's stream."""

    rotations: Tensor
    curvature: Tensor
    optima: Tensor
    generator: torch.Generator


def instances(dim: int, seed: int) -> Instances:
    """Our instance of f(x) = (x - x*)' Q diag(h) Q' (x - x*) / 2.

    x* = Q s with random signs s; h = (1, d^(-3/4), ..., d^(-3/4)), and a gradient has noise of
    standard deviation 10 h_i along each column of Q. SGD's rate is bound by the noise of all
    directions, and then takes 1 / min h steps in the slowest; AdaGrad divides each by its noise.
    Steps to a share of f(0) are in proportion to sum h^2 / (min h sum h) for SGD and to 1 for
    AdaGrad in the basis Q, up to logarithms, so that sqrt(d) is what theory gives. The noise is
    so large that the steps are many times d, in which the matrix is learned. The paper's own
    example, in its appendix A.4, could not be obtained.
    """
    generator = torch.Generator().manual_seed(seed)
    rotations = torch.stack([orthogonal(dim, generator) for _ in range(COPIES)])
    curvature = torch.full((dim,), dim**-0.75, dtype=torch.float64)
    curvature[0] = 1.0
    signs = gaussian(COPIES, dim, 1, generator=generator).sign()
    return Instances(rotations, curvature, (rotations @ signs)[..., 0], generator)


def steps_to_target(cls: Make, lr: float, dim: int, seed: int, most: float = MOST_STEPS) -> float:
    """Steps from x = 0 to f <= f(0) / 10, mean over copies and the last tenth; inf: > `most`."""
    given = instances(dim, seed)
    points = torch.zeros_like(given.optima)
    parameters = [nn.Parameter(point) for point in points]  # views of `points`
    optimizer = cls(parameters, lr=lr)
    sums, step = [0.0], 0  # of f over the steps
    while step <= most:
        with torch.no_grad():
            away = torch.einsum("kji,kj->ki", given.rotations, points - given.optima)
            value = (given.curvature * away * away).sum().item() / (2 * COPIES)
            noise = NOISE * gaussian(COPIES, dim, generator=given.generator)
            grads = torch.einsum("kij,kj->ki", given.rotations, given.curvature * (away + noise))
        sums.append(sums[-1] + value)
        window = max(SHORTEST, round(SHARE * step))
        if step >= window and (sums[-1] - sums[-1 - window]) / window <= TARGET * sums[1]:
            return float(step)
        if not value < 1e6:
            break
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter.grad = grad
        optimizer.step()
        step += 1
    return math.inf


def fewest(cls: Make, rates: Sequence[float], dim: int) -> float:
    """The rate with the fewest steps on other copies."""
    middle, least = len(rates) // 2, float(MOST_STEPS)

    def score(lr: float) -> list[float]:
        nonlocal least
        # What takes more steps than another rate is not the best, however many more.
        steps = steps_to_target(cls, lr, dim, TUNING_SEED, least)
        least = min(least, steps)
        return [steps]

    return tuned(score, sorted(rates, key=lambda lr: abs(rates.index(lr) - middle)))


def speed_up() -> list[dict[str, Any]]:
    """Steps to the target with the rate that takes fewest on other copies, chosen for each d.

    Quantities: `steps`; `ratio`, SGD's over full AdaGrad's; `slope` of log ratio on log d, a seed.
    """
    rows, ratios = [], {seed: [] for seed in SEEDS}
    for dim in SIZES:
        steps = {}
        for method, (cls, rates) in METHODS.items():
            lr = fewest(cls, rates, dim)
            steps[method] = [steps_to_target(cls, lr, dim, seed) for seed in SEEDS]
            labels = {"dim": dim, "method": method, "lr": lr, "quantity": "steps"}
            rows += [
                {**labels, "seed": seed, "value": value}
                for seed, value in zip(SEEDS, steps[method], strict=True)
            ]
        for seed, ours, theirs in zip(SEEDS, steps["full_adagrad"], steps["sgd"], strict=True):
            ratios[seed].append(theirs / ours)
            row = {"dim": dim, "method": None, "lr": None, "quantity": "ratio"}
            rows.append({**row, "seed": seed, "value": theirs / ours})
    row = {"dim": None, "method": None, "lr": None, "quantity": "slope"}
    return rows + [
        {**row, "seed": seed, "value": log_slope(SIZES, values)} for seed, values in ratios.items()
    ]


SLOW = {"online_speed_up": speed_up}
