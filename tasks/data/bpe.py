"""Byte-pair encoding of a text, by the library `tokenizers`: fast, and each step of it is known."""

from __future__ import annotations

from typing import Any

import numpy as np

MIN_SIZE = 256  # every byte is a symbol, so that every text can be written


class BytePairs:
    """Byte-level BPE [Sennrich et al. 2016; Radford et al. 2019], learned from one text.

    The same text gives the same symbols with one release of the library; the run's manifest names
    it. Merges do not cross from one word to the next; a word has the blank before it.

    Args:
        text: to learn from.
        vocab_size: symbols, at least `MIN_SIZE`: the bytes, and merges while a pair is left.
    Raises:
        ValueError: if the library is missing.
    """

    def __init__(self, text: str, vocab_size: int) -> None:
        library = tokenizers_library("symbols=bpe")
        level = library.pre_tokenizers.ByteLevel
        self._tokenizer = library.Tokenizer(library.models.BPE())
        self._tokenizer.pre_tokenizer = level(add_prefix_space=False)
        self._tokenizer.decoder = library.decoders.ByteLevel()
        trainer = library.trainers.BpeTrainer(
            vocab_size=vocab_size, show_progress=False, initial_alphabet=sorted(level.alphabet())
        )
        self._tokenizer.train_from_iterator(text.splitlines(keepends=True), trainer)

    def __len__(self) -> int:
        return self._tokenizer.get_vocab_size()

    def encode(self, text: str) -> np.ndarray:
        """Numbers of the symbols of a text, shape (n,), int64."""
        lines = self._tokenizer.encode_batch(text.splitlines(keepends=True))
        return np.concatenate([np.array(line.ids, dtype=np.int64) for line in lines])

    def decode(self, symbols: np.ndarray) -> str:
        """The text that was encoded."""
        return self._tokenizer.decode(symbols.tolist())

    def lengths(self) -> np.ndarray:
        """Bytes that each symbol stands for, shape (len(self),), int64."""
        # The library writes each byte as a letter of its own.
        return np.array([len(self._tokenizer.id_to_token(i)) for i in range(len(self))])

    def number(self, symbol: str) -> int:
        """Number of a text that is one symbol."""
        (number,) = self._tokenizer.encode(symbol).ids
        return number


def tokenizers_library(what: str) -> Any:
    """Import the library `tokenizers` with those of its parts that are used here.

    Args:
        what: needs it, for the message.
    Raises:
        ValueError: if it is missing.
    """
    try:
        import tokenizers
        import tokenizers.decoders
        import tokenizers.models
        import tokenizers.pre_tokenizers
        import tokenizers.trainers
    except ImportError as error:
        raise ValueError(
            f"{what} needs the library tokenizers: pip install 'kappa-bench[nlp]'"
        ) from error
    return tokenizers
