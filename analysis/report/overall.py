"""Methods compared over all tasks on which they were tuned: ranks and performance profiles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from analysis import measures
from analysis.report import charts
from analysis.report.evidence import Race
from analysis.report.markup import Raw, join, number, table, tag

LEAST_TASKS = 3


def overall(races: Sequence[Race]) -> Raw:
    """The section on all tasks together; says so where there are too few."""
    tasks = distinct(races)
    methods = common(tasks)
    if not methods:
        text = f"Fewer than {LEAST_TASKS} tasks share two tuned methods, so none are ranked."
        return tag("p", text, class_="gap")
    tasks = [race for race in tasks if set(methods) <= race.losses.keys()]
    return join([_said(tasks, methods), _ranks(tasks, methods), _profile(tasks, methods)])


def distinct(races: Sequence[Race]) -> list[Race]:
    """One race a task and scale, that with the most methods: variants of a task count once."""
    best: dict[tuple[str, str], Race] = {}
    for race in sorted(races, key=lambda race: (race.experiment, race.case)):
        key = race.task, race.scale
        if key not in best or len(race.losses) > len(best[key].losses):
            best[key] = race
    return list(best.values())


def common(races: Sequence[Race]) -> list[str]:
    """The methods to compare: the most frequent ones, as many as many tasks still share.

    Of the n most frequent, n = 2, 3, ..., those with the most cells (methods times tasks that have
    all of them) are taken, where at least `LEAST_TASKS` tasks are left; [] if there are none.
    """
    counts = Counter(method for race in races for method in race.losses)
    order = sorted(counts, key=lambda method: (-counts[method], method))
    best, most = [], 0
    for size in range(2, len(order) + 1):
        chosen = order[:size]
        left = sum(set(chosen) <= race.losses.keys() for race in races)
        if left >= LEAST_TASKS and size * left >= most:
            best, most = chosen, size * left
    return best


def _said(tasks: Sequence[Race], methods: Sequence[str]) -> Raw:
    names = ", ".join(f"{race.task} ({race.scale}; {race.experiment})" for race in tasks)
    text = (
        f"The {len(methods)} methods that most tasks share, on the {len(tasks)} tasks that have "
        f"all of them tuned, each with as many trials as the others: {names}. Ranks are of the "
        "median final training loss. Tasks differ in how much was tried, and a mean rank says "
        "nothing about one of them."
    )
    return tag("p", text)


def _ranks(tasks: Sequence[Race], methods: Sequence[str]) -> Raw:
    scores = np.array([[race.losses[method] for method in methods] for race in tasks])
    ranked = measures.rank_table(scores)
    order = np.argsort(ranked.mean_ranks, kind="stable")
    rows = [
        [
            charts.label(methods[i]),
            f"{ranked.mean_ranks[i]:.2f}",
            int((_places(scores)[:, i] == 1).sum()),
        ]
        for i in order
    ]
    note = (
        f"Two methods differ at the 5 % level when their mean ranks are {ranked.critical:.2f} "
        "apart (Nemenyi)."
    )
    if np.isfinite(ranked.friedman):
        note += f" That all are alike has p = {number(ranked.friedman, 2)} (Friedman)."
    return join([table(["method", "mean rank", "first on"], rows, numeric=(1, 2)), tag("p", note)])


def _places(scores: np.ndarray) -> np.ndarray:
    """Places with ties sharing the best one."""
    return 1 + (scores[:, None, :] < scores[:, :, None]).sum(axis=2)


def _profile(tasks: Sequence[Race], methods: Sequence[str]) -> Raw:
    costs = np.array([[race.steps[method] for method in methods] for race in tasks])
    ratios = np.geomspace(1, 16, 60)
    shares = measures.performance_profile(costs, ratios)
    lines = [charts.line_of(m, ratios, shares[:, i]) for i, m in enumerate(methods)]
    title = "Share of tasks solved within a multiple of the fewest steps"
    drawn = charts.chart(lines, "multiple of the fewest steps", "share", title, True, False)
    note = (
        "Performance profiles [Dolan and Moré 2002]: a task is solved at the loss at which the "
        "median method ends there; the median over seeds counts."
    )
    return join([tag("div", drawn, class_="charts"), tag("p", note)])
