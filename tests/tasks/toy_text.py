"""A made-up text in the layout of the Penn Treebank, and what each task on it is asked."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.base import Task
from tasks.data import ptb

LENGTHS = {"train": 1203, "valid": 507, "test": 95}  # characters
COMMON = {
    "seed": 0,
    "data": "ptb",
    "data_dir": "unused",
    "max_steps": 3,
    "batch_size": 4,
    "evaluate_at": 1,
    "eval_splits": ["valid"],
}
# Of the tasks whose state is carried through streams.
STREAMS = {
    "embedding_size": 5,
    "hidden_size": 6,
    "num_layers": 2,
    "bptt": 7,
    "eval_streams": 3,
}

Logits = Callable[[Tensor], Tensor]  # (rows, length) of symbols -> (rows, length, vocabulary)


def write_characters(folder: Path, draw: Callable[[np.random.Generator, int], list[str]]) -> None:
    """Write the three files, their characters drawn by `draw(generator, length)`."""
    generator = np.random.default_rng(0)
    for split, length in LENGTHS.items():
        (folder / f"ptb.char.{split}.txt").write_text(" ".join(draw(generator, length)))


def characters(folder: Path, split: str) -> Tensor:
    """A split's characters as numbers, int64."""
    return torch.from_numpy(ptb.read_symbols(folder / f"ptb.char.{split}.txt")).long()


def cost_by_hand(logits: Logits, text: Tensor, first: int, length: int) -> float:
    """Summed costs of a text of which `length` symbols are read at a time, `first` before it."""
    before = torch.cat([torch.tensor([first]), text[:-1]])
    total, seen = 0.0, 0
    for inputs, targets in zip(before.split(length), text.split(length), strict=True):
        total += F.cross_entropy(logits(inputs[None])[0], targets, reduction="sum").item()
        seen += len(targets)
    assert seen == len(text)
    return total


def assert_mean_cost(metrics: dict[str, float], mean: float) -> None:
    assert metrics["loss"] == pytest.approx(mean, rel=1e-12)
    assert metrics["perplexity"] == pytest.approx(math.exp(mean), rel=1e-12)


def assert_a_slice_is_a_text(folder: Path, part: Task, whole: Task, model: nn.Module) -> None:
    """The first 95 characters of one split are worth what they are worth as a split."""
    text = (folder / "ptb.char.valid.txt").read_text().split(" ")[:95]
    (folder / "ptb.char.test.txt").write_text(" ".join(text))
    whole.setup("cpu", torch.float64)
    assert part.evaluate(model, "valid") == whole.evaluate(model, "test")


# ---------------------------------------------------------------- state carried through streams


def assert_state_is_carried(task: Task, model: nn.Module, logits: Logits) -> None:
    """The losses of consecutive batches are those of one long sequence."""
    pair = list(itertools.islice(task.batches(0), 2))
    losses = [task.loss(model, batch).item() for batch in pair]
    inputs = torch.cat([batch.inputs for batch in pair], 1)
    targets = torch.cat([batch.targets for batch in pair], 1)
    whole = F.cross_entropy(logits(inputs).flatten(0, 1), targets.flatten()).item()
    assert sum(losses) / 2 == pytest.approx(whole, rel=1e-12)
    task.reset()
    assert task.loss(model, pair[1]).item() != losses[1]


def assert_state_survives(task: Task, other: Task, model: nn.Module, path: Path) -> None:
    """The state is detached, goes through a file, and serves a batch that is given again."""
    batches = list(itertools.islice(task.batches(0), 3))
    assert task.state_dict() == {}
    for batch in batches[:2]:
        task.backward(model, batch)  # a second one would fail on a graph that is not cut
    torch.save(task.state_dict(), path)
    other.load_state_dict(torch.load(path, weights_only=True))
    for batch in batches[1:]:
        losses = []
        for each in (task, other, task):  # given again, a batch starts from the same state
            torch.manual_seed(1)
            losses.append(each.loss(model, batch).item())
        assert len(set(losses)) == 1
    other.load_state_dict({})
    assert other.state_dict() == {}


def assert_an_epoch_starts_from_zeros(task: Task, model: nn.Module) -> None:
    fresh = task.loss(model, next(task.batches(1))).item()
    for batch in itertools.islice(task.batches(0), 3):
        task.loss(model, batch)
    assert task.loss(model, next(task.batches(1))).item() == fresh
