"""The click-through task: days, inputs, metrics, options and whole runs."""

import math
import os
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from torch import nn

import run
from runners import preflight
from tasks import click_through
from tasks.click_through import ClickThrough
from tasks.data.store import fetch, sha256
from tasks.roc import area_under_roc
from tests.commands import assert_same, assert_same_run, column, command, the_run
from tests.fake_sets import CHECKSUMS, standing_in
from tests.tasks.batch_checks import assert_weighted
from tests.tasks.toy_clicks import counted, row, write_log

NUM_ROWS = 40  # days of 6, 6, 6, 6, 6, 5 and 5 rows


def stand_in(folder, rows):
    path = write_log(folder / "criteo_10k" / "train.txt", rows)
    (folder / CHECKSUMS).write_text(f"{sha256(path)}  criteo_10k/train.txt\n")
    return folder


@pytest.fixture
def log(tmp_path):
    with standing_in(stand_in(tmp_path / "sets", [counted(i) for i in range(NUM_ROWS)])) as _:
        yield tmp_path


def config(*more):
    return run.compose(["task=criteo_dlrm", "scale=smoke", "task.num_rows=null", *more]).task


def ready(*more, dtype=torch.float64):
    task = instantiate(config(*more))
    task.setup("cpu", dtype)
    return task


def rows_of(task, split):
    """Numbers of the rows of a split, which the first count tells."""
    first, end = task._bounds[split]
    (counts, _), _ = task._samples(torch.arange(first, end))
    return counts[:, 0].expm1().round().int().tolist()


# ---------------------------------------------------------------- data


@pytest.mark.parametrize(
    ("valid_days", "ends"), [(1, [(0, 30), (30, 35), (35, 40)]), (2, [(0, 24), (24, 35), (35, 40)])]
)
def test_the_last_day_is_the_test_and_the_ones_before_it_choose(log, valid_days, ends):
    task = ready(f"task.valid_days={valid_days}")
    for split, (first, end) in zip(task.splits, ends, strict=True):
        assert rows_of(task, split) == list(range(first, end))


def test_without_days_that_choose_six_are_trained_on(log):
    task = ready("task.valid_days=0", "task.eval_splits=[test]", "task.target.split=test")
    assert rows_of(task, "train") == list(range(35))
    assert task.steps_per_epoch == math.ceil(35 / task.batch_size)


def test_what_the_model_is_given_by_hand(log):
    task = ready("task.table_rows=3")
    (counts, categories), labels = task._samples(torch.tensor([4, 9]))
    # log(1 + x); -2 counts as 0, as does what is missing.
    expected = [[math.log(5), 0.0, 0.0], [math.log(10), 0.0, 0.0]]
    torch.testing.assert_close(counts[:, :3], torch.tensor(expected, dtype=torch.float64))
    # 4 % 5 = 4 in three buckets; a missing category is 0; ffffffff and 0a18233a by remainder.
    assert categories[:, :4].tolist() == [[1, 0, 0xFFFFFFFF % 3, 0x0A18233A % 3]] * 2
    assert labels.tolist() == [0.0, 1.0]


def test_indexed_categories_have_a_row_each(log):
    rows = [5, *[1] * 25]
    task = ready("task.categories=indexed", f"task.table_rows={rows}")
    (_, categories), _ = task._samples(torch.arange(NUM_ROWS))
    assert categories[:, 0].tolist() == [i % 5 for i in range(NUM_ROWS)]
    assert not categories[:, 1:].any()


def test_an_epoch_visits_each_training_row_once(log):
    task = ready("task.batch_size=8")
    for epoch in range(2):
        batches = list(task.batches(epoch))
        assert [batch.num_samples for batch in batches] == [8, 8, 8, 6]
        seen = torch.cat([batch.inputs[0][:, 0] for batch in batches]).expm1().round().int()
        assert sorted(seen.tolist()) == list(range(30))
        assert seen.tolist() != list(range(30))


def test_a_large_log_stays_on_disk_and_gives_the_same_batches(log, monkeypatch):
    path = log / "sets" / "criteo_10k" / "train.txt"
    fetch("criteo_kaggle", log / "sets", originals=path)
    kept = ready()
    monkeypatch.setattr(click_through, "MOST_KEPT", NUM_ROWS - 1)
    large = ready("task.data=criteo_kaggle")
    for first, second in zip(kept.batches(0), large.batches(0), strict=True):
        assert_same((first.inputs, first.targets), (second.inputs, second.targets))
    assert large.data_hash() not in ("", kept.data_hash())


# ---------------------------------------------------------------- metrics


class Fixed(nn.Module):
    """Logit: the first count, less a number."""

    def __init__(self, shift):
        super().__init__()
        self.shift = shift

    def forward(self, counts, categories):
        return counts[:, 0].expm1() - self.shift


def test_metrics_by_hand(log):
    task = ready("task.eval_batch_size=2")
    # Rows 35 to 39, of which 36 and 39 are clicks; logits -2.5, -1.5, -.5, .5, 1.5.
    metrics = task.evaluate(Fixed(37.5), "test")
    wrong = [math.log1p(math.exp(z)) for z in (-2.5, -0.5, 0.5)]
    right = [math.log1p(math.exp(-z)) for z in (-1.5, 1.5)]
    # The counts have been through a logarithm and back.
    assert metrics["loss"] == pytest.approx(sum(wrong + right) / 5, rel=1e-9)
    assert metrics["accuracy"] == 3 / 5
    # Of 6 pairs: 36 beats 35; 39 beats all three.
    assert metrics["auc"] == pytest.approx(4 / 6, rel=1e-12)


