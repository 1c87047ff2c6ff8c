"""Experiments in two stages: a search that chooses hyperparameters, then fresh seeds with them.

Every method of a case gets the same number of trials; without a search, each has the values that
its configuration gives. The choice is kept beside the records, in
`<runs_dir>/experiments/<name>.json`; runs that are there already are not made again, so an
experiment that was cut off goes on when the same command is given.
"""

from __future__ import annotations

import itertools
import math
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runners.records import SCHEMA_VERSION, write_json
from runners.settings import Outcome

Overrides = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """One run that an experiment needs."""

    case: str
    method: str
    values: Overrides
    seed: int
    overrides: Overrides


@dataclass(frozen=True)
class Plan:
    """An experiment as data; see conf/experiment for examples.

    Attributes:
        common: overrides of every run.
        cases, methods: name -> overrides; a method may bring its own `grid`.
        grid: key -> values, for methods without their own.
        search_seeds, final_seeds: disjoint, so that nothing is tuned on what is reported.
        search_overrides, final_overrides: overrides of one stage.
        score: run folder -> number, lower is better; None where nothing is searched.
        extra: overrides from the command line, which win.
    Raises:
        ValueError: if the methods' numbers of trials differ, the stages share a seed, a grid is
            given and not searched, or the command line sets a seed.
    """

    name: str
    common: Overrides
    cases: Mapping[str, Overrides]
    methods: Mapping[str, Overrides]
    grids: Mapping[str, Mapping[str, Sequence[Any]]]
    search_seeds: Sequence[int]
    final_seeds: Sequence[int]
    search_overrides: Overrides
    final_overrides: Overrides
    score: Callable[[Path], float] | None
    extra: Overrides

    def __post_init__(self):
        budgets = {method: len(points(grid)) for method, grid in self.grids.items()}
        if not self.search_seeds and set(budgets.values()) != {1}:
            raise ValueError(
                f"experiment {self.name}: a grid must come with search.seeds, got trials {budgets}"
            )
        if len(set(budgets.values())) > 1:
            raise ValueError(f"experiment {self.name}: methods differ in trials: {budgets}")
        if "seed" in self.extra:
            raise ValueError(
                f"experiment {self.name} sets the seeds itself: experiment.final.seeds=[...]"
            )
        shared = set(self.search_seeds) & set(self.final_seeds)
        if shared:
            raise ValueError(f"experiment {self.name}: seeds {shared} are in both stages")

    def request(self, case: str, method: str, values: Overrides, seed: int, stage: Overrides):
        """The run of one case, method, point of the grid and seed."""
        overrides = {
            **self.common,
            **self.cases[case],
            **self.methods[method],
            **stage,
            **values,
            "seed": seed,
            **self.extra,
        }
        return Request(case, method, values, seed, overrides)

    def samples(self) -> list[Request]:
        """One trial of each case and method: whatever composes for these composes for all."""
        return [
            self.request(case, method, points(self.grids[method])[0], 0, self.search_overrides)
            for case, method in itertools.product(self.cases, self.methods)
        ]

    def trials(self) -> list[Request]:
        return [
            self.request(case, method, values, seed, self.search_overrides)
            for case, method in itertools.product(self.cases, self.methods)
            for values in points(self.grids[method])
            for seed in self.search_seeds
        ]

    def num_finals(self) -> int:
        return len(self.cases) * len(self.methods) * len(self.final_seeds)

    def finals(self, choice: Iterable[Mapping[str, Any]]) -> list[Request]:
        return [
            self.request(c["case"], c["method"], c["values"], seed, self.final_overrides)
            for c in choice
            for seed in self.final_seeds
        ]


def make_plan(
    experiment: Mapping[str, Any], score: Callable[[Path], float] | None, extra: Overrides
) -> Plan:
    """A plan from the plain data of an experiment's YAML; `search: null` searches nothing."""
    search = experiment["search"] or {"seeds": []}
    methods = {name: dict(entry) for name, entry in experiment["methods"].items()}
    default = search.get("grid", {})
    grids = {name: entry.pop("grid", default) for name, entry in methods.items()}
    return Plan(
        name=experiment["name"],
        common=dict(experiment.get("common", {})),
        cases={name: dict(entry) for name, entry in experiment["cases"].items()},
        methods=methods,
        grids=grids,
        search_seeds=list(search["seeds"]),
        final_seeds=list(experiment["final"]["seeds"]),
        search_overrides=dict(search.get("overrides", {})),
        final_overrides=dict(experiment["final"].get("overrides", {})),
        score=score,
        extra=extra,
    )


