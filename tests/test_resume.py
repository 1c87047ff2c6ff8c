"""A run that is killed or stopped ends, resumed, with the bits of one that was not."""

import os
import random
import signal

import pytest

from runners import checkpoint
from runners.records import read_manifest
from tests.commands import (
    assert_same_run,
    command,
    start,
    the_run,
    wait_until,
)

# Steps enough that five kills land between the first checkpoint and the middle of the run: on a
# busy machine a kill comes late, and is to find the run alive.
SIZES = {"logistic": 1600, "quadratic": 800, "ptb_lstm": 160}
CHECKPOINT_STEPS = {"logistic": 25, "quadratic": 10, "ptb_lstm": 4}
METHODS = {"ggt": ["optimizer.window=20", "optimizer.lr=0.01"], "adam": ["optimizer.lr=0.01"]}
NUM_KILLS = 5


def request(task, optimizer, runs_dir, *more):
    return [
        f"task={task}",
        f"optimizer={optimizer}",
        *METHODS[optimizer],
        "scale=smoke",
        f"max_steps={SIZES[task]}",
        "task.evaluate_at=7",
        f"checkpoint.steps={CHECKPOINT_STEPS[task]}",
        "checkpoint.keep=true",
        "spectra_every=7",
        f"runs_dir={runs_dir}",
        *more,
    ]


def saved_step(runs_dir):
    """The step of the checkpoint below a folder of runs; -1 if there is none yet."""
    paths = list(runs_dir.glob("*/*/*/checkpoint.pt"))
    return checkpoint.load(paths[0].parent)["step"] if paths else -1


@pytest.mark.parametrize("optimizer", sorted(METHODS))
@pytest.mark.parametrize("task", sorted(SIZES))
def test_five_kills_leave_no_trace(task, optimizer, tmp_path, sets_dir):
    cut, uncut = tmp_path / "cut", tmp_path / "uncut"
    assert command(*request(task, optimizer, uncut), sets_dir=sets_dir).code == 0
    generator = random.Random(f"{task} {optimizer}")
    moments = sorted(generator.sample(range(1, int(0.5 * SIZES[task])), NUM_KILLS))
    for number, moment in enumerate(moments):
        before = saved_step(cut)
        output = tmp_path / f"out{number}"
        process = start(*request(task, optimizer, cut), output=output, sets_dir=sets_dir)
        # At least one checkpoint further than the last kill, so that every process has worked.
        least = max(before + 1, moment)
        wait_until(lambda least=least: saved_step(cut) >= least, process)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, output.read_text()
        assert read_manifest(the_run(cut))["status"] == "interrupted"
    result = command(*request(task, optimizer, cut), sets_dir=sets_dir)
    assert result.code == 0
    assert "going on from step" in result.err
    assert_same_run(the_run(cut), the_run(uncut))
    left = [path.name for path in the_run(cut).rglob("*.tmp")]
    assert left == [], "what a kill left half-written must be gone"


@pytest.mark.parametrize(
    "number, more",
    [
        (signal.SIGINT, ["schedule=plateau", "task.average_last=40", "probe=gradient_window"]),
        (signal.SIGTERM, ["schedule=cosine", "accumulate=2", "task.batch_size=100"]),
    ],
    ids=["SIGINT", "SIGTERM"],
)
def test_a_signal_stops_cleanly_and_the_same_command_goes_on(number, more, tmp_path):
    cut, uncut = tmp_path / "cut", tmp_path / "uncut"
    assert command(*request("logistic", "ggt", uncut, *more)).code == 0
    process = start(*request("logistic", "ggt", cut, *more), output=tmp_path / "out")
    wait_until(lambda: saved_step(cut) >= 100, process)
    os.kill(process.pid, number)
    process.join(60)
    said = (tmp_path / "out").read_text()
    assert process.exitcode == 130, said
    manifest = read_manifest(the_run(cut))
    assert manifest["status"] == "interrupted"
    # Stopped after the step it was in, and saved there: nothing is done twice.
    assert saved_step(cut) == manifest["steps_done"]
    assert f"stopped at step {manifest['steps_done']}" in said
    assert "Traceback" not in said
    result = command(*request("logistic", "ggt", cut, *more))
    assert result.code == 0
    assert f"going on from step {manifest['steps_done']:,}" in result.err
    assert_same_run(the_run(cut), the_run(uncut))


def test_an_optimizer_that_draws_random_numbers_resumes_bit_for_bit(tmp_path, sets_dir):
    cut, uncut = tmp_path / "cut", tmp_path / "uncut"
    noisy = ["optimizer.cls.path=tests.toys.Noisy", "task.dropout=0.5"]

    def asked(runs_dir):
        more = [x for x in request("ptb_lstm", "adam", runs_dir) if not x.startswith("optimizer")]
        return [*more, "optimizer=sgd", "optimizer.lr=0.1", *noisy]

    assert command(*asked(uncut), sets_dir=sets_dir).code == 0
    process = start(*asked(cut), output=tmp_path / "out", sets_dir=sets_dir)
    wait_until(lambda: saved_step(cut) >= 30, process)
    process.kill()
    process.join()
    assert command(*asked(cut), sets_dir=sets_dir).code == 0
    assert_same_run(the_run(cut), the_run(uncut))


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path):
    cut, uncut = tmp_path / "cut", tmp_path / "uncut"
    assert command(*request("quadratic", "ggt", uncut)).code == 0
    process = start(*request("quadratic", "ggt", cut), output=tmp_path / "out")
    wait_until(lambda: saved_step(cut) >= 40, process)
    process.kill()
    process.join()
    before = saved_step(cut)
    # Enough for the manifest and the records, not for a checkpoint with its window of 20 rows.
    process = start(*request("quadratic", "ggt", cut), output=tmp_path / "full", file_limit=16_000)
    process.join(60)
    said = (tmp_path / "full").read_text()
    assert process.exitcode == 1, said
    assert f"the checkpoint of step {before} is intact" in said
    assert "File too large" in said, said
    assert "Traceback" not in said
    assert saved_step(cut) == before
    assert read_manifest(the_run(cut))["status"] in ("failed", "interrupted")
    assert not list(the_run(cut).rglob("*.tmp"))
    assert command(*request("quadratic", "ggt", cut)).code == 0
    assert_same_run(the_run(cut), the_run(uncut))


def test_a_checkpoint_that_cannot_be_read_is_named(tmp_path):
    process = start(*request("quadratic", "adam", tmp_path / "runs"), output=tmp_path / "out")
    wait_until(lambda: saved_step(tmp_path / "runs") >= 10, process)
    process.kill()
    process.join()
    path = the_run(tmp_path / "runs") / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:100])
    result = command(*request("quadratic", "adam", tmp_path / "runs"))
    assert result.code == 2
    assert str(path) in result.err and "delete it" in result.err
    path.unlink()
    assert command(*request("quadratic", "adam", tmp_path / "runs")).code == 0
