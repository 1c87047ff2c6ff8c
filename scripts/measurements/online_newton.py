"""Regret of NG+'s online method on the stream of its appendix D [Yang et al. 2021, Theorem 5]."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from optimizers import NGPlus
from scripts.measurements.kit import log_slope
from scripts.measurements.online_kit import play
from tasks.streams import STREAMS, Shape, horizons

ROWS, COLUMNS, CONDITION = 8, 4, 10.0
RADIUS, NOISE = 1.0, 0.3
# Of appendix D and Theorem 5, for |W|_F <= R, |x| = 1 and |y| <= R.
DIAMETER = 2 * RADIUS
ALPHA = 1 / (4 * RADIUS**2)
EPSILON = 2 / (ALPHA * DIAMETER**2)
LIPSCHITZ = 2 * RADIUS
STEPS, SEEDS, FIRST, LATE = 100_000, (0, 1, 2, 3, 4), 100, 1_000


class Points(nn.Module):
    """The points of several streams, each a parameter that NG+ takes for a layer's matrix."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Module() for _ in parameters)
        for layer, parameter in zip(self.layers, parameters, strict=True):
            layer.weight = parameter


def online(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Eq. 19, corrected: L_t = L_(t-1) + G G', and a projection in the norm of L_t."""
    return NGPlus(
        parameters,
        model=Points(parameters),
        lr=1 / ALPHA,
        momentum=0.0,
        damping=0.0,
        update_freq=1,
        statistic="minibatch",
        beta2=1.0,
        gamma=1.0,
        initial=EPSILON,
        radius=RADIUS,
        side="left",
        statistics_dtype="float64",
        root_dtype="float64",
        apply_dtype="float64",
    )


def log_regret(steps: int = STEPS) -> list[dict[str, Any]]:
    """Regret of the online method with the constants of the theorem, nothing tuned.

    Quantities: `regret`; `bound_ratio`, regret over (m / alpha) log(alpha L^2 D^2 T), the bound
    with m in the place of n (Lemma 7), and `printed_ratio`, with n; `slope` of log(regret / log T)
    on log T from 100 on; `growth`, that of the regret an e-fold of T adds, from 1000 on. Regret of
    a log T + b has a growth of 0, and a slope above 0 for long where b < 0.
    """
    shape = Shape(steps, ROWS, COLUMNS, CONDITION, RADIUS, NOISE)
    stream = STREAMS["least_squares"]
    parts = [stream.draw(shape, torch.Generator().manual_seed(seed)) for seed in SEEDS]
    inputs = torch.stack([part.inputs for part in parts], dim=1)
    targets = torch.stack([part.targets for part in parts], dim=1)
    start = torch.zeros(len(SEEDS), ROWS, COLUMNS, dtype=torch.float64)
    played = play(lambda t, w: stream.loss(w, inputs[t], targets[t]), online, start, steps)
    paid, rows = played.losses.cumsum(0), []
    for index, seed in enumerate(SEEDS):
        found = []
        for k in horizons(steps, FIRST):
            part = parts[index]._replace(
                inputs=parts[index].inputs[:k], targets=parts[index].targets[:k]
            )
            least = stream.loss(stream.best(part, RADIUS), part.inputs, part.targets)[0].sum()
            value = (paid[k - 1, index] - least).item()
            bound = math.log(ALPHA * LIPSCHITZ**2 * DIAMETER**2 * k) / ALPHA
            values = {
                "regret": value,
                "bound_ratio": value / (ROWS * bound),
                "printed_ratio": value / (COLUMNS * bound),
            }
            labels = {"seed": seed, "horizon": k}
            rows += [{**labels, "quantity": q, "value": v} for q, v in values.items()]
            found.append((k, value))
        slope = log_slope(*zip(*((k, value / math.log(k)) for k, value in found), strict=True))
        values = {"slope": slope, "growth": growth_of([pair for pair in found if pair[0] >= LATE])}
        labels = {"seed": seed, "horizon": steps}
        rows += [{**labels, "quantity": q, "value": v} for q, v in values.items()]
    return rows


def growth_of(regrets: Sequence[tuple[int, float]]) -> float:
    """Exponent with which the regret an e-fold of steps adds grows with the steps.

    Args:
        regrets: pairs of steps and regret, in the order of the steps; nan for fewer than three.
    """
    if len(regrets) < 3:
        return math.nan
    middles, added = [], []
    for (k, before), (m, after) in pairwise(regrets):
        middles.append(math.sqrt(k * m))
        added.append((after - before) / math.log(m / k))
    return log_slope(middles, added)


SLOW = {"online_log_regret": log_regret}
