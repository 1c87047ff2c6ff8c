"""Numbers that compare the methods of an experiment: ends, steps to a target, effects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis import curves, measures

if TYPE_CHECKING:
    from analysis.load import Experiment

# The median over seeds, but for the difference, which is of means; nan where unknown. behind: how
# far the final value is behind the best method's, with its 95 % bootstrap interval over the seeds
# that both have; effect: of that, in paired standard deviations; more_seeds: seeds until a
# difference of this size is found with the chance .8.
COLUMNS = [
    "case", "method", "y", "num_runs", "num_diverged", "final", "best", "steps_to_target",
    "behind", "behind_low", "behind_high", "effect", "more_seeds",
]  # fmt: skip
SHARE = 0.1  # of the training steps: the end over which the loss is averaged


def summary(
    experiment: Experiment, case: str, y: str, direction: str = "min", target: float | None = None
) -> pd.DataFrame:
    """Return one row a method (`COLUMNS`), the best first.

    Args:
        y: "loss", the training loss, or "<metric>, <split>". Of the loss `final` is its mean over
            the last tenth of the steps, and so is what is compared with the target.
        direction: "min" or "max", what is better.
        target: a value of `y` to reach; None: steps_to_target is nan.
    """
    sign = 1.0 if direction == "min" else -1.0
    numbers = {m: _numbers(experiment, case, m, y, sign, target) for m in experiment.methods(case)}
    known = {m: n["final"].median() for m, n in numbers.items() if len(n)}
    order = sorted(known, key=known.get)
    rows = []
    for method in [*order, *(m for m in numbers if m not in known)]:
        own = numbers[method]
        diverged = curves.diverged_seeds(experiment, case, method)
        row: dict[str, Any] = {
            "case": case, "method": method, "y": y, "num_runs": len(own),
            "num_diverged": len(diverged & set(own.index)),
        }  # fmt: skip
        if len(own):
            row["final"], row["best"] = sign * own["final"].median(), sign * own["best"].median()
            row["steps_to_target"] = own["steps_to_target"].median()
        if len(own) and method != order[0]:
            row.update(_behind(numbers[order[0]]["final"], own["final"]))
        rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)


def _behind(best: pd.Series, own: pd.Series) -> dict[str, float]:
    seeds = best.index.intersection(own.index)
    if not len(seeds):
        return {}
    first, other = best.loc[seeds].to_numpy(), own.loc[seeds].to_numpy()
    center, low, high = measures.paired_difference(first, other)
    with np.errstate(invalid="ignore"):
        differences = np.where(first == other, 0.0, other - first)
    one = len(seeds) == 1
    return {
        "behind": float(center),
        "behind_low": np.nan if one else float(low),
        "behind_high": np.nan if one else float(high),
        "effect": measures.paired_effect(differences),
        "more_seeds": measures.more_seeds(differences),
    }


def _numbers(
    experiment: Experiment, case: str, method: str, y: str, sign: float, target: float | None
) -> pd.DataFrame:
    """final, best and steps_to_target, one row a seed; the values such that less is better."""
    if y == "loss":
        frame = experiment.steps(case, ("step", "loss", "train_seconds"))
        frame = frame.rename(columns={"loss": "value"})
    else:
        metric, _, split = y.partition(", ")
        frame = experiment.evals(case)
        frame = frame[(frame["metric"] == metric) & (frame["split"] == split)]
    frame = frame[frame["method"] == method].sort_values("step", kind="stable")
    diverged = curves.diverged_seeds(experiment, case, method)
    rows = {}
    for seed, run in frame.groupby("seed"):
        values, steps = sign * run["value"].to_numpy(dtype=float), run["step"].to_numpy()
        if y == "loss":
            values = measures.running_mean(values, max(1, round(SHARE * len(values))))
        values = np.where(np.isfinite(values), values, np.inf)
        reached = np.nan
        if target is not None:
            reached = measures.steps_to_target(steps, values, sign * target)
        final = np.inf if seed in diverged else values[-1]
        rows[seed] = {"final": final, "best": values.min(), "steps_to_target": reached}
    return pd.DataFrame.from_dict(
        rows, orient="index", columns=["final", "best", "steps_to_target"]
    )


def text(frame: pd.DataFrame, labels: Mapping[str, str]) -> list[dict[str, str]]:
    """The rows of `summary` as words, for a table in a terminal."""
    rows = []
    for row in frame.to_dict("records"):
        behind = "–" if np.isnan(row["behind"]) else f"{row['behind']:.3g}"
        if not np.isnan(row["behind_low"]):
            behind += f" [{row['behind_low']:.3g}, {row['behind_high']:.3g}]"
        number = str(row["num_runs"])
        if row["num_diverged"]:
            number += f" ({row['num_diverged']} diverged)"
        rows.append({
            "method": labels.get(row["method"], row["method"]),
            "runs": number,
            "final": _word(row["final"], ".4g"),
            "best": _word(row["best"], ".4g"),
            "steps to target": _word(row["steps_to_target"], ".0f"),
            "behind the best": behind,
            "effect": _word(row["effect"], ".2g"),
            "more seeds": _word(row["more_seeds"], ".0f"),
        })  # fmt: skip
    return rows


def _word(value: float, form: str) -> str:
    if np.isnan(value):
        return "–"
    return format(value, form) if np.isfinite(value) else "never" if form == ".0f" else "∞"
