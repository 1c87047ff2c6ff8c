"""Whole runs of the translation task, and options and libraries that it refuses."""

import itertools
import math
import os
import sys
from pathlib import Path

import pytest
import torch

from tasks.translation import Translation
from tests.commands import assert_same_run, column, command, evaluations, the_run
from tests.tasks.toy_translation import make, ready, stand_in


@pytest.fixture(autouse=True)
def small_set(tmp_path, monkeypatch):
    return stand_in(tmp_path, monkeypatch)


# ---------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "wmt14"}, "data must be one of iwslt14, multi30k, tatoeba_de_en, got wmt14"),
        ({"label_smoothing": 1.0}, "label_smoothing must be >= 0 and < 1, got 1.0"),
        ({"max_tokens": 0}, "max_tokens must be >= 1, got 0"),
        ({"bleu_sentences": -1}, "bleu_sentences must be >= 0, got -1"),
        ({"eval_sentences": 0}, "eval_sentences must be >= 1, got 0"),
        (
            {"eval_splits": ["dev"]},
            "split must be one of train, valid, test for Translation, got dev",
        ),
        ({"search": {"beam": 0}}, "beam must be >= 1, got 0"),
        ({"search": {"length_penalty": -1.0}}, "length_penalty must be >= 0, got -1.0"),
    ],
)
def test_bad_options_are_named(changes, message):
    with pytest.raises(ValueError) as error:
        make(**changes)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"dropout": 1.0}}, "dropout must be >= 0 and < 1, got 1.0"),
        ({"model": {"num_layers": 0}}, "num_layers must be >= 1, got 0"),
    ],
)
def test_bad_models_are_named(changes, message):
    with pytest.raises(ValueError) as error:
        make(**changes).build_model()
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_tokens": 5}, r"max_tokens must be >= \d+, the longest sentence, got 5"),
        ({"vocab_size": 9}, r"vocab_size must be >= \d+, the characters of the text .*, got 9"),
    ],
)
def test_what_the_text_does_not_allow_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        ready(**changes)


@pytest.mark.parametrize("library", ["tokenizers", "sacrebleu"])
def test_a_missing_library_is_named(library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ValueError, match=rf"{library}: pip install 'kappa-bench\[nlp\]'"):
        ready()


# ---------------------------------------------------------------- whole runs


SMOKE = ("task=iwslt14_transformer", "scale=smoke", "num_threads=1", "checkpoint.keep=true")


@pytest.mark.parametrize(
    "optimizer", ["ng_plus", "kfac", "shampoo", "muon", "soap", "ggt", "kradagrad_star"]
)
def test_optimizers_run_on_it(optimizer, tmp_path):
    asked = (*SMOKE, f"optimizer={optimizer}", "max_steps=4", f"runs_dir={tmp_path}")
    result = command(*asked, "task.bleu_sentences=0", "task.max_tokens=80")
    assert result.code == 0, result.err
    losses = column(the_run(tmp_path), "steps", "loss")
    assert len(losses) == 4 and all(map(math.isfinite, losses))


@pytest.mark.parametrize("precision", ["float64", "bf16_autocast"])
def test_other_precisions(precision, tmp_path):
    more = ("optimizer=adam", f"precision={precision}", "task.max_tokens=80")
    assert command(*SMOKE, *more, f"runs_dir={tmp_path}").code == 0
    assert set(evaluations(the_run(tmp_path), "bleu")) == {0, 6, 12}


def test_a_run_with_dropout_goes_on_bit_for_bit(tmp_path):
    options = (*SMOKE, "optimizer=adam", "task.model.dropout=0.2", "task.max_tokens=80")
    options = (*options, "task.model.attention_dropout=0.2", "checkpoint.steps=1")
    cut, uncut = (f"runs_dir={tmp_path / name}" for name in ("cut", "uncut"))
    assert command(*options, uncut).code == 0
    evaluate, calls = Translation.evaluate, []

    def stopped(self, *arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return evaluate(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Translation, "evaluate", stopped)
        assert command(*options, cut).code == 130
    assert command(*options, cut).code == 0
    assert_same_run(the_run(tmp_path / "cut"), the_run(tmp_path / "uncut"))


# ---------------------------------------------------------------- the real captions


def test_training_on_the_real_captions_beats_the_start(monkeypatch, tmp_path):
    folder = Path(os.environ.get("KAPPA_DATA", "data")) / "multi30k"
    if not folder.is_dir():
        pytest.skip("needs multi30k under KAPPA_DATA")
    monkeypatch.undo()
    task = make(data_dir=str(folder.parent), train_sentences=3000, vocab_size=400, max_tokens=600)
    task.eval_sentences, task.bleu_sentences = 100, 0
    task.setup("cpu", torch.float32)
    model = task.build_model()
    start = task.evaluate(model, "valid")
    assert start["nll"] > math.log(400)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for batch in itertools.islice(task.batches(0), 80):
        optimizer.zero_grad()
        task.backward(model, batch)
        optimizer.step()
    # The frequencies of the units alone give 5.0.
    assert task.evaluate(model, "valid")["nll"] < 4.8
