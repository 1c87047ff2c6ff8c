"""Many jobs in one command: outcomes, going on, two commands at once, several processes."""

import os
import signal
import subprocess
import sys

import pytest

from runners.records import find_runs, read_manifest
from runners.sampling import log_uniform
from tests.commands import ROOT, column, command, numbers, start, wait_until

SMOKE = ("scale=smoke", "num_threads=1")


def manifests(root):
    return [read_manifest(run_dir) for run_dir in find_runs(root)]


def table_rows(out):
    """The lines of the final table below its rule."""
    lines = out.splitlines()
    rule = next(i for i, line in enumerate(lines) if line.startswith("---"))
    return lines[rule + 1 :]


def test_one_bad_job_never_stops_the_rest(tmp_path):
    runs = f"runs_dir={tmp_path}"
    asked = ("-m", "task=barrier", *SMOKE, runs, "optimizer.lr=1e-4,1000,-1,2e-4")
    result = command(*asked)
    assert result.code == 1
    rows = table_rows(result.out)
    assert len(rows) == 4
    expected = {
        "0.0001": "finished train suboptimality",
        "1000": "diverged (the loss was no finite number at step",
        "-1": "invalid (lr must be >= 0, got -1",
        "0.0002": "finished train suboptimality",
    }
    for row, (lr, said) in zip(rows, expected.items(), strict=True):
        assert f"optimizer.lr={lr} {said}" in " ".join(row.split())
    assert sorted(m["status"] for m in manifests(tmp_path)) == ["diverged", "finished", "finished"]
    assert {path.name for path in tmp_path.iterdir()} == {"barrier"}  # no multirun.yaml, no locks
    # All of one sweep say so.
    assert len({m["sweep"] for m in manifests(tmp_path)}) == 1

    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    again = command(*asked)
    assert again.code == 1
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == before
    assert again.out.count("there already") == 3


def test_a_crashing_job_never_stops_the_rest(tmp_path):
    classes = "torch.optim.SGD,tests.toys.Crashing,torch.optim.SGD"
    asked = ("-m", "task=quadratic", *SMOKE, f"runs_dir={tmp_path}", "optimizer.lr=1e-4")
    result = command(*asked, f"optimizer.cls.path={classes.rsplit(',', 1)[0]}", "seed=0,1")
    assert result.code == 1
    said = [row.split("seed=")[1][1:].split()[0] for row in table_rows(result.out)]
    assert said == ["finished", "finished", "failed", "failed"]
    assert result.out.count("the toy has broken") == 2


def test_only_what_is_missing_is_made(tmp_path):
    asked = ("-m", "task=quadratic", "optimizer=adam", *SMOKE, f"runs_dir={tmp_path}")
    assert command(*asked, "seed=0,1").code == 0
    before = {m["run_id"]: m["started_at"] for m in manifests(tmp_path)}
    times = {p: (p / "manifest.json").stat().st_mtime_ns for p in find_runs(tmp_path)}
    result = command(*asked, "seed=0,1,2")
    assert result.code == 0
    assert ["skipped" in row or "there already" in row for row in table_rows(result.out)] == [
        True,
        True,
        False,
    ]
    after = {m["run_id"]: m["started_at"] for m in manifests(tmp_path)}
    assert len(after) == 3 and before.items() <= after.items()
    assert all((p / "manifest.json").stat().st_mtime_ns == t for p, t in times.items())


def test_a_combination_that_does_not_compose_stops_the_command_before_any_job(tmp_path):
    # adam has no momentum: the second job could not be composed.
    asked = ("-m", "task=logistic", *SMOKE, f"runs_dir={tmp_path / 'runs'}")
    result = command(*asked, "optimizer=sgd,adam", "optimizer.momentum=0.9")
    assert result.code == 2
    (line,) = result.err.splitlines()
    assert "optimizer.momentum" in line
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "sweep, key, values",
    [
        ("lr_grid", "optimizer.lr", [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0]),
        ("random", "optimizer.lr", [log_uniform(1e-4, 1.0, i, 2) for i in range(9)]),
        ("seeds", "seed", [0, 1, 2, 3, 4]),
        ("precision", "precision", ["float32", "float64", "bf16_autocast"]),
    ],
)
def test_every_sweep_gives_its_jobs(sweep, key, values, tmp_path):
    asked = (f"sweep={sweep}", "task=quadratic", "optimizer=adam", "max_steps=1")
    result = command(*asked, *SMOKE, f"runs_dir={tmp_path}")
    assert result.code == 0, result.err
    assert len(table_rows(result.out)) == len(values)
    found = []
    for run_dir in find_runs(tmp_path):
        manifest = read_manifest(run_dir)
        (group,) = manifest["parameter_groups"]
        found.append(group["options"]["lr"] if key == "optimizer.lr" else manifest[key])
    assert sorted(found) == sorted(values)


