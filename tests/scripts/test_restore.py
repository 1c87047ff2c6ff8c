"""Runs whose records are gone are made again as they were, without the search."""

from __future__ import annotations

import json
import shutil

import pytest

from runners.records import read_table
from scripts import figures
from scripts.restore import find_gap, main
from tests.commands import command

NAME = "ggt_fig2_hyperplane"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The records of a small version of an experiment, with two trials a method."""
    root = tmp_path_factory.mktemp("made")
    typed = [
        f"experiment={NAME}", "scale=smoke", "max_steps=2", "experiment.search.seeds=[100]",
        "experiment.search.grid={optimizer.lr:[1e-2,1]}", "experiment.final.seeds=[0,1]",
        "timing=exclusive", "num_threads=1",  # one after the other, in this process
    ]  # fmt: skip
    result = command(*typed, f"runs_dir={root}")
    assert result.code == 0, result.err
    return root


@pytest.fixture
def root(made, tmp_path):
    return shutil.copytree(made, tmp_path / "runs")


def lines_of(root):
    index = json.loads((root / "experiments" / f"{NAME}.json").read_text())
    return index, {
        (e["method"], e["seed"]): root / e["task"] / e["optimizer"] / e["run_id"]
        for e in index["final"]
    }


def losses(run_dir):
    return read_table(run_dir, "steps").column("loss").to_pylist()


def test_a_deleted_run_comes_back_as_it_was_and_no_other_is_made(root, capsys):
    index, runs = lines_of(root)
    before = {key: losses(run_dir) for key, run_dir in runs.items()}
    trials = [root / e["task"] / e["optimizer"] / e["run_id"] for e in index["trials"]]
    gone = [runs["full", 1], runs["sgd", 0], *trials]
    for run_dir in gone:
        shutil.rmtree(run_dir)
    places = ["--runs", str(root), "--results", str(root / "none")]
    assert main([NAME, *places, "--list"]) == 0
    assert not runs["full", 1].exists()
    assert f"{NAME} lacks 2 runs in {root} (about" in capsys.readouterr().out
    assert main([NAME, *places]) == 0
    assert {key: losses(run_dir) for key, run_dir in runs.items()} == before
    assert not any(trial.exists() for trial in trials)
    assert lines_of(root)[0] == index
    assert find_gap([root], NAME) is None


def test_nothing_is_made_if_a_run_would_be_another_one(root, capsys):
    index, runs = lines_of(root)
    for entry in index["final"]:
        if (entry["method"], entry["seed"]) == ("diag", 0):
            entry["run_id"] = "0123456789ab"  # as after a change of what the run computes
    (root / "experiments" / f"{NAME}.json").write_text(json.dumps(index))
    shutil.rmtree(runs["sgd", 0])
    assert main([NAME, "--runs", str(root)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "logistic, diag, seed 0 would be run" in line and "index has 0123456789ab" in line
    assert line.endswith(f"again with: {index['command']}")
    assert not runs["sgd", 0].exists()


def test_a_method_that_is_gone_from_the_yaml_is_named(root, capsys):
    index, _ = lines_of(root)
    index["final"][0].update(method="forgotten", run_id="0123456789ab")
    (root / "experiments" / f"{NAME}.json").write_text(json.dumps(index))
    assert main([NAME, "--runs", str(root)]) == 2
    assert "forgotten, seed 0 is not in conf/experiment any more" in capsys.readouterr().err


def test_an_unknown_experiment_gets_the_list_of_names(root, capsys):
    assert main(["ggt_fig99", "--runs", str(root), "--results", str(root / "none")]) == 2
    assert f"no index of ggt_fig99 (there are: {NAME})" in capsys.readouterr().err


def test_a_run_that_failed_is_not_missing(root):
    index, runs = lines_of(root)
    index["final"][0]["status"] = "failed"
    (root / "experiments" / f"{NAME}.json").write_text(json.dumps(index))
    key = index["final"][0]["method"], index["final"][0]["seed"]
    shutil.rmtree(runs[key])
    assert find_gap([root], NAME) is None


def test_make_figures_makes_a_deleted_run_again_and_draws(root, tmp_path, capfd):
    _, runs = lines_of(root)
    before = losses(runs["full", 1])
    shutil.rmtree(runs["full", 1])
    places = ["--runs", str(root), "--results", str(tmp_path / "none")]
    assert figures.main(["--only", NAME, *places, "--out", str(tmp_path / "out")]) == 0
    assert losses(runs["full", 1]) == before
    said = capfd.readouterr().err
    assert f"scripts.restore {NAME}" in said and "left out" not in said
    made = sorted(path.suffix for path in (tmp_path / "out").iterdir())
    assert made == [".csv", ".pdf", ".png", ".svg"]
