"""Locks between real processes, killed ones included."""

import os
import select
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager

import pytest

from runners.locks import Busy, run_lock, timing_lock

HOLD_RUN = """
import sys
from runners.locks import run_lock
with run_lock(sys.argv[1], sys.argv[2], wait=True):
    print("held", flush=True)
    sys.stdin.read()
print("done", flush=True)
"""
HOLD_TIMING = """
import sys
from runners.locks import timing_lock
with timing_lock(sys.argv[1] == "exclusive", on_wait=lambda line: print(line, flush=True)):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def process(code, *arguments):
    """A process that runs `code`; it ends when its standard input is closed."""
    with subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def line(child):
    return child.stdout.readline().strip()


def is_silent(child, seconds):
    return select.select([child.stdout], [], [], seconds)[0] == []


@pytest.fixture
def temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_a_held_run_is_busy_and_says_which(tmp_path):
    with process(HOLD_RUN, tmp_path, "abc123") as child:
        assert line(child) == "held"
        with pytest.raises(Busy, match="run abc123 is being made by another process"):
            run_lock(tmp_path, "abc123").__enter__()
        with run_lock(tmp_path, "other"):
            pass
        child.stdin.close()
        assert line(child) == "done"
    with run_lock(tmp_path, "abc123"):
        pass
    assert not (tmp_path / ".locks").exists()


def test_one_process_cannot_take_it_twice(tmp_path):
    with run_lock(tmp_path, "a"):
        with pytest.raises(Busy), run_lock(tmp_path, "a"):
            pass
        # the failed attempt must not have freed it
        with pytest.raises(Busy), run_lock(tmp_path, "a"):
            pass


def test_sigkill_frees_a_run(tmp_path):
    with process(HOLD_RUN, tmp_path, "a") as child:
        assert line(child) == "held"
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        with run_lock(tmp_path, "a"):
            pass


def test_waiting_gets_it_when_the_other_is_done(tmp_path):
    with process(HOLD_RUN, tmp_path, "a") as first:
        assert line(first) == "held"
        with process(HOLD_RUN, tmp_path, "a") as second:
            assert is_silent(second, seconds=0.5)
            first.stdin.close()
            assert line(first) == "done"
            assert line(second) == "held"
            # the first one removed its file: the second must hold the new one
            with pytest.raises(Busy), run_lock(tmp_path, "a"):
                pass


def test_an_error_inside_frees_it(tmp_path):
    with pytest.raises(RuntimeError), run_lock(tmp_path, "a"):
        raise RuntimeError
    with run_lock(tmp_path, "a"):
        pass


def test_many_processes_take_turns(tmp_path):
    """Each adds 1 to a number it reads; any overlap, through a removed file too, loses some."""
    counter = tmp_path / "counter"
    counter.write_text("0")
    code = (
        "import sys, pathlib\n"
        "from runners.locks import run_lock\n"
        "path = pathlib.Path(sys.argv[2])\n"
        "for _ in range(200):\n"
        "    with run_lock(sys.argv[1], 'a', wait=True):\n"
        "        path.write_text(str(int(path.read_text()) + 1))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path), str(counter)]
    children = [subprocess.Popen(command) for _ in range(4)]
    assert [child.wait(timeout=60) for child in children] == [0] * 4
    assert counter.read_text() == "800"


def test_ordinary_runs_share(temporary_folder):
    waits = []
    with process(HOLD_TIMING, "shared") as child:
        assert line(child) == "held"
        with timing_lock(False, on_wait=waits.append):
            pass
    assert waits == []


def test_exclusive_waits_for_shared_and_says_so_once(temporary_folder):
    with timing_lock(False):
        pass
    with process(HOLD_TIMING, "shared") as first:
        assert line(first) == "held"
        with process(HOLD_TIMING, "exclusive") as second:
            assert line(second).startswith("waiting for the other runs")
            # a waiting exclusive run keeps later ones out, so that it gets its turn
            with process(HOLD_TIMING, "shared") as third:
                assert line(third).startswith("waiting for a run with timing=exclusive")
                first.stdin.close()
                assert line(second) == "held"
                second.stdin.close()
                assert line(third) == "held"


@pytest.mark.parametrize("kind", ["shared", "exclusive"])
def test_exclusive_keeps_all_others_out(temporary_folder, kind):
    with timing_lock(True), process(HOLD_TIMING, kind) as child:
        assert line(child).startswith("waiting for")
        assert is_silent(child, seconds=0.3)


def test_sigkill_frees_the_machine(temporary_folder):
    waits = []
    with process(HOLD_TIMING, "exclusive") as child:
        assert line(child) == "held"
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        with timing_lock(True, on_wait=waits.append):
            pass
    assert waits == []


def test_every_user_may_use_the_machines_lock(temporary_folder):
    old = os.umask(0o077)
    try:
        with timing_lock(False):
            pass
    finally:
        os.umask(old)
    modes = [path.stat().st_mode & 0o777 for path in temporary_folder.glob("kappa-timing*")]
    assert modes == [0o666, 0o666]


def test_a_link_in_the_temporary_folder_is_not_followed(temporary_folder):
    (temporary_folder / "kappa-timing.lock").symlink_to(temporary_folder / "elsewhere")
    with pytest.raises(OSError), timing_lock(False):
        pass
    assert not (temporary_folder / "elsewhere").exists()
