import json
import math
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
