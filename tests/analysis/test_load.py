import json
import math
import os
import shutil
import subprocess
import sys

import pytest

from analysis import load_evals, load_runs, load_spectra, load_steps
from analysis.load import MissingRecordsError, Records
from runners.records import RecordsError, spectrum_row


@pytest.fixture
def run_dir(make, tmp_path):
    """One run with non-finite values in all tables."""
    tables = {
        "steps": [(0, 2.5, 0.1, 1.0, 0.5, 0.25), (1, math.inf, 0.1, math.nan, 1.0, None)],
        "evals": [(1, 0.5, "valid", "loss", math.nan, 1.0), (1, 0.5, "valid", "x", -math.inf, 1.0)],
        "spectra": [spectrum_row(1, "window", "gram", [1.0, math.nan, math.inf], 0.1, 0.0, 2, 3)],
    }
    return make.run(tmp_path / "runs", "quadratic", "sgd", "a1", tables, status="diverged")


def damage_version(run_dir):
    path = run_dir / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 99}))


def test_runs_are_flat_rows_with_the_configuration(make, run_dir):
    make.run(run_dir.parents[2], "quadratic", "ggt", "b2", seed=3, task_facts={"optimum": math.inf})
    frame = load_runs(run_dir.parents[2]).set_index("run_id")
    assert list(frame.index) == ["b2", "a1"]  # in order of path: ggt before sgd
    assert frame.loc["a1", "status"] == "diverged"
    assert frame.loc["a1", "hardware.fingerprint"] == "f0"
    assert frame.loc["a1", "config.optimizer.lr"] == 0.1
    assert frame.loc["a1", "config.optimizer.betas"] == [0.9, 0.999]
    assert frame.loc["b2", "task_facts.optimum"] == math.inf
    assert math.isnan(frame.loc["a1", "task_facts.optimum"])


@pytest.mark.parametrize("one_run", [True, False])
def test_tables_keep_non_finite_values(run_dir, one_run):
    root = run_dir if one_run else run_dir.parents[2]
    steps = load_steps(root)
    assert list(steps.columns) == [
        "run_id", "step", "loss", "lr", "grad_norm", "train_seconds", "update_norm",
    ]  # fmt: skip
    assert steps["run_id"].tolist() == ["a1", "a1"]
    assert steps["loss"].tolist() == [2.5, math.inf]
    assert steps["grad_norm"].isna().tolist() == [False, True]
    assert steps["update_norm"].isna().tolist() == [False, True]
    evals = load_evals(root)
    assert math.isnan(evals["value"][0])
    assert evals["value"][1] == -math.inf
    spectra = load_spectra(root)
    eigenvalues = spectra["eigenvalues"][0]
    assert isinstance(eigenvalues, list)
    assert eigenvalues[0] == 1.0
    assert math.isnan(eigenvalues[1])
    assert eigenvalues[2] == math.inf
    assert (spectra["fallbacks"][0], spectra["staleness"][0]) == (2, 3)


@pytest.mark.parametrize("load", [load_runs, load_steps, load_evals, load_spectra])
def test_unknown_version_and_missing_folder_are_refused(run_dir, load):
    with pytest.raises(RecordsError, match="is not a folder of records"):
        load(run_dir.parents[2] / "nowhere")
    damage_version(run_dir)
    with pytest.raises(
        RecordsError, match=r"schema version 99; this version of Kappa reads 1 and 2"
    ):
        load(run_dir.parents[2])


@pytest.mark.parametrize("load", [load_runs, load_steps, load_evals, load_spectra])
def test_no_runs_give_an_empty_frame(tmp_path, load):
    frame = load(tmp_path)
    assert len(frame) == 0
    assert frame.columns[0] == "run_id"


def test_default_root_is_the_environments(run_dir, monkeypatch):
    monkeypatch.setenv("KAPPA_RUNS", str(run_dir.parents[2]))
    assert load_steps()["run_id"].tolist() == ["a1", "a1"]


def test_run_without_configuration_yet_is_listed(run_dir):
    (run_dir / "config.yaml").unlink()
    assert load_runs(run_dir)["run_id"].tolist() == ["a1"]


