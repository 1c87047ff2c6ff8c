"""Whole runs of the click-through task, and what its rows teach."""

import os
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate

import run
from runners import preflight
from tasks.click_through import ClickThrough
from tests.commands import assert_same_run, column, command, the_run
from tests.fake_sets import standing_in
from tests.tasks.toy_clicks import counted, row, stand_in


def asked(folder, *more):
    runs_dir = f"runs_dir={folder / 'runs'}"
    return ("task=criteo_dlrm", "scale=smoke", "task.num_rows=null", runs_dir, *more)


def test_a_row_with_the_wrong_number_of_columns_ends_the_command(tmp_path):
    rows = [counted(i) for i in range(20)]
    rows[13] = row()[2:]
    with standing_in(stand_in(tmp_path / "sets", rows)):
        result = command(*asked(tmp_path))
    assert result.code == 2
    path = tmp_path / "sets" / "criteo_10k" / "train.txt"
    assert result.err.startswith(f"run.py: {path}, line 14: must have 40 columns")
    assert len(result.err.splitlines()) == 1 and not (tmp_path / "runs").exists()


def test_a_dry_run_without_the_log_takes_no_memory_for_the_model(tmp_path, monkeypatch):
    count, devices = preflight.count_parameters, []

    def noting(model):
        devices.append({parameter.device.type for parameter in model.parameters()})
        return count(model)

    monkeypatch.setattr(preflight, "count_parameters", noting)
    places = (f"data_dir={tmp_path / 'data'}", f"runs_dir={tmp_path / 'runs'}")
    result = command("task=criteo_dlrm", "scale=paper", "dry_run=true", *places)
    assert result.code == 0 and "parameters=540677217" in result.out.splitlines()
    assert devices == [{"meta"}]


def test_an_optimizer_that_takes_no_sparse_gradients_is_refused(click_log):
    result = command(*asked(click_log, "optimizer=adam", "task.model.sparse=true"))
    assert result.code == 2
    assert result.err.startswith(
        "run.py: sparse must be false for Adam with its options, or a rule"
    )
    assert result.err.endswith("got the sparse gradients of tables.0.weight and of 25 more\n")
    assert len(result.err.splitlines()) == 1 and not (click_log / "runs").exists()


def test_clipping_sparse_gradients(click_log):
    """Cut as dense ones are."""
    losses = []
    for sparse in ("false", "true"):
        more = (f"task.model.sparse={sparse}", "grad_clip=0.05", "optimizer.lr=1.0")
        assert command(*asked(click_log / sparse, *more)).code == 0
        losses.append(column(the_run(click_log / sparse / "runs"), "steps", "loss"))
    # The same sums, in another order, over twelve steps.
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize("optimizer", ["adagrad", "sgd"])
def test_a_run_with_sparse_gradients_records_and_resumes(optimizer, click_log, monkeypatch):
    options = (f"optimizer={optimizer}", "checkpoint.steps=1", "checkpoint.keep=true")
    runs = {}
    for name, sparse in (("dense", "false"), ("sparse", "true"), ("cut", "true")):
        given = asked(click_log / name, *options, f"task.model.sparse={sparse}")
        if name == "cut":
            evaluate, calls = ClickThrough.evaluate, []

            def stopped(self, *arguments, evaluate=evaluate, calls=calls):
                calls.append(arguments)
                if len(calls) == 5:  # of the second evaluation
                    raise KeyboardInterrupt
                return evaluate(self, *arguments)

            with monkeypatch.context() as patch:
                patch.setattr(ClickThrough, "evaluate", stopped)
                assert command(*given).code == 130
        result = command(*given)
        assert result.code == 0, result.err
        runs[name] = the_run(click_log / name / "runs")
    assert_same_run(runs["sparse"], runs["cut"])
    for name in ("loss", "grad_norm"):
        dense, sparse = (column(runs[kind], "steps", name) for kind in ("dense", "sparse"))
        # The same sums, in another order, over twelve steps.
        assert dense == pytest.approx(sparse, rel=1e-4)


# ---------------------------------------------------------------- the real rows


def test_training_on_the_real_rows_beats_the_click_rate(tmp_path):
    data_dir = Path(os.environ.get("KAPPA_DATA", "data")).absolute()
    if not (data_dir / "criteo_10k" / "train.txt").is_file():
        pytest.skip("criteo_10k is not there; set KAPPA_DATA to the folder of data sets")
    task = instantiate(run.compose(["task=criteo_dlrm", f"data_dir={data_dir}"]).task)
    task.setup("cpu", torch.float32)
    model = task.build_model()
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.01)
    for batch in task.batches(0):
        optimizer.zero_grad()
        task.backward(model, batch)
        optimizer.step()
    metrics = task.evaluate(model, "valid")
    # 1,428 rows: one standard error of the difference in loss is .006.
    assert metrics["loss"] < task.facts()["trivial"] - 0.03
    assert metrics["auc"] > 0.68
