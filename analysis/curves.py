"""What figures of curves share: which seeds, bands, legends and captions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis import measures, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from analysis.load import Experiment
    from analysis.stacked import Runs

# Columns of a table of curves: one row a point.
# tuned: the chosen hyperparameters; num_runs: runs behind the point, diverged ones included;
# low, high: 95 % bootstrap interval over seeds, nan for a single run.
COLUMNS = [
    "case", "panel", "method", "tuned", "num_runs", "num_diverged",
    "step", "value", "low", "high",
]  # fmt: skip
FEW_POINTS = 3  # fewer make no curve
_HUGE = 1e30  # beyond this an axis cannot be scaled


def diverged_seeds(experiment: Experiment, case: str, method: str) -> set[int]:
    """Seeds whose final run has diverged."""
    return experiment.diverged(case, method)


def paired_seeds(frame: pd.DataFrame) -> list[int]:
    """Seeds that every method of `frame` has a run of: the only ones that can be paired."""
    seeds = [set(rows["seed"]) for _, rows in frame.groupby("method")]
    return sorted(set.intersection(*seeds)) if seeds else []


def band(runs: Runs) -> pd.DataFrame:
    """Median over seeds and its 95 % bootstrap interval: step, value, low, high.

    All methods are resampled with the same seeds (`measures.resampled_seeds`): paired.
    """
    interval = measures.bootstrap_interval(runs.values, "median")
    columns = dict(zip(("value", "low", "high"), interval, strict=True))
    return pd.DataFrame({"step": runs.steps, **columns})


def tuned(experiment: Experiment, case: str, method: str) -> str:
    """The chosen hyperparameters in short: `lr 0.1`; empty if nothing was searched.

    `(grid edge)` says that the search chose an end of its grid: a wider grid may do better.
    """
    choice = experiment.choice
    rows = choice[(choice["case"] == case) & (choice["method"] == method)]
    if rows.empty:
        return ""
    row = rows.iloc[0]
    values: Mapping[str, Any] = row["values"] if isinstance(row["values"], Mapping) else {}
    text = ", ".join(f"{key.rsplit('.', 1)[-1]} {_short(value)}" for key, value in values.items())
    return f"{text} (grid edge)" if row["at_edge"] == 1 else text


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def label(rows: pd.DataFrame) -> str:
    """A method's entry in the legend: name, tuned values, and how many runs diverged.

    Args:
        rows: one method's rows of a table of curves (`COLUMNS`).
    """
    first = rows.iloc[0]
    parts = [style.line(first["method"])["label"]]
    if first["tuned"]:
        parts.append(first["tuned"])
    if first["num_diverged"]:
        parts.append(f"{first['num_diverged']}/{first['num_runs']} diverged")
    return ", ".join(parts)


def draw_curve(
    axes: Axes, rows: pd.DataFrame, x: str, look: Mapping[str, Any] | None = None
) -> None:
    """Draw one method's rows of a table of curves against the column `x`, with their band.

    Args:
        look: colour, line style and label; by default the method's own.
    """
    look = dict(look or {**style.line(rows["method"].iloc[0]), "label": label(rows)})
    # Infinite values are not drawn, and huge ones only as far as an axis can be scaled; a band
    # that is unbounded above reaches there too, so that it visibly leaves the panel.
    x_values, value = rows[x].to_numpy(), rows["value"].to_numpy()
    finite = np.isfinite(value)
    # Few points are measurements with nothing known between them: they are marked.
    few = len(rows) < FEW_POINTS
    marks = {"marker": "o", "markersize": 4 if few else 2.5} if len(rows) <= 30 else {}
    axes.plot(x_values, np.where(finite, np.minimum(value, _HUGE), np.nan), **look, **marks)
    low, high = rows["low"].to_numpy(), rows["high"].to_numpy()
    drawn = finite & np.isfinite(low)
    if drawn.any():
        # An unbounded band covers the panel above its curve, and so the others': it is fainter.
        alpha = 0.15 if np.isfinite(high[drawn]).all() else 0.06
        low, high = np.minimum(low, _HUGE), np.minimum(high, _HUGE)
        if few:  # a band between points would hide that there is nothing in between
            ends = x_values[drawn], low[drawn], high[drawn]
            axes.vlines(*ends, color=look["color"], alpha=0.5, linewidth=1.5)
            return
        axes.fill_between(
            x_values, low, high, where=drawn, color=look["color"], alpha=alpha, linewidth=0
        )


def left_out(
    experiment: Experiment,
    used: Mapping[str, Sequence[int]],
    methods: Collection[str] | None = None,
) -> str:
    """A sentence on final runs that are in no curve; empty if there are none.

    Args:
        used: for each case, the seeds whose runs are drawn for every method.
        methods: where a figure shows a part of the experiment, its methods: the others, and the
            cases that are not in `used`, are none of its business.
    """
    final = experiment.final
    absent = {run.run_id for run in experiment.missing}
    shown = ~final["run_id"].isin(absent)
    if methods is not None:
        shown &= final["method"].isin(list(methods)) & final["case"].isin(list(used))
    final = final[shown].reset_index(drop=True)
    finished = final["status"].isin(["finished", "diverged"])
    num_failed = int((~finished).sum())
    entries = zip(final["case"], final["seed"], strict=True)
    kept = pd.Series([seed in used.get(case, ()) for case, seed in entries], dtype=bool)
    num_unpaired = int((finished & ~kept).sum())
    parts = []
    if num_failed:
        parts.append(f"{num_failed} failed or interrupted run(s) left out.")
    if num_unpaired:
        parts.append(f"{num_unpaired} run(s) left out because another method lacks their seed.")
    return " ".join(parts)


def momenta(runs: pd.DataFrame, labels: Mapping[str, str] | None = None) -> str:
    """A sentence on the methods that use momentum, from their parameter groups; may be empty.

    Args:
        runs: one row a run, with `method` and the manifest's `parameter_groups`.
        labels: a method's name, where its look's does not fit.
    """
    if "parameter_groups" not in runs:
        return ""
    used: dict[str, list[str]] = {}
    for _, row in runs.drop_duplicates("method").iterrows():
        for group in (row["parameter_groups"] or [])[:1]:
            if group["options"].get("momentum"):
                name = (labels or {}).get(row["method"]) or style.line(row["method"])["label"]
                used.setdefault(f"{group['options']['momentum']:g}", []).append(name)
    return " ".join(f"Momentum {value}: {listed(names)}." for value, names in used.items())


def listed(names: Sequence[str]) -> str:
    """Names in a row; where one has a comma of its own, semicolons keep them apart."""
    return ("; " if any("," in name for name in names) else ", ").join(names)


def provenance(runs: pd.DataFrame) -> str:
    """A sentence on where the runs come from: how many, on which machine, with which version.

    Args:
        runs: `Experiment.runs()`.
    """
    parts = [f"{len(runs)} run{'s' if len(runs) != 1 else ''}"]
    machines = sorted({_machine(row) for row in runs.to_dict("records")})
    parts.append(machines[0] if len(machines) == 1 else f"{len(machines)} machines")
    for name, column in (("torch", "packages.torch"), ("commit", "commit")):
        values = sorted({str(value)[:10] for value in _present(runs, column)})
        if values:
            parts.append(f"{name} {'/'.join(values[:3])}{'/...' if len(values) > 3 else ''}")
    if any(value is True for value in _present(runs, "dirty")):
        parts[-1] += " with uncommitted changes"
    return "; ".join(part for part in parts if part) + "."


def _machine(row: Mapping[str, Any]) -> str:
    parts = [str(row.get("hardware.cpu") or "")]
    if _known(row.get("hardware.cores")):
        parts.append(f"{int(row['hardware.cores'])} cores")
    if _known(row.get("hardware.memory_gib")):
        parts.append(f"{float(row['hardware.memory_gib']):.0f} GiB")
    if _known(row.get("hardware.gpu")):
        parts.append(str(row["hardware.gpu"]))
    return ", ".join(part for part in parts if part)


def _known(value: Any) -> bool:
    return value is not None and value != "" and value == value


def _present(runs: pd.DataFrame, column: str) -> list[Any]:
    return [value for value in runs[column] if _known(value)] if column in runs else []
