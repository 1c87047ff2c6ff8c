"""What the records of an experiment tell beside its curves: numbers, no HTML."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from analysis import curves, measures

if TYPE_CHECKING:
    from analysis.load import Experiment

# The share of the steps at the end of a run over which its final training loss is averaged.
FINAL_SHARE = 0.1


class Cost(NamedTuple):
    """What one method costs in one case: medians over its runs; nan where it was not recorded."""

    case: str
    method: str
    step_seconds: float
    wall_seconds: float
    training: float  # shares of the wall time
    evaluation: float
    rest: float
    state_bytes: float
    peak_bytes: float
    alone: bool


class Standing(NamedTuple):
    """How one method ends in one case, against the best of them.

    difference: mean over the shared seeds of (its final training loss - the best method's), with a
    95 % bootstrap interval; effect: Hedges' g of the pairs; more: seeds that are missing to
    tell the two apart with a chance of 80 %; value: median of the target's metric.
    """

    case: str
    method: str
    num_runs: int
    num_diverged: int
    loss: float
    value: float
    difference: float
    low: float
    high: float
    effect: float
    more: float


def costs(experiment: Experiment) -> list[Cost]:
    """One row a case and method."""
    runs = experiment.runs()
    if runs.empty:
        return []
    wall, train = _column(runs, "wall_seconds"), _column(runs, "train_seconds")
    evaluated = _column(runs, "eval_seconds")
    numbers = pd.DataFrame(
        {
            "step": train / _column(runs, "steps_done").clip(lower=1),
            "wall": wall,
            "training": train / wall,
            "evaluation": evaluated / wall,
            "rest": (wall - train - evaluated.fillna(0)) / wall,
            "state": _column(runs, "optimizer_state_bytes"),
            "peak": _column(runs, "peak_memory_bytes"),
        }
    )
    alone = runs["timing"] == "exclusive" if "timing" in runs else pd.Series(False, runs.index)
    made = []
    for case in experiment.cases():
        for method in experiment.methods(case):
            own = (runs["case"] == case) & (runs["method"] == method)
            if own.any():
                middle = numbers[own].median()
                made.append(Cost(case, method, *middle, bool(alone[own].all())))
    return made


def _column(runs: pd.DataFrame, name: str) -> pd.Series:
    if name not in runs:
        return pd.Series(math.nan, runs.index)
    return pd.to_numeric(runs[name], errors="coerce")


# ---------------------------------------------------------------- how the methods end


def final_losses(experiment: Experiment, case: str) -> dict[str, pd.Series]:
    """Each method's final training losses by seed: means over the last steps, inf if diverged."""
    steps = experiment.steps(case, ("step", "loss"))
    found = {}
    for method, rows in steps.groupby("method", sort=False):
        diverged = curves.diverged_seeds(experiment, case, method)
        values = {}
        for seed, run in rows.groupby("seed"):
            losses = run["loss"].to_numpy()
            last = losses[-max(1, round(FINAL_SHARE * len(losses))) :].mean()
            values[seed] = last if seed not in diverged and math.isfinite(last) else math.inf
        found[method] = pd.Series(values, dtype=float)
    return {m: found[m] for m in experiment.methods(case) if m in found}


def standings(experiment: Experiment, case: str) -> list[Standing]:
    """The methods of one case, best first."""
    losses = final_losses(experiment, case)
    runs = experiment.runs(case)
    last = _column(runs, "best.last")
    order = sorted(losses, key=lambda method: losses[method].median())
    made = []
    for method in order:
        own = losses[method]
        made.append(
            Standing(
                case,
                method,
                len(own),
                int(np.isinf(own).sum()),
                float(own.median()),
                float(last[runs["method"] == method].median()),
                *_against(losses[order[0]], own, method == order[0]),
            )
        )
    return made


def _against(best: pd.Series, own: pd.Series, same: bool) -> tuple[float, ...]:
    seeds = best.index.intersection(own.index)
    if same or len(seeds) < 2:
        return (math.nan,) * 5
    better, worse = best[seeds].to_numpy(), own[seeds].to_numpy()
    interval = measures.paired_difference(better, worse)
    differences = worse - better
    if not np.isfinite(differences).all():
        return (*map(float, interval), math.nan, math.nan)
    effect = measures.paired_effect(differences)
    return (*map(float, interval), effect, measures.more_seeds(differences))


class Race(NamedTuple):
    """One case as a task on which methods are ranked.

    Attributes:
        task, scale: of its runs.
        losses: method -> median final training loss; inf where it diverged.
        steps: method -> median number of steps to the loss at which the median method ends.
    """

    experiment: str
    case: str
    task: str
    scale: str
    losses: dict[str, float]
    steps: dict[str, float]


def race(experiment: Experiment, case: str) -> Race | None:
    """A case as a task, if two methods were tuned on it; None else."""
    tuned = experiment.choice
    tuned = set(tuned.loc[(tuned["case"] == case) & tuned["score"].notna(), "method"])
    ends = {m: x for m, x in final_losses(experiment, case).items() if m in tuned}
    runs = experiment.runs(case)
    if len(ends) < 2 or runs.empty:
        return None
    losses = {method: float(values.median()) for method, values in ends.items()}
    target = float(np.median(list(losses.values())))
    steps = experiment.steps(case, ("step", "loss"))
    reached = {}
    for method in losses:
        own = steps[steps["method"] == method]
        reached[method] = float(np.median([_reach(r, target) for _, r in own.groupby("seed")]))
    first = runs.iloc[0]
    return Race(experiment.name, case, first["task"], str(first.get("scale")), losses, reached)


def _reach(run: pd.DataFrame, target: float) -> float:
    width = max(1, round(0.02 * len(run)))
    smoothed = measures.running_mean(run["loss"].to_numpy(), width)
    return 1 + measures.steps_to_target(run["step"].to_numpy(), smoothed, target)
