"""Experiments as data: which runs a YAML of conf/experiment asks for.

Two stages: a search over declared values, then final runs with fresh seeds and what was chosen.
"""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
        facts: what is told of the experiment and changes no run; see `facts_of`.
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
    facts: Mapping[str, Any] = field(default_factory=dict)

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
        facts=facts_of(experiment),
    )


def facts_of(experiment: Mapping[str, Any]) -> dict[str, Any]:
    """What an experiment's YAML tells of it, checked: cost, stand_in, shipped.

    Returns:
        cost: scale -> hours on two cores, {} where unknown; stand_in: what stands for what, or
        None; shipped: whether its records are kept in results/ or made by `make figures`.
    Raises:
        ValueError: for a value of another kind.
    """
    name, cost = experiment["name"], experiment.get("cost") or {}
    stand_in, shipped = experiment.get("stand_in"), experiment.get("shipped", True)
    hours = cost.values() if isinstance(cost, Mapping) else [None]
    if not all(isinstance(h, int | float) and not isinstance(h, bool) and h > 0 for h in hours):
        raise ValueError(f"experiment {name}: cost must be scale -> hours > 0, got {cost!r}")
    if not (stand_in is None or isinstance(stand_in, str)):
        raise ValueError(f"experiment {name}: stand_in must be one line of text, got {stand_in!r}")
    if not isinstance(shipped, bool):
        raise ValueError(f"experiment {name}: shipped must be true or false, got {shipped!r}")
    return {"cost": dict(cost), "stand_in": stand_in, "shipped": shipped}


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
