"""The LSTM on characters: batches, carried state, evaluation, and the real text where it is."""

import itertools
import math
import time

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import tasks.streamed_text
from tasks.base import Target
from tasks.data import ptb
from tasks.ptb_lstm import PTBLSTM
from tests.tasks import batch_checks
from tests.tasks.toy_text import (
    COMMON,
    LENGTHS,
    STREAMS,
    assert_a_slice_is_a_text,
    assert_an_epoch_starts_from_zeros,
    assert_mean_cost,
    assert_state_is_carried,
    assert_state_survives,
    characters,
    cost_by_hand,
    write_characters,
)


@pytest.fixture
def text_dir(tmp_path, monkeypatch):
    """A folder with a random text in the prepared format, taken for verified."""

    def draw(generator, length):
        return [ptb.SYMBOLS[i] for i in generator.integers(0, 50, length)]

    write_characters(tmp_path, draw)
    monkeypatch.setattr(tasks.streamed_text, "require", lambda name, data_dir, files: tmp_path)
    return tmp_path


def make(**changes):
    options = {
        **COMMON,
        "target": Target("perplexity", "valid", "min", 4.0),
        **STREAMS,
        "vocab_size": 50,
        "dropout": 0.0,
    }
    return PTBLSTM(**{**options, **changes})


def ready(**changes):
    return batch_checks.set_up(make(**changes))


def logits_of(model):
    return lambda inputs: model(inputs)[0]


def test_the_model_needs_no_data_and_no_global_generator():
    torch.manual_seed(1)
    first = make(data_dir="/nowhere").build_model().state_dict()
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = make().build_model().state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = make(seed=1).build_model().state_dict()
    assert not torch.equal(first["readout.weight"], other["readout.weight"])


def test_batches_are_contiguous_streams(text_dir):
    task, _ = ready()
    text = characters(text_dir, "train")
    length = len(text) // 4
    batches = list(task.batches(0))
    assert len(batches) == task.steps_per_epoch == (length - 1) // 7
    inputs = torch.cat([batch.inputs for batch in batches], 1)
    targets = torch.cat([batch.targets for batch in batches], 1)
    streams = text[: 4 * length].view(4, length)
    assert torch.equal(inputs, streams[:, : inputs.shape[1]])
    assert torch.equal(targets, streams[:, 1 : inputs.shape[1] + 1])
    assert all(batch.num_samples == 4 for batch in batches)


@pytest.mark.parametrize("start", [0, 1, 20, 42])
def test_batches_resume_anywhere(text_dir, start):
    task, _ = ready()
    batch_checks.assert_continues(task, list(task.batches(3)), 3, start)


def test_two_chunks_are_one_pass(text_dir):
    task, model = ready()
    assert_state_is_carried(task, model, logits_of(model))


def test_the_carried_state_is_detached(text_dir):
    task, model = ready()
    first, second = itertools.islice(task.batches(0), 2)
    task.backward(model, first)
    task.backward(model, second)  # would raise if it reached into the freed graph of the first
    carried = [value for value in task.state_dict().values() if isinstance(value, torch.Tensor)]
    assert len(carried) == 4
    assert not any(value.requires_grad for value in carried)


def test_a_batch_given_again_starts_from_the_same_state(text_dir):
    task, model = ready()
    first, second, third = itertools.islice(task.batches(0), 3)
    task.loss(model, first)
    losses = [task.loss(model, second).item() for _ in range(3)]
    assert len(set(losses)) == 1
    after = task.loss(model, third).item()
    task.reset()
    for batch in (first, second):
        task.loss(model, batch)
    assert task.loss(model, third).item() == after


def test_an_epoch_starts_from_zeros(text_dir):
    assert_an_epoch_starts_from_zeros(*ready())


def test_the_state_survives_a_round_trip(text_dir, tmp_path):
    task, model = ready()
    assert_state_survives(task, ready()[0], model, tmp_path / "state.pt")


@pytest.mark.parametrize("split", ["train", "valid", "test"])
@pytest.mark.parametrize("streams", [1, 3, 8])
def test_evaluation_predicts_every_symbol_once(text_dir, split, streams):
    task, model = ready(eval_streams=streams)
    text = characters(text_dir, split)
    assert len(text) == LENGTHS[split]
    length = math.ceil(len(text) / streams)
    total = cost_by_hand(logits_of(model), text, ptb.NEWLINE, length)
    assert_mean_cost(task.evaluate(model, split), total / len(text))


