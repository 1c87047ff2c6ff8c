"""Publishing: from records to W&B's offline files and back."""

import json
import math
import subprocess
import sys

import pytest
import yaml

from runners.records import RecordWriter, spectrum_row, write_manifest
from tests.runners.test_tracking import (
    ROOT,
    assert_same,
    environment,
    expected_history,
    without_histograms,
)
from tests.runners.wandb_reader import read


def make_run(root, run_id, status="finished", group=None):
    """Records of 30 steps in two parts; returns the rows."""
    run_dir = root / "logistic" / "sgd" / run_id
    run_dir.mkdir(parents=True)
    config = {"task": {"name": "logistic"}, "seed": 3}
    (run_dir / "config.yaml").write_text(yaml.safe_dump(config))
    write_manifest(
        run_dir,
        {
            "status": status,
            "task": "logistic",
            "optimizer": "sgd",
            "scale": "smoke",
            "experiment": group,
            "best": {"metric": "loss", "value": 0.5},
        },
    )
    rows = {
        "steps": [(s, 1.0 / (s + 1), 0.1, 2.0, 0.01 * s, None) for s in range(30)],
        "evals": [(30, 1.0, "valid", "loss", math.nan, 0.3)],
        "spectra": [spectrum_row(10, "gram", "gram", [1.0, 0.1, 0.0], 1e-6, 1e-9, 0)],
    }
    writer = RecordWriter(run_dir)
    for index, row in enumerate(rows["steps"]):
        writer.add("steps", row)
        if index == 20:
            writer.flush()
    writer.add("evals", rows["evals"][0])
    writer.add("spectra", rows["spectra"][0])
    writer.flush()
    return run_dir, rows


def publish(tmp_path, *arguments, **changes):
    return subprocess.run(
        [sys.executable, "-m", "scripts.publish", *map(str, arguments)],
        env=environment(tmp_path, **changes),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def offline_files(run_dir):
    return list(run_dir.glob("wandb/offline-run-*/*.wandb"))


def test_round_trip_twice_leaves_one_run_with_every_row(tmp_path):
    root = tmp_path / "runs"
    run_dir, rows = make_run(root, "aaa", group="ggt_fig2")
    other, _ = make_run(root, "bbb", status="interrupted")
    first = publish(tmp_path, root, "--project", "mirror")
    assert first.returncode == 0, first.stderr
    assert first.stderr == ""
    assert first.stdout.splitlines() == [
        f"{run_dir}: published offline, finished, 30 steps",
        f"{other}: skipped, its status is interrupted",
    ]
    (before,) = offline_files(run_dir)
    again = publish(tmp_path, run_dir, "--mode", "offline", "--group", "other")
    assert again.returncode == 0, again.stderr
    (path,) = offline_files(run_dir)
    assert path != before
    found = read(path)
    assert_same(without_histograms(found["history"]), expected_history([rows]))
    assert found["run"].run_id == "aaa"
    assert (found["run"].run_group, found["run"].project) == ("other", "kappa")
    assert found["run"].display_name == "logistic sgd aaa"
    assert found["config"]["task"] == {"name": "logistic"}
    assert found["summary"]["best"] == 0.5
    assert found["exit_code"] == 0
    assert offline_files(other) == []


@pytest.mark.parametrize("folder", ["missing", "empty"])
def test_a_path_without_runs_ends_in_one_line(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    done = publish(tmp_path, tmp_path / folder)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and str(tmp_path / folder) in done.stderr


def test_an_unknown_schema_version_ends_in_one_line_before_anything_is_sent(tmp_path):
    good, _ = make_run(tmp_path / "runs", "aaa")
    bad, _ = make_run(tmp_path / "runs", "bbb")
    manifest = json.loads((bad / "manifest.json").read_text())
    (bad / "manifest.json").write_text(json.dumps({**manifest, "schema_version": 99}))
    done = publish(tmp_path, tmp_path / "runs")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "schema version 99" in done.stderr
    assert offline_files(good) == []


def test_a_failure_of_wandb_is_said_and_keeps_earlier_files(tmp_path):
    run_dir, _ = make_run(tmp_path / "runs", "aaa")
    earlier = run_dir / "wandb" / "offline-run-20200101_000000-aaa"
    earlier.mkdir(parents=True)
    shadow = tmp_path / "shadow"
    shadow.mkdir()
    (shadow / "wandb.py").write_text("raise ImportError('broken')\n")
    done = publish(tmp_path, run_dir, PYTHONPATH=f"{shadow}")
    assert done.returncode == 1
    assert "not published, start failed (ImportError: broken)" in done.stdout
    assert earlier.is_dir()