def test_training_rows_are_evaluated_evenly_spaced(log):
    task = ready("task.eval_train=4")
    assert task._evaluated("train").tolist() == [0, 7, 15, 22]
    assert task._evaluated("test").tolist() == [35, 36, 37, 38, 39]


def test_trivial_is_the_click_rate(log):
    # Of 30 training rows 10 are clicks, of 5 to choose by 2; one is added to each count.
    loss = -(2 * math.log(11 / 32) + 3 * math.log(21 / 32)) / 5
    assert ready().facts()["trivial"] == pytest.approx(loss, rel=1e-12)
    assert ready("task.target.metric=accuracy").facts()["trivial"] == 3 / 5
    assert ready("task.target.metric=auc").facts()["trivial"] == 0.5


def test_the_area_counts_pairs():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(6, (40,), generator=generator).double()  # with many ties
    labels = torch.randint(2, (40,), generator=generator)
    differences = scores[labels == 1][:, None] - scores[labels == 0]
    pairs = (differences > 0).double() + 0.5 * (differences == 0)
    assert area_under_roc(scores, labels) == pytest.approx(pairs.mean().item(), rel=1e-12)


def test_the_area_of_one_class_or_of_nan_is_nan():
    assert math.isnan(area_under_roc(torch.rand(3), torch.ones(3)))
    assert math.isnan(area_under_roc(torch.tensor([0.0, math.nan]), torch.tensor([0, 1])))


def test_a_sample_is_a_row_of_equal_weight(log):
    task = ready()
    model = task.build_model().double()
    batch = next(task.batches(0))
    losses = nn.functional.binary_cross_entropy_with_logits(
        model(*batch.inputs), batch.targets, reduction="none"
    )
    with task.curvature_pass(batch) as info:
        assert_weighted(info, losses, task.loss(model, batch))


# ---------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "criteo"}, "data must be one of criteo_10k, criteo_kaggle, got criteo"),
        ({"categories": "counted"}, "categories must be one of hashed, indexed, got counted"),
        ({"valid_days": 6}, "valid_days must be <= 5, got 6"),
        ({"valid_days": 0}, "valid_days must be >= 1 to evaluate valid, got 0"),
        ({"table_rows": [1, 2]}, "table_rows must be an integer >= 1, or 26 of them, got [1, 2]"),
        ({"table_rows": 0}, f"table_rows must be an integer >= 1, or 26 of them, got {[0] * 26}"),
        ({"eval_train": 0}, "eval_train must be >= 1, got 0"),
        ({"model": None}, "model must have a _target_ that makes it, got None"),
    ],
)
def test_bad_options_are_named(changes, message):
    task = instantiate(config())
    options = {
        name: getattr(task, name)
        for name in (
            "seed", "data", "target", "max_steps", "batch_size", "evaluate_at", "eval_splits",
            "data_dir", "model", "table_rows", "categories", "valid_days", "eval_batch_size",
            "eval_train",
        )
    }  # fmt: skip
    with pytest.raises(ValueError) as error:
        ClickThrough(**options | changes)
    assert str(error.value) == message


def test_more_categories_than_rows_of_their_table_are_refused(log):
    with pytest.raises(ValueError, match=r"^table_rows must be >= \[5, 1, 1,.* got \[4, 4,"):
        ready("task.categories=indexed", "task.table_rows=4")


def test_a_log_without_seven_rows_is_refused(log):
    with pytest.raises(ValueError, match=r"^num_rows must be >= 7, got 6$"):
        ready("task.num_rows=6")


# ---------------------------------------------------------------- whole runs


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


def test_an_optimizer_that_takes_no_sparse_gradients_is_refused(log):
    result = command(*asked(log, "optimizer=adam", "task.model.sparse=true"))
    assert result.code == 2
    assert result.err.startswith(
        "run.py: sparse must be false for Adam with its options, or a rule"
    )
    assert result.err.endswith("got the sparse gradients of tables.0.weight and of 25 more\n")
    assert len(result.err.splitlines()) == 1 and not (log / "runs").exists()


def test_clipping_sparse_gradients(log):
    """Cut as dense ones are."""
    losses = []
    for sparse in ("false", "true"):
        more = (f"task.model.sparse={sparse}", "grad_clip=0.05", "optimizer.lr=1.0")
        assert command(*asked(log / sparse, *more)).code == 0
        losses.append(column(the_run(log / sparse / "runs"), "steps", "loss"))
    # The same sums, in another order, over twelve steps.
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize("optimizer", ["adagrad", "sgd"])
def test_a_run_with_sparse_gradients_records_and_resumes(optimizer, log, monkeypatch):
    options = (f"optimizer={optimizer}", "checkpoint.steps=1", "checkpoint.keep=true")
    runs = {}
    for name, sparse in (("dense", "false"), ("sparse", "true"), ("cut", "true")):
        given = asked(log / name, *options, f"task.model.sparse={sparse}")
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
        runs[name] = the_run(log / name / "runs")
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