def test_importing_the_package_is_cheap_and_never_brings_torch():
    code = (
        "import sys, analysis; assert not {'pandas', 'matplotlib'} & set(sys.modules)\n"
        "import analysis.load, analysis.draw, analysis.style, analysis.curves\n"
        "import analysis.figures.ggt_fig4_bottom, analysis.figures.ggt_fig5_bottom\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        "assert not {'torch', 'hydra', 'matplotlib', 'tasks', 'optimizers'} & loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_attribute_of_the_package():
    import analysis

    with pytest.raises(AttributeError, match="load_everything"):
        _ = analysis.load_everything


# ---------------------------------------------------------------- experiments


@pytest.fixture
def roots(tmp_path):
    return [tmp_path / "runs", tmp_path / "results"]


def test_first_finished_root_is_read_and_roots_never_mix(make, roots):
    index = make.fig2(roots[0])
    make.fig2(roots[1])
    assert Records(roots).experiment("ggt_fig2").root == roots[0]
    index.write_text(
        index.read_text().replace(
            '"status": "finished",\n "trials"', '"status": "running",\n "trials"'
        )
    )
    experiment = Records(roots).experiment("ggt_fig2")
    assert experiment.root == roots[1]
    # One run is missing there; that the other root has it must not help.
    run_dir = roots[1] / "logistic" / "sgd" / make.run_id("logistic", "sgd", 0)
    (run_dir / "manifest.json").unlink()
    run_id = make.run_id("logistic", "sgd", 0)
    assert experiment.missing == [("logistic", "sgd", 0, run_id)]
    assert run_id not in set(experiment.steps("logistic")["run_id"])


def test_missing_and_unfinished_name_the_command(make, roots):
    with pytest.raises(MissingRecordsError) as caught:
        Records(roots).experiment("ggt_fig2")
    assert str(caught.value) == (
        "no records of experiment ggt_fig2; make them with: python run.py experiment=ggt_fig2"
    )
    command = "python run.py experiment=x scale=smoke"
    make.experiment(roots[0], "x", [], status="running", command=command)
    with pytest.raises(MissingRecordsError, match=f"unfinished in .*runs; .*: {command}$"):
        Records(roots).experiment("x")


def test_experiment_whose_runs_all_failed_is_refused(make, roots):
    make.experiment(roots[0], "x", [("c", "sgd", 0, "t", "sgd", "failed")])
    with pytest.raises(MissingRecordsError, match="no final run that ended well"):
        Records(roots).experiment("x")


def test_index_of_unknown_version_or_damaged_is_refused(make, roots):
    path = make.experiment(roots[0], "x", [], schema_version=3)
    with pytest.raises(RecordsError, match=r"x\.json has schema version 3"):
        Records(roots).experiment("x")
    path.write_text("{")
    with pytest.raises(RecordsError, match=r"x\.json is damaged"):
        Records(roots).experiment("x")


def test_run_of_unknown_version_is_refused(make, roots):
    make.fig2(roots[0])
    damage_version(roots[0] / "logistic" / "sgd" / make.run_id("logistic", "sgd", 0))
    with pytest.raises(RecordsError, match="schema version 99"):
        Records(roots).experiment("ggt_fig2").steps("logistic")


def test_tables_of_an_experiment_are_labelled(make, roots):
    make.fig2(roots[0])
    experiment = Records(roots).experiment("ggt_fig2")
    assert experiment.cases() == ["logistic", "barrier"]
    assert experiment.methods("barrier") == ["sgd", "diag", "full_window"]
    steps = experiment.steps("barrier")
    assert list(steps.columns[:6]) == ["case", "method", "seed", "run_id", "step", "loss"]
    assert set(steps["case"]) == {"barrier"}
    diverged = steps[(steps["method"] == "sgd") & (steps["seed"] == 2)]
    assert len(diverged) == 5
    assert math.isnan(diverged["loss"].iloc[-1])
    runs = experiment.runs("barrier")
    assert list(runs.columns[:4]) == ["case", "method", "seed", "run_id"]
    assert runs["status"].tolist().count("diverged") == 1
    assert len(experiment.runs()) == 18
    assert experiment.evals("barrier").empty


def test_failed_runs_stay_in_final_and_leave_no_rows(make, roots):
    make.run(roots[0], "t", "sgd", make.run_id("c", "sgd", 0), {"steps": [(0, 1.0, 1, 1, 1, None)]})
    final = [("c", "sgd", 0, "t", "sgd", "finished"), ("c", "sgd", 1, "t", "sgd", "failed")]
    trials = [{"case": "c", "method": "sgd", "seed": 100, "status": "diverged", "score": None}]
    make.experiment(roots[0], "x", final, trials=trials)
    experiment = Records(roots).experiment("x")
    assert experiment.final["status"].tolist() == ["finished", "failed"]
    assert experiment.steps("c")["seed"].tolist() == [0]
    assert math.isnan(experiment.trials["score"][0])
    assert experiment.choice.empty


# ---------------------------------------------------------------- missing and mixed


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
