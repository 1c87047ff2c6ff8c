"""Cells of the matrix optimizer x task: one short run each, through run.py's own path."""

from __future__ import annotations

import contextlib
import io
import signal
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RAN = ("finished", "diverged")
STATUSES = (*RAN, "refused", "no data", "failed")


@dataclass(frozen=True)
class Cell:
    """What came of one optimizer on one task.

    Attributes:
        status: one of STATUSES. A diverged run is a result; "refused" is a mistake of the user's
            as the project sees it, said in one line; "failed" is a fault of ours.
        reason: that line; "" for what ran.
    """

    optimizer: str
    task: str
    status: str
    reason: str = ""


class TooLongError(BaseException):
    """A cell has used up its time; nothing on the way may take it for an error of its own."""


def names(group: str) -> list[str]:
    """Names of the files of a configuration group, sorted."""
    import run

    return sorted(path.stem for path in (run.CONF / group).glob("*.yaml"))


def run_cell(
    optimizer: str, task: str, runs_dir: str, data_dir: str | None, seconds: int, workers: int = 1
) -> Cell:
    """Compose, build, measure and train one pair at scale=smoke, in this process's main thread.

    What the run prints is dropped.

    Args:
        data_dir: folder of the data sets; None: as run.py finds it.
        seconds: of the processor, after which the cell has failed.
        workers: cells that run at once.
    Raises:
        KeyboardInterrupt: if the run was stopped.
    """
    overrides = [f"task={task}", f"optimizer={optimizer}", "scale=smoke", "tracking=none"]
    overrides += ["num_threads=1", "progress=none", f"runs_dir={runs_dir}"]
    if data_dir is not None:
        overrides.append(f"data_dir={data_dir}")
    said = io.StringIO()
    try:
        with (
            time_limit(seconds),
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(said),
        ):
            status, reason = outcome_of(overrides, workers)
    except TooLongError:
        status, reason = "failed", f"not done after {seconds} s"
    return Cell(optimizer, task, status, reason)


def outcome_of(overrides: list[str], workers: int) -> tuple[str, str]:
    """Status and reason of one command."""
    import run
    from runners.messages import first_line
    from tasks.data.store import DataError

    try:
        cfg = run.compose(overrides)
        # Not quiet: a single command measures first, and an option that is refused only in a step
        # gets its one line there.
        outcome = run.execute(cfg, sweep=None, experiment=None, workers=workers, quiet=False)
    except run.UserError as error:
        missing = isinstance(error.__cause__, DataError)
        return ("no data" if missing else "refused"), str(error)
    except Exception as error:  # whatever it is, the other cells go on
        return "failed", f"{type(error).__name__}: {first_line(error)}"
    if outcome.status == "interrupted":
        raise KeyboardInterrupt
    status = outcome.record_status if outcome.status == "skipped" else outcome.status
    return (status, "") if status in RAN else ("failed", f"{status}: {outcome.reason}")


@contextlib.contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raise TooLongError in what takes longer; for the main thread.

    Seconds of the processor, so that a busy machine takes none away; of the clock ten times as
    many, for what only waits.
    """

    def stop(*_: Any) -> None:
        raise TooLongError

    timers = {
        signal.ITIMER_PROF: (signal.SIGPROF, seconds),
        signal.ITIMER_REAL: (signal.SIGALRM, 10 * seconds),
    }
    before = {number: signal.signal(number, stop) for number, _ in timers.values()}
    for timer, (_, limit) in timers.items():
        signal.setitimer(timer, limit)
    try:
        yield
    finally:
        for timer in timers:
            signal.setitimer(timer, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def run_cells(
    pairs: list[tuple[str, str]], runs_dir: Path, data_dir: str | None, seconds: int, workers: int
) -> Iterator[Cell]:
    """Run (optimizer, task) pairs in worker processes, one thread each; cells as they are done."""
    import joblib

    calls = [
        joblib.delayed(run_cell)(*pair, str(runs_dir), data_dir, seconds, workers) for pair in pairs
    ]
    parallel = joblib.Parallel(n_jobs=workers, return_as="generator_unordered", batch_size=1)
    with warnings.catch_warnings():
        # joblib's advice when a stop ends the loop early
        warnings.filterwarnings("ignore", ".*still being processed by the workers", UserWarning)
        with contextlib.closing(parallel(calls)) as cells:
            yield from cells
