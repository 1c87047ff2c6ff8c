"""Sentences under a figure: which runs, how they were chosen, what is missing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from analysis import curves, lettering, looks, style

if TYPE_CHECKING:
    from analysis.load import Experiment

_MOST_NAMED = 3


def stand_ins(experiments: Iterable[Experiment]) -> str:
    """What stands for what in all experiments, for the title; empty if nothing does."""
    said = dict.fromkeys(e.stand_in for e in experiments if e.stand_in)
    return "; ".join(said)


def heading(title: str, experiments: Iterable[Experiment], width: float) -> str:
    """A figure's title with what stands in for the paper's own, wrapped to `width` inches."""
    said = stand_ins(experiments)
    lines = [
        lettering.wrapped(line, 0.95 * width - 0.1, style.TITLE_SIZE)
        for line in (title, f"stand-in: {said}")
    ]
    return "\n".join(lines if said else lines[:1])


def missing(
    experiment: Experiment,
    cases: Collection[str] | None = None,
    methods: Collection[str] | None = None,
    labels: Mapping[str, str] | None = None,
) -> str:
    """A sentence on final runs whose records are absent, with the command; may be empty.

    Args:
        cases, methods: those that a figure shows; by default all.
        labels: a method's name, where its look's does not fit.
    """
    absent = [
        run
        for run in experiment.missing
        if (cases is None or run.case in cases) and (methods is None or run.method in methods)
    ]
    if not absent:
        return ""
    several = len(set(experiment.cases())) > 1
    named = [
        f"{_name(run.method, labels)} seed {run.seed}{f' ({run.case})' if several else ''}"
        for run in absent[:_MOST_NAMED]
    ]
    more = f" and {len(absent) - len(named)} more" if len(absent) > len(named) else ""
    again = f"python -m scripts.restore {experiment.name}"  # without the search
    return f"Missing: {', '.join(named)}{more}; make it with: {again}."


def chosen_by(experiment: Experiment) -> str:
    """A sentence on the rule of the search and the number of trials; may be empty."""
    if not experiment.rule or not len(experiment.choice):
        return ""
    trials = sorted(set(experiment.choice["num_trials"]))
    number = "/".join(str(int(count)) for count in trials)
    return f"Chosen from {number} trials a method by: {experiment.rule.rstrip('.')}."


def given_rates(
    experiment: Experiment, runs: pd.DataFrame, labels: Mapping[str, str] | None = None
) -> str:
    """A sentence with the learning rates that were given and not searched for; may be empty.

    Args:
        runs: those of `Experiment.runs()` that a figure shows.
        labels: a method's name, where its look's does not fit.
    """
    choice = experiment.choice
    searched = {(row["case"], row["method"]) for row in choice.to_dict("records") if row["values"]}
    rates: dict[str, list[str]] = {}
    for row in runs.to_dict("records"):
        groups = row.get("parameter_groups")
        options = groups[0]["options"] if isinstance(groups, list) and groups else {}
        if (row["case"], row["method"]) not in searched and options.get("lr") is not None:
            rates.setdefault(row["method"], []).append(f"{float(options['lr']):g}")
    parts = [f"{_name(m, labels)} {'/'.join(dict.fromkeys(own))}" for m, own in rates.items()]
    return f"Given learning rates: {curves.listed(parts)}." if parts else ""


def tuned_values(data: pd.DataFrame, labels: Mapping[str, str] | None = None) -> str:
    """A sentence with each method's chosen values, for each case; may be empty.

    Args:
        data: a table with `experiment`, `case`, `method` and `tuned`.
    """
    rows = data[data["tuned"] != ""].drop_duplicates(["experiment", "case", "method"])
    several = len(data[["experiment", "case"]].drop_duplicates()) > 1
    parts = []
    for (_, case), group in rows.groupby(["experiment", "case"], sort=False):
        values = curves.listed(
            [f"{_name(row['method'], labels)} {row['tuned']}" for row in group.to_dict("records")]
        )
        parts.append(f"{case}: {values}" if several else values)
    between = ". " if any(";" in part for part in parts) else "; "
    return f"Chosen: {between.join(parts)}." if parts else ""


def diverged(data: pd.DataFrame, labels: Mapping[str, str] | None = None) -> str:
    """A sentence on diverged runs among those drawn; may be empty.

    Args:
        data: as for `tuned_values`, with `num_diverged` and `num_runs`.
    """
    rows = data[data["num_diverged"] > 0].drop_duplicates(["experiment", "case", "method"])
    several = len(data[["experiment", "case"]].drop_duplicates()) > 1
    parts = [
        f"{_name(row['method'], labels)} {row['num_diverged']}/{row['num_runs']}"
        + (f" ({row['case']})" if several else "")
        for row in rows.to_dict("records")
    ]
    return f"Diverged: {curves.listed(parts)}." if parts else ""


def diverged_runs(experiment: Experiment, labels: Mapping[str, str] | None = None) -> str:
    """A sentence on the diverged runs of a whole experiment; may be empty.

    Args:
        labels: a method's name, where its look's does not fit.
    """
    final = experiment.final
    counts = final.assign(num_diverged=final["status"] == "diverged", num_runs=1)
    places = ["case", "method"]
    counts = counts.groupby(places, sort=False)[["num_diverged", "num_runs"]].sum().reset_index()
    return diverged(counts.assign(experiment=experiment.name), labels)


def setting(runs: pd.DataFrame) -> str:
    """A sentence on the scale and the budget of the runs.

    Args:
        runs: `Experiment.runs()`.
    """
    parts = []
    for name in ("scale", "budget"):
        values = sorted({str(value) for value in runs[name].dropna()}) if name in runs else []
        if values:
            parts.append(f"{name}={'/'.join(values)}")
    return f"{', '.join(parts)}." if parts else ""


def of_experiment(
    experiment: Experiment,
    cases: Sequence[str],
    methods: Sequence[str],
    labels: Mapping[str, str] | None = None,
    paired: bool = True,
) -> list[str]:
    """Sentences on one experiment: its search, its setting, what is left out or missing.

    Args:
        cases, methods: those that a figure shows.
        labels: a method's name, where its look's does not fit.
        paired: whether only seeds are drawn that all methods have.
    """
    runs = experiment.runs()
    runs = runs[runs["case"].isin(cases) & runs["method"].isin(methods)]
    used = {}
    for case in cases:
        own = runs[runs["case"] == case]
        shared = curves.paired_seeds(own) if paired else []
        used[case] = shared or sorted(set(own["seed"]))
    sentences = [
        setting(runs),
        curves.momenta(runs, labels),
        chosen_by(experiment),
        given_rates(experiment, runs, labels),
        curves.left_out(experiment, used, methods),
        missing(experiment, cases, methods, labels),
    ]
    return [sentence for sentence in sentences if sentence]


def _name(method: str, labels: Mapping[str, str] | None) -> str:
    return (labels or {}).get(method) or str(looks.line(method)["label"])
