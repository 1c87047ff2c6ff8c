"""Curves of regret and of the adaptive ratio mu, from runs and from measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis import curves, measures, stacked
from analysis.frames import MissingRecordsError

if TYPE_CHECKING:
    from analysis.load import Experiment

LONG, RATIO, RATIO_DIMS = "online_regret_long", "online_ratio", "online_ratio_dims"
# Slopes are taken from here on, as by the claims.
FIRST = 100
_FACT = "task_facts.comparator_"


def of_runs(experiment: Experiment, case: str) -> pd.DataFrame:
    """Sums of training losses minus the comparators that the runs' facts have.

    Raises:
        MissingRecordsError: if the case has no run.
    """
    runs = experiment.runs(case)
    frame = experiment.steps(case)
    seeds = curves.paired_seeds(frame) or sorted(set(frame["seed"]))
    parts = []
    for method in experiment.methods(case):
        rows = frame[(frame["method"] == method) & frame["seed"].isin(seeds)]
        own = [seed for seed in seeds if seed in set(rows["seed"])]
        if not own:
            continue
        diverged = curves.diverged_seeds(experiment, case, method) & set(own)
        losses = stacked.side_by_side(rows, "loss", own, diverged)
        facts = runs[runs["method"] == method].set_index("seed").loc[own]
        names = [column for column in facts.columns if str(column).startswith(_FACT)]
        marks = sorted(int(name.removeprefix(_FACT)) for name in names)
        paid = losses.values.cumsum(axis=1)
        if len(diverged) == len(own):
            # Where no run got to, the sum of losses is infinite.
            left = max(marks, default=0) - paid.shape[1]
            paid = np.pad(paid, ((0, 0), (0, max(left, 0))), constant_values=np.inf)
        marks = [k for k in marks if k <= paid.shape[1]]
        best = facts[[f"{_FACT}{k}" for k in marks]].to_numpy(dtype=float)
        paid = paid[:, [k - 1 for k in marks]]
        parts.append(_curve(marks, paid - best).assign(
            experiment=experiment.name, case=case, method=method, num_runs=len(own),
            tuned=curves.tuned(experiment, case, method), num_diverged=len(diverged),
        ))  # fmt: skip
    if not parts:
        raise MissingRecordsError(f"{case}: no run; make it with: {experiment.command}")
    return pd.concat(parts, ignore_index=True)


def of_measurement(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """The curves of a measurement, one a method and problem."""
    x = "dim" if name == RATIO_DIMS else "horizon"
    quantity = {LONG: "regret", RATIO: "gap_ratio"}.get(name, "regret_ratio")
    rows = frame[frame["quantity"] == quantity]
    rows = rows[rows["horizon"] == rows["horizon"].max()] if x == "dim" else rows
    problem = "problem" if name == RATIO else "quantity"
    parts = []
    for (method, case), own in rows.groupby(["method", problem], sort=False):
        wide = own.pivot(index="seed", columns=x, values="value")
        rates = "/".join(f"{lr:.3g}" for lr in sorted(set(own["lr"])))
        parts.append(_curve(list(wide.columns), wide.to_numpy()).assign(
            case=case, method=method, num_runs=len(wide), tuned=f"lr {rates}", num_diverged=0,
        ))  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def _curve(x: list[int], values: np.ndarray) -> pd.DataFrame:
    """Median and interval of values (seeds, points), and the mean slope over seeds."""
    center, low, high = measures.bootstrap_interval(values)
    if len(values) == 1:
        low = high = np.full(len(x), np.nan)
    chosen = np.array(x) >= FIRST
    slope = np.nan
    if chosen.sum() > 1 and np.isfinite(values[:, chosen]).all() and (values[:, chosen] > 0).all():
        fits = [np.polyfit(np.log(np.array(x)[chosen]), np.log(row[chosen]), 1) for row in values]
        slope = float(np.mean([fit[0] for fit in fits]))
    columns = {"step": x, "value": center, "low": low, "high": high}
    return pd.DataFrame({**columns, "slope": slope})
