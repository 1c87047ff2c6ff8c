"""The translation task: batches, loss, metrics, samples."""

import math

import pytest
import torch
from torch.nn import functional as F

from tasks.data.joined_bpe import END, PADDING
from tests.tasks.batch_checks import assert_weighted
from tests.tasks.toy_translation import ready, stand_in


@pytest.fixture(autouse=True)
def small_set(tmp_path, monkeypatch):
    return stand_in(tmp_path, monkeypatch)


# ---------------------------------------------------------------- batches


def test_an_epoch_gives_every_pair_once(small_set):
    task, _ = ready()
    seen = []
    for batch in task.batches(0):
        source, before = batch.inputs
        assert batch.num_samples == len(source) == len(batch.targets) == len(before)
        assert max(source.shape[1], before.shape[1]) * len(source) <= 80
        assert torch.equal(before[:, 1:], batch.targets[:, :-1])
        assert (before[:, 0] == END).all()
        for rows in (source, batch.targets):
            # Each row has one end, and padding after it only.
            assert torch.equal((rows == END).int().argmax(1), (rows != PADDING).sum(1) - 1)
        lines = zip(source.tolist(), batch.targets.tolist(), strict=True)
        seen += [tuple(task._text.decode(pair)) for pair in lines]
    expected = [(german, english.lower()) for german, english in small_set["train"]]
    assert sorted(seen) == sorted(expected)
    assert task.steps_per_epoch == len(list(task.batches(5))) > 5


def test_batches_resume_anywhere_and_differ_by_epoch_and_seed():
    task, _ = ready()
    whole = list(task.batches(3))
    for start in (0, 1, 4):
        again = list(task.batches(3, start))
        assert [batch.index for batch in again] == list(range(start, len(whole)))
        for batch, expected in zip(again, whole[start:], strict=True):
            assert torch.equal(batch.inputs[0], expected.inputs[0])
            assert torch.equal(batch.targets, expected.targets)

    def order(task, epoch):
        return [batch.targets.sum().item() for batch in task.batches(epoch)]

    assert order(task, 3) == order(ready()[0], 3)
    assert order(task, 3) != order(task, 4)
    assert sorted(order(task, 3)) == sorted(order(task, 4))
    assert sorted(order(task, 3)) != sorted(order(ready(seed=1)[0], 3))


def test_batch_size_bounds_the_pairs():
    task, _ = ready(batch_size=3)
    assert {batch.num_samples for batch in task.batches(0)} == {3}


# ---------------------------------------------------------------- loss and metrics


def test_the_loss_is_fairseqs():
    """(1 - e) nll + e / V sum of all -log p, over the target's tokens without padding."""
    task, model = ready()
    batch = list(task.batches(0))[2]
    total, count = 0.0, 0
    for source, target in zip(batch.inputs[0], batch.targets, strict=True):
        source, target = source[source != PADDING], target[target != PADDING]
        before = torch.tensor([END, *target[:-1]])
        steps = -model(source[None], before[None])[0].log_softmax(1)
        for costs, token in zip(steps, target, strict=True):
            total += (0.9 * costs[token] + 0.1 / 50 * costs.sum()).item()
            count += 1
    assert task.loss(model, batch).item() == pytest.approx(total / count, rel=1e-12)


def test_the_loss_at_the_start_is_that_of_theory():
    """A normed state of length sqrt(d) and rows N(0, 1/d) give logits N(0, 1): log V + 1/2.

    Apart from the token before, whose row the state holds.
    """
    task, model = ready(vocab_size=90, model={"dim": 128})
    batch = next(task.batches(0))
    before = batch.inputs[1]
    logits = model(*batch.inputs).scatter(2, before[..., None], -torch.inf)
    counted = (batch.targets != PADDING) & (batch.targets != before)
    loss = F.cross_entropy(logits[counted], batch.targets[counted])
    logits = logits.detach()
    assert logits[logits.isfinite()].std().item() == pytest.approx(1, rel=0.1)
    # Three deviations of a mean over some 60 targets, whose logits deviate by 1 each.
    assert 50 < counted.sum() < 80
    assert loss.item() == pytest.approx(math.log(90) + 0.5, abs=0.4)


