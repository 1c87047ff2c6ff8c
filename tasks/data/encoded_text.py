"""Parallel text as numbers of one joined vocabulary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from tasks.data.joined_bpe import END, JoinedBPE, plain
from tasks.data.parallel_text import Pair
from tasks.data.token_batches import TokenPair

T = TypeVar("T")


class EncodedText:
    """The splits of a parallel text, encoded with a vocabulary learnt from its training split.

    Args:
        text: pairs of each split; one is "train".
        vocab_size: of the vocabulary (`JoinedBPE`).
        train_sentences: training pairs that are used, the first ones; None for all.
    Attributes:
        tokens: source and target of each pair, each with its end, by split.
        references: target of each pair as `JoinedBPE` keeps it, by split.
    """

    def __init__(
        self,
        text: Mapping[str, Sequence[Pair]],
        vocab_size: int,
        train_sentences: int | None = None,
    ) -> None:
        text = {**text, "train": text["train"][:train_sentences]}
        sides = {split: list(zip(*pairs, strict=True)) for split, pairs in text.items()}
        every = (line for side in sides["train"] for line in side)
        self._vocabulary = JoinedBPE(every, vocab_size)
        self.references = {
            split: [plain(line) for line in side[1]] for split, side in sides.items()
        }
        self.tokens: dict[str, list[TokenPair]] = {}
        for split, pair in sides.items():
            source, target = ([[*x, END] for x in self._vocabulary.encode(s)] for s in pair)
            self.tokens[split] = list(zip(source, target, strict=True))

    def decode(self, lines: Sequence[Sequence[int]]) -> list[str]:
        """Text of each line of tokens."""
        return self._vocabulary.decode(lines)


def spaced(items: list[T], count: int | None) -> list[T]:
    """So many of the items, evenly spaced; None for all."""
    if count is None or count >= len(items):
        return items
    return [items[k * len(items) // count] for k in range(count)]