def test_evaluation_does_not_depend_on_training(text_dir):
    """Neither on the shape of its batches nor on its state, which it leaves alone."""
    task, model = ready()
    before = task.evaluate(model, "valid")
    first, second = itertools.islice(task.batches(0), 2)
    task.loss(model, first)
    state = task.state_dict()
    assert task.evaluate(model, "valid") == before
    assert task.state_dict().keys() == state.keys()
    disturbed = task.loss(model, second).item()
    other, _ = ready(batch_size=2, bptt=11)
    assert other.evaluate(model, "valid") == before
    other, _ = ready()
    other.loss(model, first)
    assert other.loss(model, second).item() == disturbed


def test_evaluation_ignores_dropout(text_dir):
    task, model = ready(dropout=0.5)
    first = next(task.batches(0))
    assert task.loss(model, first).item() != task.loss(model, first).item()
    assert task.evaluate(model, "valid") == task.evaluate(model, "valid")
    assert model.training


def test_a_slice_may_be_evaluated(text_dir):
    task, model = ready(eval_chars=95)
    assert_a_slice_is_a_text(text_dir, task, make(), model)


def test_a_diverged_model_has_no_perplexity(text_dir):
    task, model = ready()
    model.readout.weight.data.fill_(0)
    model.readout.bias.data.copy_(torch.linspace(0, 1e5, 50))
    assert task.evaluate(model, "valid")["perplexity"] == math.inf
    model.readout.bias.data.fill_(math.nan)
    assert math.isnan(task.evaluate(model, "valid")["perplexity"])


def test_a_sample_is_a_sequence(text_dir):
    task, model = ready()
    batch = next(task.batches(0))
    with task.curvature_pass(batch) as info:
        logits, _ = model(batch.inputs)
        losses = F.cross_entropy(logits.mT, batch.targets, reduction="none").sum(1)
    assert info.num_samples == 4
    batch_checks.assert_weighted(info, losses, task.loss(model, batch))


def test_the_papers_size():
    model = make(embedding_size=128, hidden_size=480, num_layers=3).build_model()
    parameters = sum(p.numel() for p in model.parameters())
    assert parameters == pytest.approx(5e6, rel=0.1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dropout": 1.0}, "dropout must be >= 0 and < 1, got 1.0"),
        ({"vocab_size": 49}, "vocab_size must be >= 50, got 49"),
        ({"bptt": 0}, "bptt must be >= 1, got 0"),
        ({"eval_chars": 0}, "eval_chars must be >= 1, got 0"),
        ({"data": "text8"}, "data must be one of ptb, got text8"),
        (
            {"eval_splits": ["dev"]},
            "split must be one of train, valid, test for PTBLSTM, got dev",
        ),
    ],
)
def test_bad_options_are_named(changes, message):
    batch_checks.assert_refused(make, changes, message)


def test_a_text_too_short_is_named(text_dir):
    with pytest.raises(ValueError, match=r"must be <= 1203, .* got 200 \* 8$"):
        ready(batch_size=200)


def test_the_real_text(ptb_dir):
    task = make(data_dir=str(ptb_dir))
    start = time.perf_counter()
    task.setup("cpu", torch.float32)
    # 0.06 s here; the bound is for slow discs.
    assert time.perf_counter() - start < 1.5
    valid = ptb.read_symbols(ptb_dir / "ptb" / "ptb.char.valid.txt")
    assert len(valid) == 393_042
    assert (np.bincount(valid, minlength=50) > 0).all()
    first = "".join(ptb.SYMBOLS[i] for i in valid[:24])
    assert first == "consumers_may_want_to_mo"


def test_training_on_the_real_text_beats_the_start(ptb_dir):
    task = make(data_dir=str(ptb_dir), batch_size=16, bptt=20, eval_chars=2000, hidden_size=32)
    task.setup("cpu", torch.float32)
    model = task.build_model()
    start = task.evaluate(model, "valid")["perplexity"]
    assert start == pytest.approx(50, rel=0.1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    batch_checks.take_steps(task, model, optimizer, itertools.islice(task.batches(0), 60))
    # The frequencies of the symbols alone give about 20.
    assert task.evaluate(model, "valid")["perplexity"] < 22