def command_line(typed: Sequence[str]) -> tuple[Overrides, str]:
    """Overrides of the runs, and the command as the index keeps it, from what was typed.

    `experiment...` keys change the plan, not its runs. Places are the user's own business, so
    they do not enter the index.

    Raises:
        ValueError: for anything but key=value.
    """
    extra = {}
    for item in typed:
        key, equals, value = item.partition("=")
        if not equals or key[0] in "+~":
            raise ValueError(f"an experiment takes key=value on the command line, got {item}")
        if not key.startswith("experiment"):
            extra[key] = value
    kept = [t for t in typed if t.partition("=")[0] not in ("runs_dir", "data_dir")]
    return extra, " ".join(["python run.py", *map(shlex.quote, kept)])


def points(grid: Mapping[str, Sequence[Any]]) -> list[Overrides]:
    """All combinations of a grid's values."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def run_experiment(
    plan: Plan,
    runs_dir: Path,
    run_all: Callable[[list[Request], str], list[Outcome]],
    command: str,
    rule: str,
) -> dict[str, Any]:
    """Run both stages and write the index.

    Args:
        run_all: makes the runs of a list of requests, in any order, and returns their outcomes in
            the order of the list; its second argument names the stage.
        rule: in words, what chose.
    Returns:
        The index, as written. Its status is "finished" when every run has an outcome.
    """
    index = {
        "schema_version": SCHEMA_VERSION,
        "name": plan.name,
        "command": command,
        "rule": rule,
        "status": "interrupted",
        "trials": [],
        "choice": [],
        "final": [],
    }
    path = runs_dir / "experiments" / f"{plan.name}.json"
    if path.exists():  # its runs may be replaced, and then it does not describe them any more
        write_json(path, index)
    requests = plan.trials()
    outcomes = run_all(requests, "search")
    for request, outcome in zip(requests, outcomes, strict=True):
        score = None
        if outcome.record_status == "finished":
            value = plan.score(Path(outcome.run_dir))
            score = value if math.isfinite(value) else None
        index["trials"].append({**entry(request, outcome), "score": score})
    index["choice"] = choose(plan, index["trials"])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, index)
    finals = plan.finals(index["choice"])
    outcomes = run_all(finals, "final")
    index["final"] = [entry(r, o) for r, o in zip(finals, outcomes, strict=True)]
    # A run that fails again and again is part of the result: the figure's caption counts it.
    complete = all(
        e["status"] in ("finished", "diverged", "failed") for e in index["trials"] + index["final"]
    )
    index["status"] = "finished" if complete else "interrupted"
    write_json(path, index)
    return index


def entry(request: Request, outcome: Outcome) -> dict[str, Any]:
    """A run's line in the index."""
    return {
        "case": request.case,
        "method": request.method,
        "values": request.values,
        "seed": request.seed,
        "task": outcome.task,
        "optimizer": outcome.optimizer,
        "run_id": outcome.run_id,
        "status": outcome.record_status or outcome.status,
        "reason": outcome.reason if outcome.status in ("failed", "invalid") else "",
    }


def choose(plan: Plan, trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The point of least mean score over the search seeds, for each case and method.

    A point at which a trial diverged or failed is not eligible. `at_edge` says that the choice
    is the first or last value of its grid, so that a better one may lie outside. Without a search
    there is one point, and no score.

    Raises:
        ValueError: if no point of a method is eligible.
    """
    choices = []
    for case, method in itertools.product(plan.cases, plan.methods):
        grid = plan.grids[method]
        if not plan.search_seeds:
            (values,) = points(grid)
            choices.append(chosen(case, method, values))
            continue
        mine = [t for t in trials if (t["case"], t["method"]) == (case, method)]
        scored = []
        for values in points(grid):
            scores = [t["score"] for t in mine if t["values"] == values]
            if scores and None not in scores:
                scored.append((math.fsum(scores) / len(scores), values))
        if not scored:
            raise ValueError(f"experiment {plan.name}: no trial of {method} on {case} finished")
        score, values = min(scored, key=lambda pair: pair[0])
        edge = any(
            len(options) > 1 and values[key] in (options[0], options[-1])
            for key, options in grid.items()
        )
        choices.append(chosen(case, method, values, score, len(mine), edge))
    return choices


def chosen(
    case: str,
    method: str,
    values: Overrides,
    score: float | None = None,
    num_trials: int = 0,
    at_edge: bool = False,
) -> dict[str, Any]:
    """A choice's line in the index."""
    return {
        "case": case,
        "method": method,
        "values": values,
        "score": score,
        "num_trials": num_trials,
        "at_edge": at_edge,
    }
