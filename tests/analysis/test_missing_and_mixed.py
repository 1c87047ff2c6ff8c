"""Absent runs are named, and runs of different versions never put together."""

import json
import os
import shutil

import pytest

from analysis.load import MissingRecordsError, Records
from runners.records import RecordsError


@pytest.fixture
def roots(tmp_path):
    return [tmp_path / "runs", tmp_path / "results"]


def write_two(make, root, **second):
    """Two seeds of one method; what is given differs in the second one's manifest."""
    first = {"numerics_versions": {"optimizer": 1, "task": 1, "runner": 1}}
    steps = {"steps": [(0, 1.0, 1, 1, 1, None)]}
    make.run(root, "t", "sgd", make.run_id("c", "sgd", 0), steps, **first)
    make.run(root, "t", "sgd", make.run_id("c", "sgd", 1), steps, **{**first, **second})
    final = [("c", "sgd", seed, "t", "sgd", "finished") for seed in (0, 1)]
    make.experiment(root, "x", final)
    return Records([root]).experiment("x")


@pytest.mark.parametrize("part", ["optimizer", "task", "runner"])
@pytest.mark.parametrize("table", ["steps", "evals", "spectra", "runs"])
def test_mixed_numerics_versions_are_named_and_never_averaged(make, roots, part, table):
    versions = {"optimizer": 1, "task": 1, "runner": 1, part: 2}
    experiment = write_two(make, roots[0], numerics_versions=versions)
    with pytest.raises(RecordsError) as caught:
        getattr(experiment, table)("c")
    message = str(caught.value)
    assert f"numerics_versions.{part} is 1 in run c-sgd-0 and 2 in run c-sgd-1" in message
    assert message.endswith("make all runs again with: python run.py experiment=x force=true")


def test_mixed_schema_versions_are_named(make, roots):
    experiment = write_two(make, roots[0])
    path = roots[0] / "t" / "sgd" / make.run_id("c", "sgd", 1) / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 1}))
    with pytest.raises(RecordsError, match="schema_version is 2 in run c-sgd-0 and 1 in run"):
        experiment.runs()


def test_methods_may_differ_in_the_optimizers_version_but_not_in_the_tasks(make, roots):
    def write(name, **second):
        final = []
        for method, more in (("sgd", {}), ("ggt", second)):
            versions = {"optimizer": 1, "task": 1, "runner": 1, **more}
            run_id = make.run_id(name, method, 0)
            make.run(roots[0], "t", method, run_id, numerics_versions=versions)
            final.append((name, method, 0, "t", method, "finished"))
        make.experiment(roots[0], name, final)
        return Records(roots).experiment(name)

    assert len(write("fine", optimizer=7).runs()) == 2
    with pytest.raises(RecordsError, match=r"in case mixed: numerics_versions\.task is 1 in run"):
        write("mixed", task=2).runs()


def test_mixed_trials_are_named_where_their_records_are(make, roots):
    final, trials = [("c", "sgd", 0, "t", "sgd", "finished")], []
    for seed in (100, 101):
        run_id = make.run_id("c", "sgd", seed)
        make.run(roots[0], "t", "sgd", run_id, numerics_versions={"optimizer": seed})
        trials.append({
            "case": "c", "method": "sgd", "seed": seed, "status": "finished", "score": 1.0,
            "task": "t", "optimizer": "sgd", "run_id": run_id,
        })  # fmt: skip
    make.run(roots[0], "t", "sgd", make.run_id("c", "sgd", 0))
    make.experiment(roots[0], "x", final, trials=trials)
    with pytest.raises(RecordsError, match="is 100 in run c-sgd-100 and 101 in run c-sgd-101"):
        _ = Records(roots).experiment("x").trials


def test_absent_runs_are_listed_and_an_experiment_without_any_is_refused(make, roots):
    experiment = write_two(make, roots[0])
    folders = [roots[0] / "t" / "sgd" / make.run_id("c", "sgd", seed) for seed in (0, 1)]
    shutil.rmtree(folders[1])
    assert experiment.missing == [("c", "sgd", 1, "c-sgd-1")]
    assert experiment.steps("c")["seed"].tolist() == [0]
    assert len(experiment.final) == 2
    shutil.rmtree(folders[0])
    with pytest.raises(MissingRecordsError, match="lacks all its final runs; make them with"):
        Records(roots).experiment("x")


def test_an_experiment_is_read_again_when_its_index_has_changed(make, roots):
    make.fig2(roots[0])
    records = Records(roots)
    first = records.experiment("ggt_fig2")
    assert records.experiment("ggt_fig2") is first
    path = roots[0] / "experiments" / "ggt_fig2.json"
    os.utime(path, (1, 1))
    assert records.experiment("ggt_fig2") is not first


def test_stand_in_comes_from_the_index_or_from_the_plan(make, roots):
    make.run(roots[0], "t", "sgd", make.run_id("c", "sgd", 0))
    final = [("c", "sgd", 0, "t", "sgd", "finished")]
    make.experiment(roots[0], "x", final, stand_in="a pea for a planet")
    make.experiment(roots[0], "y", final)
    make.ptb(roots[1])
    records = Records(roots)
    assert records.experiment("x").stand_in == "a pea for a planet"
    assert records.experiment("y").stand_in == ""
    assert "0.37M parameters" in records.experiment("ggt_fig3_bottom").stand_in


def test_only_the_columns_asked_for_are_read(make, roots):
    make.fig2(roots[0])
    experiment = Records(roots).experiment("ggt_fig2")
    steps = experiment.steps("barrier", ("step", "loss"))
    assert list(steps.columns) == ["case", "method", "seed", "run_id", "step", "loss"]
    # What a caller adds to its frame is not in the next one's.
    steps["loss"] = 0.0
    assert experiment.steps("barrier", ("step", "loss"))["loss"].max() > 0
