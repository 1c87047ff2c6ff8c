"""Regret of Kronecker-factored methods on streams with a known comparator, up to 100 000 steps.

[Mei, Moreno and Walters 2023, Lemma 3.5, Theorem 3.6]; the streams are those of `online_convex`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from optimizers import KrADagrad, KrADagradStar, Shampoo
from scripts.measurements.kit import log_slope
from scripts.measurements.online_kit import Played, play, tuned
from tasks.streams import STREAMS, Drawn, Shape, comparators, horizons

ROWS, COLUMNS, CONDITION = 8, 4, 100.0
RADII = {"box": 1.0, "absolute": 1.0, "logistic": 4.0}
# As the theorems have it: roots at every step, no momentum; in float64.
PLAIN = {
    "momentum": 0.0,
    "update_freq": 1,
    "merge_dims": False,
    "statistics_dtype": "float64",
    "root_dtype": "float64",
    "apply_dtype": "float64",
}
METHODS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "kradagrad_star": partial(KrADagradStar, **PLAIN),
    "kradagrad": partial(KrADagrad, **PLAIN),
    "shampoo": partial(Shampoo, **PLAIN),
}
RATES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
TUNING_SEEDS, TUNING_STEPS = (100, 101), 500
SEEDS = (0, 1, 2, 3, 4)
# Slopes are taken from here on.
FIRST = 100


def drawn(name: str, steps: int, seeds: Sequence[int]) -> list[Drawn]:
    """The streams of a kind, one a seed, as the task `online_convex` draws them."""
    shape = Shape(steps, ROWS, COLUMNS, CONDITION, RADII[name], noise=0.0)
    return [STREAMS[name].draw(shape, torch.Generator().manual_seed(seed)) for seed in seeds]


def oracle(name: str, streams: Sequence[Drawn]):
    """Losses and gradients of all streams at a step."""
    inputs = torch.stack([stream.inputs for stream in streams], dim=1)
    targets = torch.stack([stream.targets for stream in streams], dim=1)
    return lambda t, points: STREAMS[name].loss(points, inputs[t], targets[t])


def start_of(streams: Sequence[Drawn]) -> Tensor:
    """W = 0 for each stream."""
    return torch.zeros(len(streams), ROWS, COLUMNS, dtype=torch.float64)


def inverse_traces(optimizer: torch.optim.Optimizer, points: Tensor) -> Tensor:
    """tr(B^1/2) tr(C^1/2) of each stream, where the step is B^-1/2 G C^-1/2, shape (streams,)."""
    traces = [
        (1 / torch.linalg.eigvalsh(matrix)).sum().item()
        for _, quantity, matrix in optimizer.matrices()
        if quantity == "root"
    ]
    return torch.tensor(traces, dtype=torch.float64).view(-1, 2).prod(1)


def regret(
    names: Sequence[str], methods: Sequence[str], steps: int, seeds: Sequence[int] = SEEDS
) -> list[dict[str, Any]]:
    """Regret, its bound and its slope, for each stream, method, horizon and seed.

    Quantities: `regret`; `bound_ratio`, regret over D sqrt(2 t n) tr(B^1/2) tr(C^1/2) (Lemma 3.5)
    with D the largest distance to that horizon's comparator, n = 4 and t = 1, the least t there is;
    `slope` of log regret on log horizon from 100 on. The rate `lr` is chosen by the mean regret on
    500 steps of other seeds.
    """
    rows = []
    for name in names:
        streams, marks = drawn(name, steps, seeds), horizons(steps, FIRST)
        for method in methods:
            lr = tuned_rate(name, METHODS[method])
            played = play(
                oracle(name, streams),
                partial(METHODS[method], lr=lr),
                start_of(streams),
                steps,
                keep_points=True,
                at=marks,
                note=inverse_traces,
            )
            for index, seed in enumerate(seeds):
                labels = {"stream": name, "method": method, "seed": seed, "lr": lr}
                rows += [{**labels, **row} for row in of_stream(name, streams, played, index)]
    return rows


def of_stream(
    name: str, streams: Sequence[Drawn], played: Played, index: int
) -> list[dict[str, Any]]:
    """Rows of one stream of those that were played."""
    rows, found = [], []
    stream, paid = streams[index], played.losses[:, index].cumsum(0)
    for k, traces in played.noted.items():
        part = stream._replace(inputs=stream.inputs[:k], targets=stream.targets[:k])
        comparator = STREAMS[name].best(part, RADII[name])
        value = (paid[k - 1] - STREAMS[name].loss(comparator, *part[:2])[0].sum()).item()
        way = played.points[:k, index] - comparator.float()
        bound = torch.linalg.matrix_norm(way).max().item() * (2 * COLUMNS) ** 0.5
        bound *= traces[index].item()
        found.append((k, value))
        rows.append({"horizon": k, "quantity": "regret", "value": value})
        rows.append({"horizon": k, "quantity": "bound_ratio", "value": value / bound})
    slope = log_slope(*zip(*found, strict=True))
    return [*rows, {"horizon": found[-1][0], "quantity": "slope", "value": slope}]


def tuned_rate(name: str, cls: Callable[..., torch.optim.Optimizer]) -> float:
    """The rate of least mean regret on short streams of the tuning seeds."""
    streams = drawn(name, TUNING_STEPS, TUNING_SEEDS)
    best = [comparators(STREAMS[name], s, RADII[name], [TUNING_STEPS])[0] for s in streams]
    follow = oracle(name, streams)

    def score(lr: float) -> list[float]:
        played = play(follow, partial(cls, lr=lr), start_of(streams), TUNING_STEPS)
        return (played.losses.sum(0) - torch.tensor(best)).tolist()

    return tuned(score, RATES)


def on_three_streams() -> list[dict[str, Any]]:
    """Three streams of 10 000 losses (Lemma 3.5, and KrADagrad beside KrADagrad*)."""
    return regret(tuple(RADII), tuple(METHODS), 10_000)


def long() -> list[dict[str, Any]]:
    """One stream of 100 000 losses (Theorem 3.6: the slope, and Shampoo's)."""
    return regret(("box",), ("kradagrad_star", "shampoo"), 100_000)


SLOW = {"online_regret": on_three_streams, "online_regret_long": long}