def test_a_uniform_model_has_the_vocabulary_as_perplexity():
    task, model = ready(bleu_sentences=0)
    torch.nn.init.zeros_(model.embedding.weight)
    metrics = task.evaluate(model, "test")
    assert set(metrics) == {"loss", "nll", "perplexity"}
    assert metrics["perplexity"] == pytest.approx(50, rel=1e-12)
    assert metrics["loss"] == metrics["nll"] == pytest.approx(math.log(50), rel=1e-12)


@pytest.mark.parametrize("split", ["valid", "test"])
def test_evaluation_counts_every_token_once(split):
    task, model = ready(bleu_sentences=0)
    total, count = 0.0, 0
    for source, target in task._text.tokens[split]:
        before = torch.tensor([[END, *target[:-1]]])
        logits = model(torch.tensor([source]), before)[0]
        total += F.cross_entropy(logits, torch.tensor(target), reduction="sum").item()
        count += len(target)
    found = task.evaluate(model, split)["nll"]
    assert found == pytest.approx(total / count, rel=1e-12)


def test_evaluation_is_the_same_again_and_changes_nothing():
    task, model = ready(model={"dropout": 0.3})
    state = torch.get_rng_state()
    first = task.evaluate(model, "valid")
    assert model.training and torch.equal(torch.get_rng_state(), state)
    assert task.evaluate(model, "valid") == first
    assert ready(model={"dropout": 0.1}, batch_size=2)[0].evaluate(model, "valid") == first


def test_a_part_of_a_split_is_evenly_spaced(small_set):
    task, model = ready(eval_sentences=3, bleu_sentences=4)
    _, references = task.translate(model.eval(), "valid")
    english = [english.lower() for _, english in small_set["valid"]]
    assert references == [english[k] for k in (0, 7, 15, 23)]
    part = {"train": small_set["train"], "valid": [small_set["valid"][k] for k in (0, 10, 20)]}
    small_set["valid"] = part["valid"]
    other, _ = ready(bleu_sentences=0)
    expected = other.evaluate(model, "valid")["nll"]
    assert task.evaluate(model, "valid")["nll"] == expected


def test_a_diverged_model_has_no_metrics():
    task, model = ready()
    model.decoder_norm.weight.data.fill_(math.nan)
    metrics = task.evaluate(model, "valid")
    assert math.isnan(metrics["nll"]) and math.isnan(metrics["perplexity"])
    assert metrics["bleu"] == 0
    model.decoder_norm.weight.data.fill_(1e6)
    assert task.evaluate(model, "valid")["perplexity"] == math.inf


# ---------------------------------------------------------------- samples


def test_a_sample_is_a_sentence_pair():
    task, model = ready(label_smoothing=0.1)
    batch = list(task.batches(0))[3]
    with task.curvature_pass(batch) as info:
        logits = model(*batch.inputs)
        losses = F.cross_entropy(
            logits.mT, batch.targets, ignore_index=PADDING, label_smoothing=0.1, reduction="none"
        ).sum(1)
    assert info.num_samples == len(batch.targets)
    assert_weighted(info, losses, task.loss(model, batch))


def test_per_sample_gradients_are_those_of_the_pairs_alone():
    from optimizers.capture.record import find_layers, record_calls

    task, model = ready()
    batch = list(task.batches(0))[3]
    layers = find_layers(model, list(model.parameters()))
    assert not any("embedding" in layer.path or "readout" in layer.path for layer in layers)
    # q, k, v, output of three attentions and two feed-forward layers, in two layers a side.
    assert len(layers) == 2 * (4 + 2) + 2 * (8 + 2)
    with (
        task.curvature_pass(batch) as info,
        record_calls(layers, info.num_samples, info.batch_dim, info.weights) as recording,
    ):
        task.backward(model, batch)
    for layer in layers[:3] + layers[-4:]:
        gradients = torch.cat(
            [s.gradients() for s in recording.samples(layer, dtype=torch.float64)]
        )
        model.zero_grad()
        row = 1
        logits = model(*(x[row : row + 1] for x in batch.inputs))
        F.cross_entropy(
            logits.flatten(0, 1),
            batch.targets[row],
            ignore_index=PADDING,
            label_smoothing=0.1,
            reduction="sum",
        ).backward()
        expected = torch.cat([layer.weight.grad, layer.bias.grad[:, None]], dim=1)
        # The weights, by which gradients are divided, are float32.
        torch.testing.assert_close(gradients[row], expected, rtol=1e-6, atol=1e-8)
