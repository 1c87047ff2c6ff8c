"""Gives the project's command, in this process or in one of its own, and reads what it left."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import runpy
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from runners import checkpoint, records
from tests.fake_sets import standing_in

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"


@dataclass(frozen=True)
class Result:
    """What a command said and its exit status."""

    code: int
    out: str
    err: str


@contextlib.contextmanager
def as_command(arguments: tuple[str, ...], sets_dir: Path | None) -> Iterator[None]:
    """The process's state as `python run.py <arguments>` finds it, put back afterwards."""
    threads = torch.get_num_threads()
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ))
        stack.enter_context(mock.patch.object(sys, "argv", ["run.py", *map(str, arguments)]))
        if sets_dir is not None:
            stack.enter_context(standing_in(sets_dir))
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def status_of_run_py() -> int:
    try:
        runpy.run_path(str(ROOT / "run.py"), run_name="__main__")
    except SystemExit as end:
        return end.code
    raise AssertionError("run.py must end with an exit status")


def command(*arguments: str, sets_dir: Path | None = None) -> Result:
    """Give `python run.py <arguments>` in this process; its imports are paid once."""
    out, err = io.StringIO(), io.StringIO()
    with (
        as_command(arguments, sets_dir),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = status_of_run_py()
    return Result(code, out.getvalue(), err.getvalue())


# ---------------------------------------------------------------- processes that can be killed

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "torch._dynamo",
        "hydra",
        "pyarrow.parquet",
        "optimizers",
        "runners.lifecycle",
        "tasks.ptb_lstm",
    ]
)


def _child(
    arguments: tuple[str, ...],
    environment: dict[str, str],
    output: Path,
    sets_dir: Path | None,
    file_limit: int | None,
) -> None:
    import resource
    import signal

    os.environ.update(environment)
    stream = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if file_limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    with as_command(arguments, sets_dir):
        sys.exit(status_of_run_py())


def start(
    *arguments: str,
    output: Path,
    sets_dir: Path | None = None,
    file_limit: int | None = None,
) -> Any:
    """Give the command in a process of its own, forked from one that has imported torch.

    Args:
        output: file for what it says, standard output and error together.
        file_limit: largest file it can write, in bytes: writing beyond fails as on a full disk.
    """
    names = ("KAPPA_OFFLINE", "KAPPA_RUNS", "KAPPA_DATA", "TMPDIR")
    environment = {name: os.environ[name] for name in names if name in os.environ}
    process = _CONTEXT.Process(
        target=_child, args=(arguments, environment, output, sets_dir, file_limit)
    )
    process.start()
    return process


def wait_until(condition, process, seconds: float = 60.0) -> None:
    """Wait for a condition, polled every millisecond, while a process lives."""
    end = time.monotonic() + seconds
    while not condition():
        if not process.is_alive() or time.monotonic() > end:
            raise AssertionError(f"waited in vain; exit status {process.exitcode}")
        time.sleep(0.001)


# ---------------------------------------------------------------- what a command left

SECONDS = {"train_seconds"}


def the_run(root: Path) -> Path:
    """The only run below a folder."""
    (run_dir,) = records.find_runs(root)
    return run_dir


def column(run_dir: Path, table: str, name: str) -> list:
    return records.read_table(run_dir, table).column(name).to_pylist()


def numbers(run_dir: Path) -> dict[str, dict[str, str]]:
    """Every column that is not in seconds; as text, in which floats are exact and nan is nan."""
    return {
        name: {
            key: repr(values)
            for key, values in records.read_table(run_dir, name).to_pydict().items()
            if key not in SECONDS
        }
        for name in records.TABLES
    }


def evaluations(run_dir: Path, metric: str) -> dict[int, float]:
    """Step -> value of a metric."""
    rows = records.read_table(run_dir, "evals").to_pylist()
    return {row["step"]: row["value"] for row in rows if row["metric"] == metric}


def assert_same(a: Any, b: Any) -> None:
    """Nested state, equal bit for bit."""
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype and a.shape == b.shape
        # Bytes, so that nan equals itself and 0.0 differs from -0.0.
        assert torch.equal(_bytes(a), _bytes(b))
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert repr(a) == repr(b)


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(-1).view(torch.uint8)


def assert_same_run(a: Path, b: Path) -> None:
    """Two finished runs with kept checkpoints: parameters, state and columns bit for bit."""
    first, second = checkpoint.load(a), checkpoint.load(b)
    assert first is not None and second is not None
    for part in ("step", "model", "optimizer", "schedule", "task", "probe", "averaged"):
        assert_same(first[part], second[part])
    assert numbers(a) == numbers(b)
