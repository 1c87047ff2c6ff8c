"""Scores by which the search stage of an experiment chooses; lower is better.

Each is called with a run's folder and reads its records. A score says in `rule` what it measures
and on which split, in words for the caption of a figure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from runners.records import read_manifest, read_table


@dataclass(frozen=True)
class MeanSuboptimality:
    """Mean over the iterations of (training loss - the instance's optimum)."""

    rule: str = "mean over iterations of (training loss - optimum)"

    def __call__(self, run_dir: Path) -> float:
        losses = read_table(run_dir, "steps").column("loss").to_pylist()
        return math.fsum(losses) / len(losses) - read_manifest(run_dir)["task_facts"]["optimum"]


@dataclass(frozen=True)
class FinalTrainingLoss:
    """Mean training loss over the last `fraction` of the steps: no held-out split is touched."""

    fraction: float = 0.1
    rule: str = "mean training loss over the last tenth of the steps; no held-out split is used"

    def __call__(self, run_dir: Path) -> float:
        losses = read_table(run_dir, "steps").column("loss").to_pylist()
        last = losses[-max(1, round(self.fraction * len(losses))) :]
        return math.fsum(last) / len(last)


@dataclass(frozen=True)
class MeanMetric:
    """Mean of a metric over all the evaluations of a run: where a step's loss is mostly noise.

    The split must be one that the figure does not report on, or the runs must be of instances that
    it does not show.

    Raises:
        ValueError: if a run has no evaluation of it.
    """

    metric: str
    split: str

    @property
    def rule(self) -> str:
        """What it measures, in words."""
        return f"mean of {self.metric} ({self.split}) over the evaluations"

    def __call__(self, run_dir: Path) -> float:
        values = _evaluations(run_dir, self.metric, self.split)
        return math.fsum(values) / len(values)


@dataclass(frozen=True)
class LastMetric:
    """A metric at a run's last evaluation; direction says whether little of it is good, or much.

    The split must be one that the figure does not report on, or the runs must be of instances that
    it does not show.

    Raises:
        ValueError: if the direction is neither min nor max, or a run has no evaluation of it.
    """

    metric: str
    split: str
    direction: str

    def __post_init__(self):
        if self.direction not in ("min", "max"):
            raise ValueError(f"direction must be min or max, got {self.direction!r}")

    @property
    def rule(self) -> str:
        """What it measures, in words."""
        return f"{self.metric} ({self.split}) at the end"

    def __call__(self, run_dir: Path) -> float:
        value = _evaluations(run_dir, self.metric, self.split)[-1]
        return value if self.direction == "min" else -value


def _evaluations(run_dir: Path, metric: str, split: str) -> list[float]:
    """A metric's values on a split, first to last.

    Raises:
        ValueError: if there are none.
    """
    evals = read_table(run_dir, "evals")
    rows = zip(*(evals.column(c).to_pylist() for c in ("metric", "split", "value")), strict=True)
    values = [value for name, of, value in rows if (name, of) == (metric, split)]
    if not values:
        raise ValueError(f"{run_dir} has no {metric} ({split}) to choose by")
    return values
