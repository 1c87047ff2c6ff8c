"""One command, one run: identity, divergence, what is printed, left and imported."""

import math
import os
import subprocess
import sys

import pytest

from runners.records import find_runs, read_config, read_manifest
from tests.commands import ROOT, column, command, numbers, the_run
from tests.places import go_elsewhere, litter

SMOKE = ("scale=smoke", "num_threads=1")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    go_elsewhere(tmp_path, monkeypatch)


# ---------------------------------------------------------------- a run and its identity


def test_a_run_says_where_its_records_are_and_leaves_no_litter(tmp_path):
    result = command("task=logistic", "optimizer=sgd", *SMOKE)
    assert result.code == 0
    run_dir = the_run(tmp_path / "runs")
    (line,) = result.out.splitlines()
    assert line.startswith("finished | best train suboptimality ")
    assert line.endswith(f"records in {run_dir}")
    assert litter(tmp_path) == []
    names = {path.name for path in run_dir.iterdir()}
    assert names == {"config.yaml", "manifest.json", "steps", "evals"}  # SGD has no spectra
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"logistic"}
    manifest = read_manifest(run_dir)
    assert manifest["status"] == "finished"
    assert manifest["steps_done"] == manifest["max_steps"] == 20
    assert run_dir == tmp_path / "runs" / "logistic" / "sgd" / manifest["run_id"]
    assert read_config(run_dir)["optimizer"]["lr"] == 0.1
    assert column(run_dir, "steps", "step") == list(range(20))


def test_what_is_there_is_not_made_again_unless_forced(tmp_path):
    first = command("task=quadratic", "optimizer=ggt", *SMOKE, "optimizer.lr=0.001")
    run_dir = the_run(tmp_path / "runs")
    before, made = numbers(run_dir), (run_dir / "manifest.json").stat().st_mtime_ns
    # None of these can change a number.
    same = command(
        "task=quadratic",
        "optimizer=ggt",
        "scale=smoke",
        "num_threads=2",
        "progress=none",
        "tracking=none",
        "checkpoint.steps=3",
        f"data_dir={tmp_path}",
        "optimizer.lr=0.001",
    )
    assert (first.code, same.code) == (0, 0)
    assert same.out.startswith("skipped: there already (force=true makes it again) | best ")
    assert (run_dir / "manifest.json").stat().st_mtime_ns == made
    forced = command("task=quadratic", "optimizer=ggt", *SMOKE, "optimizer.lr=1e-3", "force=true")
    assert forced.code == 0
    assert the_run(tmp_path / "runs") == run_dir
    assert (run_dir / "manifest.json").stat().st_mtime_ns != made
    assert numbers(run_dir) == before


@pytest.mark.parametrize(
    "change",
    [
        "optimizer.lr=0.2",
        "seed=1",
        "task.dim=9",
        "max_steps=19",
        "precision=float64",
        "schedule=cosine",
        "task.instance_seed=7",
        "accumulate=1 grad_clip=1.0",
        "spectra_every=5",
    ],
)
def test_what_can_change_numbers_makes_another_run(change, tmp_path):
    for more in ([], change.split()):
        assert command("task=logistic", *SMOKE, "max_steps=20", *more).code == 0
    assert len(list(find_runs(tmp_path / "runs"))) == 2


def test_a_run_made_beside_others_is_made_again_alone(tmp_path):
    asked = ("task=logistic", *SMOKE)
    assert command(*asked).code == 0
    run_dir = the_run(tmp_path / "runs")
    before = numbers(run_dir)
    assert command(*asked, "timing=exclusive").out.startswith("finished")
    assert read_manifest(run_dir)["timing"] == "exclusive"
    assert set(read_manifest(run_dir)["load"]) == {"begin", "end", "other_cores"}
    assert numbers(run_dir) == before
    for again in ((), ("timing=exclusive",)):
        assert command(*asked, *again).out.startswith("skipped")
    assert the_run(tmp_path / "runs") == run_dir


def test_divergence_is_a_result(tmp_path):
    result = command("task=barrier", *SMOKE, "optimizer.lr=1000")
    assert result.code == 0
    assert result.out.startswith("diverged: the loss was no finite number at step ")
    run_dir = the_run(tmp_path / "runs")
    manifest = read_manifest(run_dir)
    losses = column(run_dir, "steps", "loss")
    assert manifest["status"] == "diverged"
    assert not math.isfinite(losses[-1])
    assert all(map(math.isfinite, losses[:-1]))
    assert len(losses) == manifest["steps_done"] + 1 < 20
    assert not (run_dir / "checkpoint.pt").exists()
    assert command("task=barrier", *SMOKE, "optimizer.lr=1000").out.startswith("skipped")


def test_a_crash_is_recorded_with_its_reason(tmp_path):
    # A sweep of one: it has no preflight, in which it would break already.
    result = command("-m", "task=logistic", *SMOKE, "optimizer.cls.path=tests.toys.Crashing")
    assert result.code == 1
    assert "RuntimeError: the toy has broken" in result.out
    assert "Traceback" in result.err  # ours to find: everything that is known is said
    manifest = read_manifest(the_run(tmp_path / "runs"))
    assert manifest["status"] == "failed"
    assert manifest["reason"] == "RuntimeError: the toy has broken"


def test_the_real_text_trains(ptb_dir, tmp_path):
    result = command("task=ptb_lstm", "optimizer=adam", *SMOKE, f"data_dir={ptb_dir}")
    assert result.code == 0, result.err
    run_dir = the_run(tmp_path / "runs")
    assert read_manifest(run_dir)["data_hash"]
    losses = column(run_dir, "steps", "loss")
    assert losses[-1] < losses[0]


# ---------------------------------------------------------------- dry run, imports


@pytest.mark.parametrize(
    "overrides, count",
    [
        ("task=logistic scale=smoke", 10),
        ("task=quadratic optimizer=ggt", 128 * 128),
        ("task=ptb_lstm optimizer=ggt scale=paper", 4895730),
    ],
)
def test_a_dry_run_counts_parameters_and_leaves_nothing(overrides, count, tmp_path):
    nowhere = f"data_dir={tmp_path / 'data'}"
    result = command(*overrides.split(), "dry_run=true", "tracking=none", nowhere)
    assert result.code == 0, result.err
    assert f"parameters={count}" in result.out.splitlines()
    missing = "ptb" in overrides
    assert ("unknown" in result.out) == missing
    assert ("prepare_data" in result.err) == missing
    assert litter(tmp_path) == []
    assert not (tmp_path / "runs").exists()


def test_heavy_packages_are_imported_only_where_they_are_used(tmp_path):
    script = f"""
import runpy, sys
import runners.records, runners.selection
heavy = ["torch", "pandas", "matplotlib", "wandb", "hydra"]
assert not set(heavy) & set(sys.modules), set(heavy) & set(sys.modules)
sys.argv = ["run.py", "task=logistic", "optimizer=ggt", "scale=smoke", "runs_dir={tmp_path}/runs"]
try:
    runpy.run_path({str(ROOT / "run.py")!r}, run_name="__main__")
except SystemExit as end:
    assert end.code == 0
loaded = {{"pandas", "matplotlib", "wandb", "joblib", "rich"}} & set(sys.modules)
assert not loaded, loaded
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
