"""The recommendation task: its loss, its warm-up, what evaluation measures, what it refuses."""

import math

import pytest
import torch
from hydra.utils import instantiate

import run
from tasks.ranking import ndcg
from tests.commands import command


@pytest.fixture(autouse=True)
def sets(fake_sets):
    return fake_sets


def made(*more, dtype=torch.float64):
    task = instantiate(run.compose(["task=ml20m_hvamp", "scale=smoke", *more]).task)
    task.setup("cpu", dtype)
    return task


def test_beta_grows_with_the_epochs():
    task = made("task.warmup_epochs=100", "task.max_beta=0.3")
    betas = [task.beta(epoch) for epoch in (0, 1, 49, 98, 99, 100, 399)]
    # The published code counts epochs from 1.
    assert betas == pytest.approx([0.003, 0.006, 0.15, 0.297, 0.3, 0.3, 0.3], rel=1e-12)
    assert made("task.warmup_epochs=0", "task.max_beta=0.3").beta(0) == 0.3


@pytest.mark.parametrize("likelihood", ["bernoulli", "multinomial"])
def test_the_loss_weighs_the_divergence_by_the_batchs_epoch(likelihood):
    task = made("task.warmup_epochs=4", "task.max_beta=0.8", f"task.likelihood={likelihood}")
    model = task.build_model().double()
    losses = []
    for epoch in (0, 1, 3, 7):
        batch = next(task.batches(0))
        torch.manual_seed(5)
        losses.append(task.loss(model, type(batch)(**{**vars(batch), "epoch": epoch})).item())
    torch.manual_seed(5)
    reading = model(batch.inputs)
    kl = reading.kl.mean().item()
    reconstruction = task.likelihood.loss(reading.logits, batch.targets).mean().item()
    expected = [reconstruction + beta * kl for beta in (0.2, 0.4, 0.8, 0.8)]
    assert losses == pytest.approx(expected, rel=1e-12)


def test_batches_are_the_users_clicks():
    task = made()
    batches = list(task.batches(1))
    assert [batch.num_samples for batch in batches] == [8] * (len(batches) - 1) + [
        len(task._train) - 8 * (len(batches) - 1)
    ]
    rows = torch.cat([batch.inputs for batch in batches])
    every = task._train.rows(torch.arange(len(task._train)), torch.float64)
    assert sorted(rows.tolist()) == sorted(every.tolist())
    assert all(batch.targets is batch.inputs for batch in batches)


def test_evaluation_ranks_what_is_hidden_by_the_means():
    task = made()
    model = task.build_model().double()
    metrics = task.evaluate(model, "valid")
    heldout = task._heldout["valid"]
    users = torch.arange(len(heldout.seen))
    seen, hidden = (c.rows(users, torch.float64) for c in (heldout.seen, heldout.hidden))
    assert ((seen > 0) & (hidden > 0)).sum() == 0
    model.eval()
    with torch.no_grad():
        scores = model(seen).logits
    order = scores.masked_fill(seen > 0, -math.inf).argsort(dim=1, descending=True)
    assert metrics["ndcg_100"] == pytest.approx(ndcg(order[:, :100], hidden).mean().item())
    found = hidden.gather(1, order[:, :20]).sum(1) / hidden.sum(1).clamp(max=20)
    assert metrics["recall_20"] == pytest.approx(found.mean().item())
    assert metrics["loss"] == metrics["reconstruction"] + metrics["kl"]


def test_evaluation_does_not_depend_on_how_many_users_go_at_a_time():
    metrics = []
    for size in (3, 1000):
        task = made(f"task.eval_batch_size={size}")
        metrics.append(task.evaluate(task.build_model().double(), "test"))
    assert metrics[0] == pytest.approx(metrics[1], rel=1e-12)


def test_training_users_are_not_ranked():
    task = made("task.eval_train=7")
    model = task.build_model().double()
    metrics = task.evaluate(model, "train")
    assert sorted(metrics) == ["kl", "loss", "reconstruction"]
    assert metrics != task.evaluate(model, "valid")
    more = made("task.eval_train=8").evaluate(model, "train")
    assert metrics["loss"] != more["loss"]


def test_the_trivial_ranking_is_by_popularity():
    task = made()
    counts = task._train.counts()
    heldout = task._heldout["valid"]
    users = torch.arange(len(heldout.seen))
    seen, hidden = (c.rows(users, torch.float64) for c in (heldout.seen, heldout.hidden))
    # Items are numbered by their clicks; among those of as many topk may choose.
    top = counts.double().expand_as(seen).masked_fill(seen > 0, -1).topk(100, dim=1).indices
    assert task.facts()["trivial"] == pytest.approx(ndcg(top, hidden).mean().item())
    # Of the loss: one probability an item, the same for all users.
    task = made("task.target.metric=loss", "task.target.direction=min")
    rates = (counts + 1) / (len(task._train) + 2)
    expected = -(seen * rates.log() + (1 - seen) * (1 - rates).log()).sum(1).mean().item()
    assert task.facts()["trivial"] == pytest.approx(expected, rel=1e-6)


def test_it_learns_more_than_popularity_of_clicks_with_a_structure(tmp_path):
    """Users of two kinds, who click one half of the films each."""
    from tasks.data.listing import SHA256, write_listing

    lines = ["userId,movieId,rating,timestamp\n"]
    generator = torch.Generator().manual_seed(0)
    for user in range(1, 81):
        own = torch.randperm(50, generator=generator)[:20].sort().values + 50 * (user % 2)
        lines += [f"{user},{int(film) + 1},5.0,1\n" for film in own]
    (tmp_path / "ml_20m").mkdir()
    (tmp_path / "ml_20m" / "ratings.csv").write_text("".join(lines))
    write_listing(tmp_path / "ml_20m", SHA256)
    more = ["task.num_items=100", "task.num_train=null", "task.model.dropout=0.0"]
    task = made("task.data=ml_20m", f"data_dir={tmp_path}", *more)
    model = task.build_model().double()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for epoch in range(12):
        for batch in task.batches(epoch):
            optimizer.zero_grad()
            task.backward(model, batch)
            optimizer.step()
    # Knowing the half, 4 of the 34 films left in it are hidden: their NDCG is about .5.
    found = task.evaluate(model, "valid")["ndcg_100"]
    assert found > 1.15 * task.facts()["trivial"]


def test_optimizers_that_ask_for_samples_are_refused_by_a_reason(tmp_path):
    asked = ["task=ml20m_hvamp", "optimizer=ng_plus", "scale=smoke", f"runs_dir={tmp_path}"]
    result = command(*asked)
    assert result.code == 2
    assert result.err.splitlines() == [
        "run.py: the task must give per-sample information for this optimizer, got a prior of "
        "pseudo-inputs, through which every user's loss reaches the same encoder"
    ]


def test_more_items_than_there_are_is_one_line(tmp_path, sets):
    result = command(
        "task=ml20m_hvamp", "scale=smoke", "task.num_items=5000", f"runs_dir={tmp_path}",
        sets_dir=sets,
    )  # fmt: skip
    assert result.code == 2
    assert len(result.err.splitlines()) == 1
    assert result.err.startswith("run.py: num_items must be <= "), result.err


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("likelihood", "gaussian"),
        ("max_beta", -1),
        ("warmup_epochs", -1),
        ("num_items", 0),
        ("num_heldout", 0),
        ("eval_batch_size", 0),
    ],
)
def test_bad_options_are_refused_by_name(option, value):
    with pytest.raises(Exception) as error:
        made(f"task.{option}={value}")
    assert str(error.value.__cause__).startswith(f"{option} must be ")
