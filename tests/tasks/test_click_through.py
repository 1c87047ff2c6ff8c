"""The click-through task: days, inputs, metrics and options."""

import math

import pytest
import torch
from hydra.utils import instantiate
from torch import nn

import run
from tasks import click_through
from tasks.click_through import ClickThrough
from tasks.data.store import fetch
from tasks.roc import area_under_roc
from tests.commands import assert_same
from tests.tasks.batch_checks import assert_weighted
from tests.tasks.toy_clicks import NUM_ROWS


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
def test_the_last_day_is_the_test_and_the_ones_before_it_choose(click_log, valid_days, ends):
    task = ready(f"task.valid_days={valid_days}")
    for split, (first, end) in zip(task.splits, ends, strict=True):
        assert rows_of(task, split) == list(range(first, end))


def test_without_days_that_choose_six_are_trained_on(click_log):
    task = ready("task.valid_days=0", "task.eval_splits=[test]", "task.target.split=test")
    assert rows_of(task, "train") == list(range(35))
    assert task.steps_per_epoch == math.ceil(35 / task.batch_size)


def test_what_the_model_is_given_by_hand(click_log):
    task = ready("task.table_rows=3")
    (counts, categories), labels = task._samples(torch.tensor([4, 9]))
    # log(1 + x); -2 counts as 0, as does what is missing.
    expected = [[math.log(5), 0.0, 0.0], [math.log(10), 0.0, 0.0]]
    torch.testing.assert_close(counts[:, :3], torch.tensor(expected, dtype=torch.float64))
    # 4 % 5 = 4 in three buckets; a missing category is 0; ffffffff and 0a18233a by remainder.
    assert categories[:, :4].tolist() == [[1, 0, 0xFFFFFFFF % 3, 0x0A18233A % 3]] * 2
    assert labels.tolist() == [0.0, 1.0]


def test_indexed_categories_have_a_row_each(click_log):
    rows = [5, *[1] * 25]
    task = ready("task.categories=indexed", f"task.table_rows={rows}")
    (_, categories), _ = task._samples(torch.arange(NUM_ROWS))
    assert categories[:, 0].tolist() == [i % 5 for i in range(NUM_ROWS)]
    assert not categories[:, 1:].any()


def test_an_epoch_visits_each_training_row_once(click_log):
    task = ready("task.batch_size=8")
    for epoch in range(2):
        batches = list(task.batches(epoch))
        assert [batch.num_samples for batch in batches] == [8, 8, 8, 6]
        seen = torch.cat([batch.inputs[0][:, 0] for batch in batches]).expm1().round().int()
        assert sorted(seen.tolist()) == list(range(30))
        assert seen.tolist() != list(range(30))


def test_a_large_log_stays_on_disk_and_gives_the_same_batches(click_log, monkeypatch):
    path = click_log / "sets" / "criteo_10k" / "train.txt"
    fetch("criteo_kaggle", click_log / "sets", originals=path)
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


def test_metrics_by_hand(click_log):
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


def test_training_rows_are_evaluated_evenly_spaced(click_log):
    task = ready("task.eval_train=4")
    assert task._evaluated("train").tolist() == [0, 7, 15, 22]
    assert task._evaluated("test").tolist() == [35, 36, 37, 38, 39]


def test_trivial_is_the_click_rate(click_log):
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


def test_a_sample_is_a_row_of_equal_weight(click_log):
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


def test_more_categories_than_rows_of_their_table_are_refused(click_log):
    with pytest.raises(ValueError, match=r"^table_rows must be >= \[5, 1, 1,.* got \[4, 4,"):
        ready("task.categories=indexed", "task.table_rows=4")


def test_a_log_without_seven_rows_is_refused(click_log):
    with pytest.raises(ValueError, match=r"^num_rows must be >= 7, got 6$"):
        ready("task.num_rows=6")