def test_the_command_line_wins_over_a_sweep(tmp_path):
    asked = ("sweep=lr_grid", "task=quadratic", "optimizer=adam", "max_steps=1", *SMOKE)
    assert command(*asked, "optimizer.lr=0.5,0.25", f"runs_dir={tmp_path}").code == 0
    rates = {m["parameter_groups"][0]["options"]["lr"] for m in manifests(tmp_path)}
    assert rates == {0.5, 0.25}


def test_two_commands_at_once_make_each_run_once(tmp_path, monkeypatch):
    monkeypatch.setenv("KAPPA_RUNS", str(tmp_path / "runs"))
    (tmp_path / "runs").mkdir()
    asked = ("-m", "task=quadratic", "optimizer.lr=1e-4", "optimizer.cls.path=tests.toys.Logged")
    asked += ("seed=0,1,2,3", "max_steps=400", *SMOKE)
    processes = [start(*asked, output=tmp_path / f"out{i}") for i in range(2)]
    for process in processes:
        process.join(120)
    said = [(tmp_path / f"out{i}").read_text() for i in range(2)]
    assert [process.exitcode for process in processes] == [0, 0], said
    # An optimizer is made once for each run, in whichever process makes it.
    assert len((tmp_path / "runs" / "made").read_text().splitlines()) == 4
    assert [m["status"] for m in manifests(tmp_path / "runs")] == ["finished"] * 4
    for text in said:
        assert [" finished" in row for row in table_rows(text)] == [True] * 4
    assert not (tmp_path / "runs" / ".locks").exists()


def test_joblib_runs_jobs_in_processes_and_divides_the_threads(tmp_path):
    asked = ["-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "task=quadratic"]
    asked += [
        "optimizer=adam",
        "scale=smoke",
        "num_threads=null",
        "seed=0,1,2",
        "optimizer.lr=-1,1e-3",
    ]
    done = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *asked, f"runs_dir={tmp_path}"],
        cwd=tmp_path.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout.count(" invalid (lr must be >= 0, got -1") == 3
    assert len(table_rows(done.stdout)) == 6
    found = manifests(tmp_path)
    assert len(found) == 3
    for manifest in found:
        assert manifest["status"] == "finished"
        assert manifest["concurrent_workers"] == 2
        assert manifest["num_threads"] == max(1, len(os.sched_getaffinity(0)) // 2)
    assert {path.name for path in tmp_path.iterdir()} == {"quadratic"}


def test_one_process_and_one_command_give_the_same_numbers(tmp_path):
    asked = ("task=quadratic", "optimizer=ggt", *SMOKE)
    assert command("-m", *asked, "seed=0,1", f"runs_dir={tmp_path / 'many'}").code == 0
    assert command(*asked, "seed=1", f"runs_dir={tmp_path / 'one'}").code == 0
    (one,) = find_runs(tmp_path / "one")
    many = tmp_path / "many" / one.relative_to(tmp_path / "one")
    assert numbers(one) == numbers(many)


def test_ctrl_c_stops_the_whole_sweep(tmp_path):
    asked = ("-m", "task=quadratic", "optimizer=adam", "seed=0,1,2", *SMOKE, "max_steps=3000")
    asked += ("checkpoint.steps=50", f"runs_dir={tmp_path / 'runs'}")
    process = start(*asked, output=tmp_path / "out")
    first = (tmp_path / "runs").glob
    wait_until(lambda: list(first("*/*/*/checkpoint.pt")), process)
    os.kill(process.pid, signal.SIGINT)
    process.join(60)
    assert process.exitcode == 130, (tmp_path / "out").read_text()
    (manifest,) = manifests(tmp_path / "runs")  # the jobs after it were not begun
    assert manifest["status"] == "interrupted"
    assert command(*asked).code == 0
    assert [m["status"] for m in manifests(tmp_path / "runs")] == ["finished"] * 3
    for run_dir in find_runs(tmp_path / "runs"):
        assert column(run_dir, "steps", "step") == list(range(3000))
