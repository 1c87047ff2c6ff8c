"""The task of the transformer: windows, both kinds of symbols, evaluation, and the real text."""

import builtins
import itertools
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import tasks.ptb_gpt
from tasks.base import Target
from tasks.data import ptb
from tasks.data.bpe import BytePairs
from tasks.ptb_gpt import PTBGPT
from tests.tasks import batch_checks
from tests.tasks.toy_text import (
    COMMON,
    LENGTHS,
    assert_a_slice_is_a_text,
    assert_mean_cost,
    characters,
    cost_by_hand,
    write_characters,
)

BPE = {"symbols": "bpe", "vocab_size": 300}


@pytest.fixture
def text_dir(tmp_path, monkeypatch):
    """A folder with words of random letters in the prepared format, taken for verified."""

    def draw(generator, length):
        symbols = [ptb.SYMBOLS[i] for i in generator.integers(23, 30, length)]
        symbols[5::6] = "_" * len(symbols[5::6])
        symbols[11::60] = "\n" * len(symbols[11::60])
        return symbols

    write_characters(tmp_path, draw)
    monkeypatch.setattr(tasks.ptb_gpt, "require", lambda name, data_dir, files: tmp_path)
    return tmp_path


def make(**changes):
    options = {
        **COMMON,
        "target": Target("bits_per_char", "valid", "min", 2.0),
        "symbols": "characters",
        "vocab_size": 50,
        "context": 8,
        "width": 8,
        "num_layers": 2,
        "num_heads": 2,
        "dropout": 0.0,
        "tied": False,
    }
    return PTBGPT(**{**options, **changes})


def ready(**changes):
    return batch_checks.set_up(make(**changes))


def test_an_epoch_is_a_permutation_of_windows(text_dir):
    task, _ = ready()
    text = characters(text_dir, "train")
    windows = [tuple(text[i : i + 9].tolist()) for i in range(0, 1200 - 8 + 1, 8)]
    assert len(windows) == (len(text) - 1) // 8 == 150
    orders = []
    for epoch in range(2):
        batches = list(task.batches(epoch))
        assert len(batches) == task.steps_per_epoch == 150 // 4
        found = []
        for batch in batches:
            assert torch.equal(batch.inputs[:, 1:], batch.targets[:, :-1])
            assert (batch.epoch, batch.num_samples) == (epoch, 4)
            rows = torch.cat([batch.inputs, batch.targets[:, -1:]], 1)
            found += [tuple(row) for row in rows.tolist()]
        remaining = list(windows)
        for row in found:
            remaining.remove(row)  # fails on a window that is given twice
        assert len(remaining) == 150 % 4
        orders.append(found)
    assert orders[0] != orders[1]


@pytest.mark.parametrize("start", [0, 1, 36])
def test_batches_resume_anywhere(text_dir, start):
    task, _ = ready()
    other, _ = ready()
    whole = list(task.batches(2))
    batch_checks.assert_continues(other, whole, 2, start)
    shifted, _ = ready(seed=1)
    assert not torch.equal(next(shifted.batches(2)).inputs, whole[0].inputs)


def test_byte_pairs_write_the_same_text(text_dir):
    task, _ = ready(**BPE)
    texts = {s: ptb.spell(ptb.read_symbols(text_dir / f"ptb.char.{s}.txt")) for s in LENGTHS}
    pairs = BytePairs(texts["train"], 300)
    assert len(pairs) == 300
    for split, text in texts.items():
        symbols = pairs.encode(text)
        assert pairs.decode(symbols) == text
        assert len(symbols) < 0.7 * len(text)
        assert pairs.lengths()[symbols].sum() == len(text)
        assert torch.equal(task._text[split], torch.from_numpy(symbols))
    assert pairs.decode(np.array([pairs.number("\n")])) == "\n"
    # Learned again, they are the same.
    again = BytePairs(texts["train"], 300)
    assert np.array_equal(again.encode(texts["valid"]), pairs.encode(texts["valid"]))


