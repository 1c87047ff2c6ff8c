"""One panel of a figure that compares methods: what it shows, and its rows of the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis import curves, measures, stacked
from analysis.frames import MissingRecordsError
from runners.load import MOST_OTHER_CORES, recorded_cores

if TYPE_CHECKING:
    from analysis.load import Experiment, Records

MAX_POINTS = 400
# Columns of the table of a comparison: one row a point of a curve, or one row that says in `note`
# why there is no curve (its numbers are nan). value: median over the seeds that all methods have;
# low, high: 95 % bootstrap interval, nan for one seed; seconds: median over the seeds.
COLUMNS = [
    "panel", "experiment", "case", "y", "transform", "method", "tuned", "num_runs", "num_diverged",
    "smoothed_steps", "step", "epoch", "seconds", "value", "low", "high", "note",
]  # fmt: skip
X_LABELS = {"step": "step", "epoch": "epoch", "seconds": "training time (s)"}
# What must be one and the same in all runs before their seconds mean anything side by side.
ONE_VALUE = {
    "num_threads": "thread counts",
    "hardware.fingerprint": "machines",
    "device": "devices",
}


@dataclass(frozen=True)
class Panel:
    """What one panel shows.

    Attributes:
        experiment, case: whose final runs; `case` as in the experiment's YAML.
        y: "loss", the training loss of every step, or "<metric>, <split>" of the evaluations.
        x: "step", "epoch" or "seconds" of training time.
        transform: None; ("ratio", method) divides by that method's value of the same seed and
            step, ("minus", method) subtracts it.
        methods: the methods to show, in order; by default the experiment's.
        log: whether the y axis is logarithmic; None: where the values span more than a decade.
        title, ylabel: by default the case, and the name of `y` with the transform.
        smooth: share of the run over which the training loss is averaged, looking backwards.
        hidden: share of the run at its start that may leave the panel at its top.
        suboptimality: subtract each instance's optimum (the fact `task_facts.optimum`).
        exponentiate: show exp of the (smoothed) loss, a perplexity.
        log_x: a logarithmic x axis.
        ylim: limits in place of those found from the curves.
        references: horizontal lines with their labels, such as a published number.
        paired: take only the seeds that all methods have; otherwise each method's own.
    """

    experiment: str
    case: str
    y: str = "loss"
    x: str = "step"
    transform: tuple[str, str] | None = None
    methods: Sequence[str] | None = None
    log: bool | None = None
    title: str | None = None
    ylabel: str | None = None
    smooth: float = 0.02
    hidden: float = 0.05
    suboptimality: bool = False
    exponentiate: bool = False
    log_x: bool = False
    ylim: tuple[float | None, float | None] | None = None
    references: Mapping[str, float] = field(default_factory=dict)
    paired: bool = True

    def __post_init__(self):
        if self.x not in X_LABELS:
            raise ValueError(f"x must be one of {', '.join(X_LABELS)}, got {self.x!r}")
        if self.transform and self.transform[0] not in ("ratio", "minus"):
            raise ValueError(f"transform must begin with ratio or minus, got {self.transform!r}")


def panel_table(records: Records, panel: Panel, number: int) -> pd.DataFrame:
    """Return the rows of one panel, `COLUMNS`; see there for what is missing."""
    try:
        experiment = records.experiment(panel.experiment)
    except MissingRecordsError as error:
        return _note(panel, number, str(error))
    if panel.case not in experiment.cases():
        return _note(panel, number, f"no case {panel.case}; make it with: {experiment.command}")
    methods = list(panel.methods or experiment.methods(panel.case))
    runs = experiment.runs(panel.case)
    if panel.x == "seconds":
        reason = why_not_comparable(runs[runs["method"].isin(methods)])
        if reason:
            return _note(panel, number, f"not comparable: {reason}")
    frame = _frame(experiment, panel)
    return _curves(experiment, panel, number, methods, frame[frame["method"].isin(methods)], runs)


def why_not_comparable(runs: pd.DataFrame) -> str:
    """Say why the seconds of `runs` cannot be compared; empty if they can.

    Args:
        runs: `Experiment.runs()`.
    """
    if "timing" not in runs or (runs["timing"] != "exclusive").any():
        return "not every run was made alone (timing=exclusive)"
    for column, noun in ONE_VALUE.items():
        if column not in runs or runs[column].isna().any():
            return f"{column} was not recorded for every run"
        if runs[column].nunique() > 1:
            return f"the runs were made with {runs[column].nunique()} different {noun}"
    others = [0.0, *(recorded_cores(row) or 0.0 for row in runs.to_dict("records"))]
    if max(others) > MOST_OTHER_CORES:
        return f"other processes used up to {max(others):.2g} cores beside the runs"
    return ""


def _note(panel: Panel, number: int, note: str, **values) -> pd.DataFrame:
    row = {
        "panel": number, "experiment": panel.experiment, "case": panel.case, "y": panel.y,
        "transform": _transform(panel), "method": "", "tuned": "", "num_runs": 0,
        "num_diverged": 0, "smoothed_steps": 0, "note": note, **values,
    }  # fmt: skip
    frame = pd.DataFrame([row]).reindex(columns=COLUMNS)
    return frame.astype(dict.fromkeys(("step", "epoch", "seconds", "value", "low", "high"), float))


def _transform(panel: Panel) -> str:
    return " ".join(panel.transform) if panel.transform else ""


def _frame(experiment: Experiment, panel: Panel) -> pd.DataFrame:
    """The rows that the curves are made of, with what is drawn in the column `value`."""
    if panel.y == "loss":
        steps = experiment.steps(panel.case, ("step", "loss", "train_seconds"))
        return steps.rename(columns={"loss": "value"})
    metric, _, split = panel.y.partition(", ")
    evals = experiment.evals(panel.case)
    return evals[(evals["metric"] == metric) & (evals["split"] == split)]


def _curves(
    experiment: Experiment,
    panel: Panel,
    number: int,
    methods: Sequence[str],
    frame: pd.DataFrame,
    runs: pd.DataFrame,
) -> pd.DataFrame:
    arranged = _arranged(experiment, panel, methods, frame, runs)
    transformed = _transformed(arranged, panel)
    parts = []
    for method in methods:
        if method not in transformed:
            parts.append(_note(panel, number, _why_absent(arranged, panel, method), method=method))
            continue
        curve = transformed[method]
        kept = measures.thinned(len(curve.steps), MAX_POINTS)
        steps = curve.steps[kept]
        value, low, high = measures.bootstrap_interval(curve.values[:, kept])
        own = frame[frame["method"] == method]
        per_epoch = float(runs.loc[runs["method"] == method, "steps_per_epoch"].iloc[0])
        diverged = curves.diverged_seeds(experiment, panel.case, method) & set(curve.seeds)
        one = len(curve.seeds) == 1
        parts.append(pd.DataFrame({
            "panel": number, "experiment": panel.experiment, "case": panel.case, "y": panel.y,
            "transform": _transform(panel), "method": method,
            "tuned": curves.tuned(experiment, panel.case, method),
            "num_runs": len(curve.seeds), "num_diverged": len(diverged),
            "smoothed_steps": _width(panel, len(curve.steps)),
            "step": steps.astype(float), "epoch": steps / per_epoch,
            "seconds": stacked.median_over_seeds(own, "train_seconds", steps, curve.seeds),
            "value": value, "low": np.nan if one else low, "high": np.nan if one else high,
            "note": "",
        }))  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def _arranged(
    experiment: Experiment,
    panel: Panel,
    methods: Sequence[str],
    frame: pd.DataFrame,
    runs: pd.DataFrame,
) -> dict[str, stacked.Runs]:
    """Each method's runs side by side, over the seeds that all methods with runs share.

    Where they share none, each has its own seeds: better than nothing, and no transform of them.
    """
    shared = curves.paired_seeds(frame) if panel.paired or panel.transform else []
    arranged = {}
    for method, rows in frame.groupby("method", sort=False):
        seeds = shared or sorted(set(rows["seed"]))
        diverged = curves.diverged_seeds(experiment, panel.case, method)
        found = stacked.side_by_side(rows, "value", seeds, diverged)
        if not len(found.steps):
            continue
        values = found.values
        width = _width(panel, len(found.steps))
        if width > 1:
            values = np.array([measures.running_mean(row, width) for row in values])
        if panel.suboptimality:
            optima = runs[runs["method"] == method].set_index("seed")["task_facts.optimum"]
            values = measures.suboptimality(values, optima.loc[seeds].to_numpy())
        if panel.exponentiate:
            with np.errstate(over="ignore"):  # a loss beyond 709 has the perplexity inf in float64
                values = np.exp(values)
        arranged[method] = found._replace(values=values)
    return {method: arranged[method] for method in methods if method in arranged}


def _width(panel: Panel, num_steps: int) -> int:
    return max(1, round(panel.smooth * num_steps)) if panel.y == "loss" else 1


def _transformed(arranged: dict[str, stacked.Runs], panel: Panel) -> dict[str, stacked.Runs]:
    if not panel.transform:
        return arranged
    kind, name = panel.transform
    if name not in arranged:
        return {}
    reference = arranged[name]
    made = {}
    for method, runs in arranged.items():
        if runs.seeds != reference.seeds:
            continue
        steps, own, others = np.intersect1d(runs.steps, reference.steps, return_indices=True)
        values, divisor = runs.values[:, own], reference.values[:, others]
        with np.errstate(divide="ignore", invalid="ignore"):
            changed = values / divisor if kind == "ratio" else values - divisor
        # Beside a reference that has diverged there is nothing to compare with.
        made[method] = runs._replace(
            steps=steps, values=np.where(np.isfinite(divisor), changed, np.nan)
        )
    return made


def _why_absent(arranged: dict[str, stacked.Runs], panel: Panel, method: str) -> str:
    if method not in arranged:
        return f"no run of {method} has {panel.y}"
    return f"no seed of {method} has a run of {panel.transform[1]} to compare with"
