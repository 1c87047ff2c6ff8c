"""Critical points of smooth functions: NG+ with falling steps, GGT with the hard window.

[Yang et al. 2021, Theorems 2 and 3; Agarwal et al. 2019, Theorem 4.1]
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from optimizers import GGTHardWindow, NGPlus
from scripts.measurements.kit import gaussian, log_slope
from tasks.streams import horizons

SEEDS = (0, 1, 2, 3, 4)

# ---------------------------------------------------------------- NG+

# Steps alpha_k = FIRST_STEPS[beta] k^-beta. Of k^-0.9 the first 40 000 add up to 19, too little to
# come far, so those are thrice as long.
FIRST_STEPS = {0.6: 1.0, 0.75: 1.0, 0.9: 3.0}
BETAS = tuple(FIRST_STEPS)
STEPS, EVERY = 40_000, 10
SAMPLES, BATCH, INPUTS, OUTPUTS = 256, 64, 8, 4
LEVELS = (1e-1, 1e-2, 1e-3)


class Regression:
    """mean_i |tanh(W x_i) - y_i|^2 / 2 for several seeds: smooth, not convex, from W = 0.

    y_i = tanh(W* x_i) + noise of standard deviation .05, W* with entries N(0, 1/4).
    """

    def __init__(self) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
        self.layers = nn.ModuleList(
            nn.Linear(INPUTS, OUTPUTS, bias=False, dtype=torch.float64) for _ in SEEDS
        )
        self.data = []
        for layer, generator in zip(self.layers, self.generators, strict=True):
            nn.init.zeros_(layer.weight)
            hidden = gaussian(OUTPUTS, INPUTS, generator=generator) / 2
            inputs = gaussian(SAMPLES, INPUTS, generator=generator)
            noise = gaussian(SAMPLES, OUTPUTS, generator=generator) / 20
            self.data.append((inputs, torch.tanh(inputs @ hidden.mT) + noise))

    def loss(self, batch: int | None = None) -> Tensor:
        """Sum over the seeds of the mean loss of a minibatch, or of all samples."""
        total = torch.zeros((), dtype=torch.float64)
        parts = zip(self.layers, self.data, self.generators, strict=True)
        for layer, (inputs, targets), generator in parts:
            chosen = slice(None)
            if batch is not None:
                chosen = torch.randint(SAMPLES, (batch,), generator=generator)
            error = torch.tanh(layer(inputs[chosen])) - targets[chosen]
            total = total + error.square().sum(1).mean() / 2
        return total

    def norms(self) -> list[float]:
        """Norm of the gradient over all samples, of each seed."""
        weights = [layer.weight for layer in self.layers]
        return [grad.norm().item() for grad in torch.autograd.grad(self.loss(), weights)]


def gradient_norms(beta: float, steps: int) -> list[list[float]]:
    """Norms of the full gradient every 10 steps of NG+ (4) to (7), from the first point on."""
    problem = Regression()
    optimizer = NGPlus(
        problem.layers.parameters(),
        model=problem.layers,
        lr=FIRST_STEPS[beta],
        momentum=0.0,
        damping=0.1,
        update_freq=EVERY,
        statistics_dtype="float64",
        root_dtype="float64",
        apply_dtype="float64",
    )
    weights = torch.full((BATCH,), 1 / BATCH, dtype=torch.float64)
    norms = []
    for step in range(steps):
        if step % EVERY == 0:
            norms.append(problem.norms())
        optimizer.param_groups[0]["lr"] = FIRST_STEPS[beta] * (step + 1) ** -beta
        optimizer.zero_grad()
        if optimizer.wants_samples():
            with optimizer.record(num_samples=BATCH, batch_dim=0, weights=weights):
                problem.loss(BATCH).backward()
        else:
            problem.loss(BATCH).backward()
        optimizer.step()
    return norms


def robbins_monro(steps: int = STEPS) -> list[dict[str, Any]]:
    """NG+ with steps that fall as k^-beta, in which the sum of steps is infinite.

    Quantities: `least`, the running minimum of the full gradient's norm at the end; `levels`, how
    many of .1, .01 and .001 it has passed; `slope` of log of the mean squared norm so far on log of
    the steps, from 100 on; `telescoped`, the exponent with which 1 / alpha_1 + sum_k (1 / alpha_k -
    1 / alpha_(k-1)), the weights of the first term in the proof of Theorem 3, grows with the steps
    (the printed theorem needs 0).
    """
    rows = []
    for beta in BETAS:
        table = torch.tensor(gradient_norms(beta, steps), dtype=torch.float64)
        marks = horizons(steps, 100)
        inverse = torch.arange(1, steps + 1).double() ** beta / FIRST_STEPS[beta]
        weights = inverse[0] + inverse.diff(prepend=inverse[:1]).cumsum(0)
        exponent = log_slope(marks, [weights[k - 1].item() for k in marks])
        for index, seed in enumerate(SEEDS):
            norms = table[:, index]
            means = norms.square().cumsum(0) / torch.arange(1, len(norms) + 1)
            values = {
                "least": norms.min().item(),
                "levels": sum(norms.min().item() <= level for level in LEVELS),
                "slope": log_slope(marks, [means[k // EVERY - 1].item() for k in marks]),
                "telescoped": exponent,
            }
            labels = {"beta": beta, "seed": seed}
            rows += [{**labels, "quantity": q, "value": v} for q, v in values.items()]
    return rows


# ---------------------------------------------------------------- GGT

# From .26 at the start down to what every seed reaches with some rate of the grid.
LEVELS_GGT = (0.1, 0.07, 0.05, 0.035)
RATES, WINDOWS = (0.1, 0.03, 0.01, 0.005, 0.002), (20, 100)
TUNING_SEEDS, MOST_CALLS, ROBUST_DIM, ROBUST_SAMPLES = (100, 101), 8_000, 10, 500


def robust(seed: int) -> tuple[Tensor, Tensor, torch.Generator]:
    """Inputs (500, 10) and targets of mean_i r_i^2 / (1 + r_i^2), r = Xw - b: bounded, Lipschitz,
    smooth and not convex; b = Xw* + N(0, 1/4) noise, |w*| = 1."""
    generator = torch.Generator().manual_seed(seed)
    inputs = gaussian(ROBUST_SAMPLES, ROBUST_DIM, generator=generator)
    hidden = gaussian(ROBUST_DIM, generator=generator)
    noise = gaussian(ROBUST_SAMPLES, generator=generator) / 2
    return inputs, inputs @ (hidden / hidden.norm()) + noise, generator


def first_calls(lr: float, window: int, seed: int) -> list[float]:
    """Calls to the gradient of one sample until the full gradient's norm is <= each level."""
    inputs, targets, generator = robust(seed)
    point = nn.Parameter(torch.zeros(ROBUST_DIM, dtype=torch.float64))
    optimizer = GGTHardWindow([point], lr=lr, window=window, window_dtype="float64")
    chosen = torch.randint(ROBUST_SAMPLES, (MOST_CALLS,), generator=generator)
    found = [math.inf] * len(LEVELS_GGT)
    for call in range(MOST_CALLS):
        with torch.no_grad():
            residual = inputs @ point - targets
            slopes = 2 * residual / (1 + residual.square()).square()
            norm = (slopes @ inputs).norm().item() / ROBUST_SAMPLES
            point.grad = slopes[chosen[call]] * inputs[chosen[call]]
        for k, level in enumerate(LEVELS_GGT):
            if norm <= level:
                found[k] = min(found[k], float(call))
        if found[-1] < math.inf:
            break
        optimizer.step()
    return found