@pytest.mark.parametrize("split", ["train", "valid", "test"])
@pytest.mark.parametrize("symbols", [{}, BPE])
def test_evaluation_predicts_every_symbol_once(text_dir, split, symbols, monkeypatch):
    monkeypatch.setattr(tasks.ptb_gpt, "_EVAL_SYMBOLS", 20)  # several passes
    task, model = ready(**symbols)
    text = task._text[split].long()
    total = cost_by_hand(model, text, task._newline, 8)
    metrics = task.evaluate(model, split)
    assert_mean_cost(metrics, total / len(text))
    # Over the characters, whatever the symbols.
    expected = total / math.log(2) / LENGTHS[split]
    assert metrics["bits_per_char"] == pytest.approx(expected, rel=1e-12)
    if not symbols:
        assert task._newline == ptb.NEWLINE and len(text) == LENGTHS[split]


def test_a_uniform_model(text_dir):
    for symbols, size in (({}, 50), (BPE, 300)):
        task, model = ready(**symbols)
        model.readout.weight.data.zero_()
        # exp(log(50)) is off by the rounding of both.
        assert task.evaluate(model, "valid")["perplexity"] == pytest.approx(size, rel=1e-13)


def test_a_slice_may_be_evaluated(text_dir):
    task, model = ready(eval_symbols=95)
    assert_a_slice_is_a_text(text_dir, task, make(), model)


def test_evaluation_ignores_dropout_and_the_batch_size(text_dir):
    task, model = ready(dropout=0.5)
    batch = next(task.batches(0))
    assert task.loss(model, batch).item() != task.loss(model, batch).item()
    other, _ = ready(batch_size=2)
    assert task.evaluate(model, "valid") == other.evaluate(model, "valid")
    assert model.training


def test_a_sample_is_a_window(text_dir):
    task, model = ready()
    batch = next(task.batches(0))
    with task.curvature_pass(batch) as info:
        losses = F.cross_entropy(model(batch.inputs).mT, batch.targets, reduction="none").sum(1)
    assert info.num_samples == 4
    batch_checks.assert_weighted(info, losses, task.loss(model, batch))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"symbols": "words"}, "symbols must be one of characters, bpe, got words"),
        ({"vocab_size": 49}, "vocab_size must be >= 50, got 49"),
        ({**BPE, "vocab_size": 255}, "vocab_size must be >= 256, got 255"),
        ({"num_heads": 3}, "width must be a multiple of num_heads = 3, got 8"),
        ({"dropout": 1.0}, "dropout must be >= 0 and < 1, got 1.0"),
        ({"context": 0}, "context must be >= 1, got 0"),
        ({"eval_symbols": 0}, "eval_symbols must be >= 1, got 0"),
    ],
)
def test_bad_options_are_named(changes, message):
    batch_checks.assert_refused(make, changes, message)


def test_a_text_too_short_is_named(text_dir):
    with pytest.raises(ValueError, match=r"must be < 1203, .* got 200 \* 8$"):
        ready(batch_size=200)
    task, _ = ready(batch_size=150)
    assert task.steps_per_epoch == 1


def test_a_missing_library_is_one_line(text_dir, monkeypatch):
    found = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("tokenizers"):
            raise ImportError(f"No module named {name!r}")
        return found(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError) as error:
        ready(**BPE)
    assert str(error.value) == (
        "symbols=bpe needs the library tokenizers: pip install 'kappa-bench[nlp]'"
    )
    ready()  # characters need none


def test_training_on_the_real_text_beats_the_start(ptb_dir):
    sizes = {"context": 32, "width": 32, "batch_size": 16, "eval_symbols": 2000}
    task = make(data_dir=str(ptb_dir), **sizes)
    task.setup("cpu", torch.float32)
    assert task.steps_per_epoch == (5_017_482 - 1) // 32 // 16
    model = task.build_model()
    assert task.evaluate(model, "valid")["bits_per_char"] == pytest.approx(math.log2(50), abs=0.1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    batch_checks.take_steps(task, model, optimizer, itertools.islice(task.batches(0), 60))
    # The frequencies of the characters alone give 4.3.
    assert task.evaluate(model, "valid")["bits_per_char"] < 4.0
