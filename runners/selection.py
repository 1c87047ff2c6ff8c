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
        evals = read_table(run_dir, "evals")
        rows = zip(
            *(evals.column(c).to_pylist() for c in ("metric", "split", "value")), strict=True
        )
        wanted = (self.metric, self.split)
        values = [value for metric, split, value in rows if (metric, split) == wanted]
        if not values:
            raise ValueError(f"{run_dir} has no {self.metric} ({self.split}) to choose by")
        return math.fsum(values) / len(values)
