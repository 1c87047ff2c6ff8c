"""The translation task: batches, loss, metrics, BLEU as sacrebleu's command has it, bad options."""

import itertools
import json
import math
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

import tasks.translation
from tasks.base import Target
from tasks.data import multi30k
from tasks.data.joined_bpe import END, PADDING
from tasks.models.beam_search import BeamSearch
from tasks.models.transformer import Transformer
from tasks.translation import Translation, bleu
from tests.commands import assert_same_run, column, command, evaluations, the_run

SEARCH = {"beam": 3, "length_penalty": 1.0, "max_length_ratio": 1.0, "max_length_extra": 3}
SIZES = {"dim": 16, "hidden_size": 24, "num_heads": 2, "num_layers": 2}
RATES = {"dropout": 0.0, "attention_dropout": 0.0, "relu_dropout": 0.0}
WORDS = {"ein": "a", "hund": "dog", "mann": "man", "läuft": "runs", "sieht": "sees", "rot": "red"}


def language(count, seed):
    """Sentences that translate word by word."""
    generator = torch.Generator().manual_seed(seed)
    pairs = []
    for _ in range(count):
        length = int(torch.randint(2, 7, (1,), generator=generator))
        german = [list(WORDS)[i] for i in torch.randint(6, (length,), generator=generator)]
        pairs.append((" ".join(german) + ".", " ".join(WORDS[x] for x in german).upper() + "."))
    return pairs


@pytest.fixture(autouse=True)
def one_thread():
    """The tensors are small: two threads are slower than one, on a busy machine by far."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def small_set(tmp_path, monkeypatch):
    """The made-up language in the place of Multi30k, taken for verified."""
    text = {"train": language(90, 0), "valid": language(31, 1), "test": language(12, 2)}
    monkeypatch.setattr(multi30k, "read", lambda folder: text)
    monkeypatch.setattr(tasks.translation, "require", lambda name, data_dir, files: tmp_path)
    return text


def make(model=None, search=None, **changes):
    options = {
        "seed": 0,
        "data": "multi30k",
        "data_dir": "unused",
        "target": Target("bleu", "valid", "max", 30.0),
        "max_steps": 3,
        "batch_size": 100,
        "evaluate_at": 1,
        "eval_splits": ["valid"],
        "vocab_size": 50,
        "model": partial(Transformer, **{**SIZES, **RATES, **(model or {})}),
        "label_smoothing": 0.1,
        "max_tokens": 80,
        "search": BeamSearch(**{**SEARCH, **(search or {})}),
    }
    return Translation(**{**options, **changes})


def ready(**changes):
    task = make(**changes)
    task.setup("cpu", torch.float64)
    return task, task.build_model().double()


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


# ---------------------------------------------------------------- BLEU


def test_bleu_is_that_of_sacrebleus_command(tmp_path):
    references = [
        "a man in a red shirt, holding a guitar - it's blue.",
        "two dogs run through the grass.",
        'children are playing "football" in the street at night (3 of them).',
        "a group of people stand by a river .",
    ]
    hypotheses = [
        "a man in a red shirt holds a guitar, it's blue.",
        "two dogs are running through the tall grass.",
        "children play football in the street at night.",
        "",
    ]
    paths = [tmp_path / "hypotheses", tmp_path / "references"]
    for path, lines in zip(paths, (hypotheses, references), strict=True):
        path.write_text("".join(f"{line}\n" for line in lines))
    asked = [sys.executable, "-m", "sacrebleu", str(paths[1]), "-i", str(paths[0])]
    result = subprocess.run(
        [*asked, "-m", "bleu", "-w", "10", "--force"], capture_output=True, check=True, text=True
    )
    found = json.loads(result.stdout)
    assert 20 < found["score"] < 60
    # Ten decimals are printed.
    assert bleu(hypotheses, references) == pytest.approx(found["score"], abs=1e-10)


def test_a_model_that_has_learnt_the_language_translates_it(small_set):
    small_set["train"] = language(300, 0)
    task, model = ready(search={"beam": 5}, model={"num_layers": 1}, max_tokens=300)
    assert task.evaluate(model, "valid")["bleu"] < 20
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for epoch in range(30):
        for batch in task.batches(epoch):
            optimizer.zero_grad()
            task.backward(model, batch)
            optimizer.step()
    metrics = task.evaluate(model, "valid")
    assert metrics["bleu"] > 60
    assert metrics["perplexity"] < 2
    hypotheses, references = task.translate(model.eval(), "valid")
    assert references == [english.lower() for _, english in small_set["valid"]]
    assert sum(a == b for a, b in zip(hypotheses, references, strict=True)) > len(references) / 2


def test_translations_stay_with_their_sources(monkeypatch):
    """Sentences are sorted for the search, in several batches, and put back."""
    task, model = ready()
    together, _ = task.translate(model.eval(), "valid")
    monkeypatch.setattr(tasks.translation, "_SEARCHED", 4)
    assert task.translate(model, "valid")[0] == together


# ---------------------------------------------------------------- samples


def test_a_sample_is_a_sentence_pair():
    task, model = ready(label_smoothing=0.1)
    batch = list(task.batches(0))[3]
    with task.curvature_pass(batch) as info:
        logits = model(*batch.inputs)
        losses = F.cross_entropy(
            logits.mT, batch.targets, ignore_index=PADDING, label_smoothing=0.1, reduction="none"
        ).sum(1)
    assert (info.num_samples, info.batch_dim) == (len(batch.targets), 0)
    # The weights are float32.
    torch.testing.assert_close(
        (info.weights * losses).sum(), task.loss(model, batch), rtol=1e-6, atol=0
    )


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
