"""The training clock: counts what training costs, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter


class Clock:
    """Accumulates the time spent inside `with clock:` blocks.

    Evaluation, norms, telemetry, logging and checkpointing stay outside, so they never enter
    `train_seconds`.

    Args:
        seconds: time already spent, from a checkpoint.
        synchronize: waits for the device's queue before the clock is read; None on a CPU.
    """

    def __init__(self, seconds: float = 0.0, synchronize: Callable[[], None] | None = None):
        self.seconds = seconds
        self._synchronize = synchronize
        self._start = 0.0

    def __enter__(self) -> Clock:
        self._start = perf_counter()
        return self

    def __exit__(self, *exc_info) -> None:
        if self._synchronize is not None:
            self._synchronize()
        self.seconds += perf_counter() - self._start
