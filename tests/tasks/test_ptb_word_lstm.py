"""The task of the AWD-LSTM: batches, loss, carried state, evaluation, and the real text."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import tasks.streamed_text
from tasks.base import Target
from tasks.data import ptb
from tasks.data.store import DataError
from tasks.models.awd_lstm import DropoutRates, Prediction
from tasks.ptb_word_lstm import PTBWordLSTM
from tests.tasks import batch_checks
from tests.tasks.toy_text import (
    COMMON,
    STREAMS,
    assert_an_epoch_starts_from_zeros,
    assert_mean_cost,
    assert_state_is_carried,
    assert_state_survives,
    cost_by_hand,
)

LENGTHS = {"train": 1200, "valid": 507, "test": 95}  # words, ends of lines included
VOCAB = 40
RATES = {"words": 0.1, "inputs": 0.2, "hidden": 0.2, "outputs": 0.3, "weights": 0.5}


@pytest.fixture
def text_dir(tmp_path, monkeypatch):
    """A folder with random words in the prepared format, taken for verified."""
    generator = np.random.default_rng(0)
    for split, length in LENGTHS.items():
        words = [f"w{i}" for i in generator.integers(0, VOCAB - 2, length)]
        words[9::10] = ["\n"] * len(words[9::10])
        (tmp_path / f"ptb.{split}.txt").write_text(" ".join(words[:-1]) + " \n")
    monkeypatch.setattr(tasks.streamed_text, "require", lambda name, data_dir, files: tmp_path)
    return tmp_path


def make(**changes):
    options = {
        **COMMON,
        "target": Target("perplexity", "valid", "min", 100.0),
        **STREAMS,
        "vocab_size": VOCAB,
        "dropout": DropoutRates(),
        "tied": True,
        "activation_penalty": 0.0,
        "slowness_penalty": 0.0,
    }
    return PTBWordLSTM(**{**options, **changes})


def ready(**changes):
    return batch_checks.set_up(make(**changes))


def logits_of(model):
    return lambda inputs: model(inputs).logits


def encoded(folder, split):
    vocabulary = ptb.read_vocabulary(folder / "ptb.train.txt", VOCAB)
    return torch.from_numpy(ptb.read_words(folder / f"ptb.{split}.txt", vocabulary))


def test_batches_are_contiguous_streams_from_a_drawn_word(text_dir):
    task, _ = ready()
    text = encoded(text_dir, "train")
    assert len(text) == LENGTHS["train"]
    streams = text[: 4 * (len(text) // 4)].view(4, -1)
    offsets = set()
    for epoch in range(20):
        batches = list(task.batches(epoch))
        assert len(batches) == task.steps_per_epoch == (300 - 1 - 6) // 7
        inputs = torch.cat([batch.inputs for batch in batches], 1)
        targets = torch.cat([batch.targets for batch in batches], 1)
        found = [
            offset
            for offset in range(7)
            if torch.equal(inputs, streams[:, offset : offset + inputs.shape[1]])
        ]
        (offset,) = found
        assert torch.equal(targets, streams[:, offset + 1 : offset + 1 + inputs.shape[1]])
        offsets.add(offset)
    # Of seven possible ones, twenty draws miss two with probability below 1 %.
    assert len(offsets) >= 6


@pytest.mark.parametrize("start", [0, 1, 20, 41])
def test_batches_resume_anywhere(text_dir, start):
    task, _ = ready()
    other, _ = ready()
    batch_checks.assert_continues(other, list(task.batches(3)), 3, start)
    shifted, _ = ready(seed=1)
    assert any(
        not torch.equal(next(shifted.batches(epoch)).inputs, next(task.batches(epoch)).inputs)
        for epoch in range(4)
    )


def test_the_loss_is_the_stated_sum(text_dir):
    task, model = ready(dropout=DropoutRates(**RATES), activation_penalty=2.0, slowness_penalty=1.5)
    batch = next(task.batches(0))
    torch.manual_seed(4)
    loss = task.loss(model, batch)
    torch.manual_seed(4)
    p = model(batch.inputs)
    h = p.outputs
    pieces = [
        -p.logits.log_softmax(-1).gather(-1, batch.targets[..., None]).mean(),
        2.0 * (p.dropped**2).mean(),
        1.5 * ((h[:, 1:] - h[:, :-1]) ** 2).mean(),
    ]
    assert all(piece > 0 for piece in pieces)
    torch.testing.assert_close(loss, sum(pieces), rtol=1e-12, atol=0)
    # Evaluation has none of the two terms.
    plain, _ = ready()
    assert task.evaluate(model, "valid") == plain.evaluate(model, "valid")


def test_two_chunks_are_one_pass(text_dir):
    task, model = ready()
    assert_state_is_carried(task, model, logits_of(model))


def test_the_carried_state_is_detached_and_survives_a_round_trip(text_dir, tmp_path):
    task, model = ready(dropout=DropoutRates(**RATES))
    other, _ = ready(dropout=DropoutRates(**RATES))
    assert_state_survives(task, other, model, tmp_path / "state.pt")


def test_an_epoch_starts_from_zeros(text_dir):
    assert_an_epoch_starts_from_zeros(*ready())


@pytest.mark.parametrize("split", ["train", "valid", "test"])
@pytest.mark.parametrize("streams", [1, 3, 8])
def test_evaluation_predicts_every_word_once(text_dir, split, streams):
    task, model = ready(eval_streams=streams, dropout=DropoutRates(**RATES))
    text = encoded(text_dir, split)
    assert len(text) == LENGTHS[split]
    length = math.ceil(len(text) / streams)
    total = cost_by_hand(logits_of(model.eval()), text, ptb.EOS, length)
    model.train()
    assert_mean_cost(task.evaluate(model, split), total / len(text))
    assert model.training
    assert task.state_dict() == {}


def test_the_perplexity_of_a_uniform_model_is_the_vocabulary(text_dir):
    task, model = ready(vocab_size=10_000)
    model.embedding.weight.data.zero_()
    # exp(log(10000)) is off by the rounding of both.
    assert task.evaluate(model, "valid")["perplexity"] == pytest.approx(10_000, rel=1e-13)


def test_a_smaller_vocabulary_has_more_unknown_words(text_dir):
    task, model = ready(vocab_size=10)
    inputs = torch.cat([batch.inputs for batch in task.batches(0)])
    assert int(inputs.max()) == 9
    assert model.embedding.num_embeddings == 10
    whole, _ = ready()
    unknown = [(x == ptb.UNK).double().mean() for x in (inputs, next(whole.batches(0)).inputs)]
    assert unknown[0] > 0.5 and unknown[1] == 0


def test_a_sample_is_a_sequence(text_dir):
    task, model = ready(activation_penalty=2.0, slowness_penalty=1.0)
    batch = next(task.batches(0))
    with task.curvature_pass(batch) as info:
        p = model(batch.inputs)
        losses = F.cross_entropy(p.logits.mT, batch.targets, reduction="none").sum(1)
        losses = losses + 2.0 * p.dropped.square().mean(2).sum(1)
        losses = losses + (7 / 6) * p.outputs.diff(dim=1).square().mean(2).sum(1)
    assert info.num_samples == 4
    batch_checks.assert_weighted(info, losses, task.loss(model, batch))


def test_penalties_of_bfloat16_outputs_are_summed_in_the_losss_precision(text_dir):
    task, _ = ready(activation_penalty=2.0, slowness_penalty=1.0)
    batch = next(task.batches(0))
    torch.manual_seed(0)
    logits = torch.zeros(*batch.targets.shape, VOCAB)
    outputs = torch.randn(*batch.targets.shape, 50).bfloat16()
    loss = task.loss(lambda words, state: Prediction(logits, (), outputs, outputs / 2), batch)
    wide = outputs.double()
    penalties = 2 * (wide / 2).square().mean() + wide.diff(dim=1).square().mean()
    assert loss.dtype == torch.float32
    # float32 sums of 1,400 terms; a bfloat16 mean would be off by up to 4e-3.
    assert loss.item() == pytest.approx(math.log(VOCAB) + penalties.item(), rel=1e-6)


def test_a_word_of_another_split_alone_is_refused(text_dir):
    (text_dir / "ptb.test.txt").write_text(" w1 w2 \n w3 zebra \n")
    with pytest.raises(DataError, match=r"ptb\.test\.txt, line 2: .*, got 'zebra'$"):
        ready()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bptt": 1}, "bptt must be >= 2, got 1"),
        ({"vocab_size": 1}, "vocab_size must be >= 2, got 1"),
        ({"hidden_size": 0}, "hidden_size must be >= 1, got 0"),
        ({"eval_words": 0}, "eval_words must be >= 1, got 0"),
        ({"activation_penalty": -1.0}, "activation_penalty must be >= 0, got -1.0"),
        ({"slowness_penalty": math.nan}, "slowness_penalty must be >= 0, got nan"),
        ({"data": "wikitext"}, "data must be one of ptb, got wikitext"),
    ],
)
def test_bad_options_are_named(changes, message):
    batch_checks.assert_refused(make, changes, message)


def test_a_text_too_short_is_named(text_dir):
    with pytest.raises(ValueError, match=r"must be <= 1200, .* got 100 \* 14$"):
        ready(batch_size=100)


def test_training_on_the_real_text_beats_the_start(ptb_dir):
    sizes = {"vocab_size": 10_000, "embedding_size": 20, "hidden_size": 30}
    task = make(data_dir=str(ptb_dir), **sizes, batch_size=10, bptt=20, eval_words=2000)
    task.setup("cpu", torch.float32)
    model = task.build_model()
    assert task.evaluate(model, "valid")["perplexity"] == pytest.approx(10_000, rel=0.01)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    batch_checks.take_steps(task, model, optimizer, itertools.islice(task.batches(0), 60))
    # 1,700 here, after 1 % of an epoch; a change of this bound's size is no matter of seeds.
    assert task.evaluate(model, "valid")["perplexity"] < 2500
