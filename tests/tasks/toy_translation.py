"""A made-up language that translates word by word, and the translation task on it."""

import functools

import torch

import tasks.translation
from tasks.base import Target
from tasks.data import multi30k
from tasks.models.beam_search import BeamSearch
from tasks.models.transformer import Transformer
from tasks.translation import Translation

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


def stand_in(tmp_path, monkeypatch):
    """Put the language in the place of Multi30k, taken for verified; returns its splits."""
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
        "model": functools.partial(Transformer, **{**SIZES, **RATES, **(model or {})}),
        "label_smoothing": 0.1,
        "max_tokens": 80,
        "search": BeamSearch(**{**SEARCH, **(search or {})}),
    }
    return Translation(**{**options, **changes})


def ready(**changes):
    task = make(**changes)
    task.setup("cpu", torch.float64)
    return task, task.build_model().double()
