"""Runs the requests of an experiment, several at once where they may share the machine."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable
from typing import Any

from runners.environment import num_cores
from runners.plan import Plan, Request
from runners.settings import Outcome


def run_requests(
    compose_and_run: Callable[..., dict[str, Any]],
    plan: Plan,
    requests: list[Request],
    stage: str,
) -> list[Outcome]:
    """Make every request's run; a failed one does not stop the rest.

    A mistake in what was asked for does, since every other run would share it, and so does a stop.

    Runs that are timed alone are made one after the other with all cores; the others in as many
    processes as there are cores, one thread each.

    Raises:
        KeyboardInterrupt: if a run was stopped.
        ValueError: if a run is not possible as asked for, with the reason.
    """
    if not requests:
        return []
    alone = any(request.overrides.get("timing") == "exclusive" for request in requests)
    workers = 1 if alone else min(num_cores(), len(requests))
    calls = [(list_overrides(request), plan.name, workers) for request in requests]
    outcomes: list[Outcome | None] = [None] * len(calls)
    counter = Counter(f"{plan.name} {stage}", len(calls))
    if workers == 1:
        for i, call in enumerate(calls):
            outcomes[i] = checked(Outcome(**compose_and_run(*call)))
            counter.count()
        return outcomes
    import joblib

    def numbered(i: int, *call: Any) -> tuple[int, dict[str, Any]]:
        return i, compose_and_run(*call)

    parallel = joblib.Parallel(n_jobs=workers, return_as="generator_unordered")
    with warnings.catch_warnings():
        # joblib's advice when a mistake or a stop ends the loop early
        warnings.filterwarnings("ignore", ".*still being processed by the workers", UserWarning)
        results = parallel(joblib.delayed(numbered)(i, *c) for i, c in enumerate(calls))
        with contextlib.closing(results):
            for i, outcome in results:
                outcomes[i] = checked(Outcome(**outcome))
                counter.count()
    return outcomes


def checked(outcome: Outcome) -> Outcome:
    """Pass an outcome on, unless it ends the whole command."""
    if outcome.status == "interrupted":
        raise KeyboardInterrupt
    if outcome.status == "invalid":
        raise ValueError(outcome.reason)
    return outcome


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
        self.label, self.total, self.done = label, total, 0
        self.step = max(1, total // 20)

    def count(self) -> None:
        self.done += 1
        if self.done % self.step == 0 or self.done == self.total:
            print(f"{self.label}: {self.done}/{self.total}", file=sys.stderr, flush=True)
