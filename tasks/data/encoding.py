"""The Penn Treebank as numbers: its characters, or byte pairs learned from its training text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tasks.data import bpe, ptb


@dataclass(frozen=True)
class Encoded:
    """Texts as numbers of symbols.

    Attributes:
        texts: each of shape (n,), integers, by split.
        lengths: characters that each symbol stands for, shape (number of symbols,), int64.
        newline: number of the end of a line.
    """

    texts: dict[str, np.ndarray]
    lengths: np.ndarray
    newline: int


@dataclass(frozen=True)
class Encoding:
    """A way to number a text.

    Attributes:
        least: smallest vocab_size it can do with.
        encode: from character symbols by split (`ptb.read_symbols`) and vocab_size.
    """

    least: int
    encode: Callable[[dict[str, np.ndarray], int], Encoded]


def as_characters(symbols: dict[str, np.ndarray], vocab_size: int) -> Encoded:
    """The character symbols themselves."""
    return Encoded(symbols, np.ones(len(ptb.SYMBOLS), dtype=np.int64), ptb.NEWLINE)


def as_byte_pairs(symbols: dict[str, np.ndarray], vocab_size: int) -> Encoded:
    """Byte pairs of the text that the characters spell, learned from its training split."""
    spelled = {split: ptb.spell(text) for split, text in symbols.items()}
    pairs = bpe.BytePairs(spelled["train"], vocab_size)
    texts = {split: pairs.encode(text) for split, text in spelled.items()}
    return Encoded(texts, pairs.lengths(), pairs.number("\n"))


ENCODINGS = {
    "characters": Encoding(len(ptb.SYMBOLS), as_characters),
    "bpe": Encoding(bpe.MIN_SIZE, as_byte_pairs),
}