def critical_calls() -> list[dict[str, Any]]:
    """Calls of GGT with the hard window to an epsilon-critical point, against epsilon.

    Rate and window are those with the fewest calls on other seeds, for each epsilon. Quantities:
    `calls` (inf: more than 8000), and `slope` of log calls on log 1/epsilon, a seed.
    """
    pairs = [(lr, window) for lr in RATES for window in WINDOWS]
    trials = {pair: [first_calls(*pair, seed) for seed in TUNING_SEEDS] for pair in pairs}

    def mean_calls(pair: tuple[float, int], k: int) -> float:
        return math.fsum(calls[k] for calls in trials[pair]) / len(TUNING_SEEDS)

    best = [min(pairs, key=lambda pair, k=k: mean_calls(pair, k)) for k in range(len(LEVELS_GGT))]
    made = {(pair, seed): first_calls(*pair, seed) for pair in set(best) for seed in SEEDS}
    rows = []
    for seed in SEEDS:
        calls = [made[pair, seed][k] for k, pair in enumerate(best)]
        for level, value, (lr, window) in zip(LEVELS_GGT, calls, best, strict=True):
            labels = {"epsilon": level, "lr": lr, "window": window, "seed": seed}
            rows.append({**labels, "quantity": "calls", "value": value})
        slope = log_slope([1 / level for level in LEVELS_GGT], [max(c, 1.0) for c in calls])
        row = {"epsilon": None, "lr": None, "window": None, "seed": seed}
        rows.append({**row, "quantity": "slope", "value": slope})
    return rows


SLOW: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "online_robbins_monro": robbins_monro,
    "online_critical_calls": critical_calls,
}
