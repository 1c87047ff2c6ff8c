"""Runs the requests of an experiment, several at once where they may share the machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from runners.experiment import Plan, Request
from runners.settings import Outcome


def run_requests(
    compose_and_run: Callable[..., dict[str, Any]],
    plan: Plan,
    requests: list[Request],
    stage: str,
) -> list[Outcome]:
    """Make every request's run; a failed one does not stop the rest, a stopped one does.

    Runs that are timed alone are made one after the other with all cores; the others in as many
    processes as there are cores, one thread each.

    Raises:
        KeyboardInterrupt: if a run was stopped.
    """
    if not requests:
        return []
    alone = any(request.overrides.get("timing") == "exclusive" for request in requests)
    workers = 1 if alone else min(os.cpu_count() or 1, len(requests))
    calls = [(list_overrides(request), plan.name, workers) for request in requests]
    outcomes: list[Outcome | None] = [None] * len(calls)
    counter = Counter(f"{plan.name} {stage}", len(calls))
    if workers == 1:
        for i, call in enumerate(calls):
            outcomes[i] = counter.done(Outcome(**compose_and_run(*call)))
        return outcomes
    import joblib

    def numbered(i: int, *call: Any) -> tuple[int, dict[str, Any]]:
        return i, compose_and_run(*call)

    parallel = joblib.Parallel(n_jobs=workers, return_as="generator_unordered")
    for i, outcome in parallel(joblib.delayed(numbered)(i, *c) for i, c in enumerate(calls)):
        outcomes[i] = counter.done(Outcome(**outcome))
    return outcomes


def list_overrides(request: Request) -> list[str]:
    """A request's overrides as Hydra reads them."""

    def text(value: Any) -> str:
        return (
            "null"
            if value is None
            else str(value).lower()
            if isinstance(value, bool)
            else str(value)
        )

    return [f"{key}={text(value)}" for key, value in request.overrides.items()]


class Counter:
    """Says how far a stage is, a line every so often."""

    def __init__(self, label: str, total: int):
        self.label, self.total, self.count = label, total, 0
        self.step = max(1, total // 20)

    def done(self, outcome: Outcome) -> Outcome:
        if outcome.status == "interrupted":
            raise KeyboardInterrupt  # the user wants the whole command to stop
        self.count += 1
        if self.count % self.step == 0 or self.count == self.total:
            print(f"{self.label}: {self.count}/{self.total}", file=sys.stderr, flush=True)
        return outcome
