"""An experiment's part of the page: its runs, settings, search, costs and differences."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from analysis import captions
from analysis.load import MissingRecordsError
from analysis.report import evidence
from analysis.report.charts import label
from analysis.report.markup import (
    Raw,
    code,
    details,
    join,
    number,
    seconds,
    share,
    size,
    table,
    tag,
)  # fmt: skip
from analysis.report.searches import search
from runners.records import RecordsError

if TYPE_CHECKING:
    from analysis.load import Experiment, Records

PLANS = Path(__file__).resolve().parents[2] / "conf" / "experiment"


def block(records: Records, name: str) -> Raw:
    """One experiment, or why there is nothing of it."""
    anchor = f"exp-{name}"
    try:
        experiment = records.experiment(name)
        parts = [
            _runs(experiment),
            _configuration(name),
            search(experiment),
            _costs(experiment),
            _standings(experiment),
        ]
    except MissingRecordsError as error:
        return tag("div", tag("p", f"Not run: {error}", class_="gap"), id=anchor)
    except RecordsError as error:
        return tag("div", tag("p", f"Cannot be read: {error}", class_="gap"), id=anchor)
    head = tag("h4", join(["Experiment ", code(name)], ""))
    return tag("div", join([head, *parts]), id=anchor, class_="experiment")


def measurement(records: Records, name: str) -> Raw:
    """One measurement: how and on what it was made; or why there is nothing of it."""
    try:
        facts = records.measurement(name).attrs
    except RecordsError as error:
        return tag("p", f"{error}", class_="gap")
    hardware = facts.get("hardware") or {}
    told = [
        f"{facts.get('kind')}, {seconds(facts.get('seconds'))}",
        f"{hardware.get('cpu')}, {hardware.get('cores')} cores",
        f"{facts.get('num_threads')} thread" + ("s" if facts.get("num_threads") != 1 else ""),
        f"torch {(facts.get('packages') or {}).get('torch')}",
        f"commit {str(facts.get('commit'))[:10]}{' with changes' if facts.get('dirty') else ''}",
    ]
    made = join(["Made by ", code(facts.get("command", "")), f": {'; '.join(told)}."], "")
    head = tag("h4", join(["Measurement ", code(name)], ""))
    return tag("div", join([head, tag("p", made)]), id=f"exp-{name}", class_="experiment")


# ---------------------------------------------------------------- runs and settings


def _runs(experiment: Experiment) -> Raw:
    runs, final = experiment.runs(), experiment.final
    about = [
        f"{len(runs)} final runs, {len(experiment.trials) or 'no'} trials.",
        f"Scale {_said(runs, 'scale')}, budget {_said(runs, 'budget')}.",
        f"Stand-in: {experiment.stand_in}." if experiment.stand_in else "",
        f"Chosen by: {experiment.rule}." if experiment.rule else "Nothing was searched.",
        captions.missing(experiment),
    ]
    status = ", ".join(f"{n} {state}" for state, n in final["status"].value_counts().items())
    made = [
        ("status", status),
        ("seeds", ", ".join(map(str, sorted(set(final["seed"]))))),
        ("machine", _said(runs, "hardware.cpu")),
        ("cores", _said(runs, "hardware.cores")),
        ("GPU", _said(runs, "hardware.gpu")),
        ("threads a run", _said(runs, "num_threads")),
        ("timed", _said(runs, "timing")),
        ("precision", _said(runs, "precision")),
        ("data", _said(runs, "data")),
        ("torch", _said(runs, "packages.torch")),
        ("commit", _said(runs, "commit", 10)),
        ("parameters", _said(runs, "num_parameters")),
    ]
    listed = table(["", ""], [[key, value] for key, value in made if value])
    command = tag("p", join(["Made by ", code(experiment.command)], ""))
    summary = f"Runs: {len(runs)}"
    return join(
        [tag("p", " ".join(filter(None, about))), details(summary, join([command, listed]))]
    )


def _said(runs: Any, column: str, most: int = 60) -> str:
    """The different values of a column, in words."""
    if column not in runs:
        return ""
    values = sorted(
        {str(value)[:most] for value in runs[column] if value is not None and value == value}
    )
    more = f" and {len(values) - 4} more" if len(values) > 4 else ""
    return ", ".join(values[:4]) + more


def _configuration(name: str) -> Raw:
    path = PLANS / f"{name}.yaml"
    if not path.is_file():
        return Raw("")
    text = path.read_text()
    plan = yaml.safe_load(text)
    rows = [["every run", _overrides(plan.get("common") or {})]]
    rows += [[f"case {case}", _overrides(own)] for case, own in plan["cases"].items()]
    rows += [[label(method), _overrides(own)] for method, own in plan["methods"].items()]
    for stage in ("search", "final"):
        rows.append([stage, _overrides(plan.get(stage) or {})])
    header = "\n".join(line[2:] for line in text.splitlines() if line.startswith("#"))
    parts = [table(["", "configuration"], rows), tag("pre", header.strip())]
    return details("Configuration", join(parts))


def _overrides(values: Mapping[str, Any]) -> Raw:
    def said(value: Any) -> str:
        if isinstance(value, dict) and "_target_" in value:
            return str(value["_target_"]).rpartition(".")[2]
        if isinstance(value, dict):
            return "{" + ", ".join(f"{k}: {said(v)}" for k, v in value.items()) + "}"
        return yaml.safe_dump(value, default_flow_style=True, width=1000).split("\n")[0]

    return join((code(f"{key}={said(value)}") for key, value in values.items()), " ")


# ---------------------------------------------------------------- costs and differences


def _costs(experiment: Experiment) -> Raw:
    found = evidence.costs(experiment)
    rows = [
        [
            c.case, label(c.method), seconds(c.step_seconds), seconds(c.wall_seconds),
            share(c.training), share(c.evaluation), share(c.rest), size(c.state_bytes),
            size(c.peak_bytes), "alone" if c.alone else "shared",
        ]
        for c in found
    ]  # fmt: skip
    header = [
        "case", "method", "a step", "a run", "training", "evaluation", "rest", "state",
        "peak memory", "machine",
    ]  # fmt: skip
    note = (
        "Medians over the final runs. Rest: loading, norms, telemetry, records and checkpoints; "
        "and the evaluation where older runs did not time it (–). Seconds of a machine that was "
        "shared do not compare."
    )
    return details("Cost", join([tag("p", note), table(header, rows, range(2, 9))]))


def _standings(experiment: Experiment) -> Raw:
    rows = []
    for case in experiment.cases():
        for s in evidence.standings(experiment, case):
            interval = f"{number(s.difference, 3)} [{number(s.low, 3)}, {number(s.high, 3)}]"
            diverged = f", {s.num_diverged} diverged" if s.num_diverged else ""
            rows.append(
                [
                    case, label(s.method), f"{s.num_runs}{diverged}", number(s.loss),
                    number(s.value), "best" if math.isnan(s.difference) else interval,
                    number(s.effect, 2), _more(s.more),
                ]
            )  # fmt: skip
    header = [
        "case", "method", "runs", "final loss", "target metric", "difference to the best [95 %]",
        "effect size", "more seeds needed",
    ]  # fmt: skip
    note = (
        "Final loss: mean training loss over the last tenth of the steps, median over the seeds. "
        "Differences and effect sizes (Hedges' g) are paired by seed; the last column says how "
        "many more seeds would tell a method from the best one with a chance of 80 %, if the "
        "difference seen were the true one."
    )
    return details("Differences", join([tag("p", note), table(header, rows, range(2, 8))]))


def _more(value: float) -> str:
    if math.isnan(value):
        return "–"
    return "0" if value == 0 else "> 10000" if math.isinf(value) else f"{value:.0f}"
