"""Shipping an experiment's records."""

from __future__ import annotations

import json

from runners.records import SCHEMA_VERSION, RecordWriter, read_table, write_manifest
from scripts.keep_results import main


def make_experiment(root, status: str) -> dict:
    """Write an index with one final run and one trial, and the final run's records."""
    run_dir = root / "task" / "sgd" / "abc"
    writer = RecordWriter(run_dir)
    writer.add("steps", (0, 1.5, 0.1, 2.0, 0.01, None))
    writer.flush()
    write_manifest(run_dir, {"status": "finished"})
    (run_dir / "config.yaml").write_text("seed: 0\n")
    (run_dir / "checkpoint.pt").write_bytes(b"large")
    final = {"task": "task", "optimizer": "sgd", "run_id": "abc"}
    index = {
        "schema_version": SCHEMA_VERSION,
        "status": status,
        "command": "python run.py experiment=x",
        "trials": [{**final, "run_id": "left behind"}],
        "final": [final],
    }
    (root / "experiments").mkdir()
    (root / "experiments" / "x.json").write_text(json.dumps(index))
    return index


def test_final_runs_and_index_are_copied(tmp_path):
    runs, results = tmp_path / "runs", tmp_path / "results"
    index = make_experiment(runs, "finished")
    assert main(["x", "--runs", str(runs), "--results", str(results)]) == 0
    kept = results / "task" / "sgd" / "abc"
    assert read_table(kept, "steps").equals(read_table(runs / "task" / "sgd" / "abc", "steps"))
    assert json.loads((results / "experiments" / "x.json").read_text()) == index
    assert not (kept / "checkpoint.pt").exists()


def test_unfinished_experiment_is_refused(tmp_path, capsys):
    runs, results = tmp_path / "runs", tmp_path / "results"
    make_experiment(runs, "interrupted")
    assert main(["x", "--runs", str(runs), "--results", str(results)]) == 2
    assert main(["y", "--runs", str(runs), "--results", str(results)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert "is not finished; go on with: python run.py experiment=x" in lines[0]
    assert "y.json is missing; make it with: python run.py experiment=y" in lines[1]
    assert not results.exists()


def test_what_another_experiment_shares_stays(tmp_path):
    runs, results = tmp_path / "runs", tmp_path / "results"
    index = make_experiment(runs, "finished")
    for name in ("x", "y"):
        (runs / "experiments" / f"{name}.json").write_text(json.dumps(index))
        assert main([name, "--runs", str(runs), "--results", str(results)]) == 0
    # The next version of x has no run any more: y's is the same one, and stays.
    empty = {**index, "final": []}
    (runs / "experiments" / "x.json").write_text(json.dumps(empty))
    assert main(["x", "--runs", str(runs), "--results", str(results)]) == 0
    assert (results / "task" / "sgd" / "abc" / "manifest.json").is_file()
    (runs / "experiments" / "y.json").write_text(json.dumps(empty))
    assert main(["y", "--runs", str(runs), "--results", str(results)]) == 0
    assert not (results / "task" / "sgd" / "abc").exists()


def test_a_run_that_failed_before_it_began_has_no_records(tmp_path):
    runs, results = tmp_path / "runs", tmp_path / "results"
    index = make_experiment(runs, "finished")
    index["final"].append({"task": "task", "optimizer": "sgd", "run_id": ""})
    (runs / "experiments" / "x.json").write_text(json.dumps(index))
    for _ in range(2):  # the second time over what is there
        assert main(["x", "--runs", str(runs), "--results", str(results)]) == 0
        assert (results / "task" / "sgd" / "abc" / "manifest.json").is_file()
