"""Locks between processes, freed by the kernel when a process dies.

All are `flock` on small files: no stale lock survives a kill, a crash or a power cut.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class Busy(Exception):
    """Another process is at work on the same run."""


@contextmanager
def run_lock(runs_dir: Path | str, run_id: str, wait: bool = False) -> Iterator[None]:
    """Hold the one lock of a run; two workers never make one run at the same time.

    The lock is the file `<runs_dir>/.locks/<run_id>`, removed afterwards, and its folder with the
    last of them.

    Args:
        wait: wait until the other process is done instead of raising.
    Raises:
        Busy: if another process, or another context in this one, holds it.
        OSError: if the file cannot be made or the file system knows no locks.
    """
    folder = Path(runs_dir) / ".locks"
    path = folder / run_id
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except (FileNotFoundError, FileExistsError):
            if folder.is_file():
                raise
            continue  # its last user removed the folder while we were making or entering it
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(descriptor)
            raise Busy(f"run {run_id} is being made by another process") from None
        except BaseException:
            os.close(descriptor)
            raise
        if _is_file(descriptor, path):
            break
        # Its last holder removed the file between our opening and our locking it.
        os.close(descriptor)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)
        with suppress(OSError):  # others are at work
            folder.rmdir()


def _is_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def timing_lock(exclusive: bool, on_wait: Callable[[str], None] = print) -> Iterator[None]:
    """Hold this machine's timing lock: one exclusive run alone, or any number of shared ones.

    Waits as long as it takes. A waiting exclusive run lets no new shared one in, so it is never
    starved by a stream of them. Not reentrant: a process that holds it must not ask again.

    Args:
        exclusive: True for `timing=exclusive`, False for ordinary runs.
        on_wait: called with one line if it has to wait.
    Raises:
        OSError: if the files in the temporary folder cannot be used.
    """
    reason = (
        "waiting for the other runs on this machine: timing=exclusive runs alone"
        if exclusive
        else "waiting for a run with timing=exclusive, which runs alone on this machine"
    )
    gate = _open_shared("kappa-timing-gate.lock")
    try:
        lock = _open_shared("kappa-timing.lock")
    except BaseException:
        os.close(gate)
        raise
    kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    try:
        # The gate is held only while waiting for the lock: it is the queue.
        if not (_try_briefly(gate) and _try(lock, kind)):
            on_wait(reason)
            fcntl.flock(gate, fcntl.LOCK_EX)
            fcntl.flock(lock, kind)
        fcntl.flock(gate, fcntl.LOCK_UN)
        yield
    finally:
        os.close(lock)
        os.close(gate)


def _try_briefly(gate: int) -> bool:
    # Others pass through the gate in microseconds; that is not worth a line to the user.
    for _ in range(20):
        if _try(gate, fcntl.LOCK_EX):
            return True
        time.sleep(0.005)
    return False


def _try(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _open_shared(name: str) -> int:
    """Open a file in the temporary folder that every user may lock, made when missing."""
    path = Path(tempfile.gettempdir()) / name
    while True:
        try:
            # No O_CREAT on a file that exists: in a sticky folder Linux refuses that for a file
            # of another user. Reading is enough for flock.
            return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            pass
        try:
            made = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
        except FileExistsError:
            continue
        os.fchmod(made, 0o666)  # the umask took bits away
        return made
