"""Experiments in two stages: a search that chooses hyperparameters, then fresh seeds with them.

Every method of a case gets the same number of trials; without a search, each has the values that
its configuration gives. The choice is kept beside the records, in
`<runs_dir>/experiments/<name>.json`; runs that are there already are not made again, so an
experiment that was cut off goes on when the same command is given.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runners.plan import Overrides, Plan, Request, points
from runners.records import SCHEMA_VERSION, RecordsError, read_manifest, write_json
from runners.settings import Outcome


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
        **plan.facts,
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
    """A run's line in the index; trials are not shipped, so it tells what they took."""
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
        **seconds_of(outcome),
    }


def seconds_of(outcome: Outcome) -> dict[str, float | None]:
    """Seconds that a run took: from its beginning to its end, and of its steps alone."""
    try:
        manifest = read_manifest(outcome.run_dir)
    except RecordsError:
        manifest = {}
    return {"seconds": manifest.get("wall_seconds"), "train_seconds": manifest.get("train_seconds")}


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
