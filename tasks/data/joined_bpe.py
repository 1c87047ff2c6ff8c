"""One vocabulary of both languages, by byte-pair encoding [Sennrich et al. 2016]."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tasks.data.bpe import tokenizers_library

# Numbers of the marks, as in fairseq's dictionaries.
START, PADDING, END, UNKNOWN = range(4)
_MARKS = ("<s>", "<pad>", "</s>", "<unk>")


class JoinedBPE:
    """Text <-> numbers of sub-word units learnt from a text.

    The library `tokenizers` does it: it learns from 58,000 sentences in 0.7 s, always the same
    units from the same text whatever the number of threads, so nothing is kept on disk. Words and
    punctuation marks are encoded apart, with the blanks before them, so that decoding restores the
    text. A text is put into lower case, runs of blanks made one.

    Args:
        lines: what to learn from.
        vocab_size: units to learn, with every character of the text and four marks; fewer where
            the text has no more.
    Raises:
        ValueError: if the library is missing, or vocab_size is less than characters and marks.
    """

    def __init__(self, lines: Iterable[str], vocab_size: int) -> None:
        library = tokenizers_library("byte-pair encoding")
        self._tokenizer = library.Tokenizer(library.models.BPE(unk_token=_MARKS[UNKNOWN]))
        cuts = library.pre_tokenizers
        self._tokenizer.pre_tokenizer = cuts.Sequence(
            [cuts.Metaspace(), cuts.Punctuation("isolated")]
        )
        self._tokenizer.decoder = library.decoders.Metaspace()
        trainer = library.trainers.BpeTrainer(
            vocab_size=vocab_size, special_tokens=list(_MARKS), show_progress=False
        )
        self._tokenizer.train_from_iterator(map(plain, lines), trainer)
        self._tokenizer.encode_special_tokens = True  # "</s>" within a text is text
        least = self._tokenizer.get_vocab_size()
        if least > vocab_size:
            raise ValueError(
                f"vocab_size must be >= {least}, the characters of the text and four marks, got "
                f"{vocab_size}"
            )

    def encode(self, lines: Sequence[str]) -> list[list[int]]:
        """Numbers of each line's units, without marks; unseen characters are UNKNOWN."""
        encoded = self._tokenizer.encode_batch_fast([plain(line) for line in lines])
        return [line.ids for line in encoded]

    def decode(self, lines: Sequence[Sequence[int]]) -> list[str]:
        """Text of each line's units; marks other than UNKNOWN are left out."""
        kept = [[n for n in line if n not in (START, PADDING, END)] for line in lines]
        return self._tokenizer.decode_batch(kept, skip_special_tokens=False)


def plain(line: str) -> str:
    """The line in lower case with single blanks: what `encode` keeps of it."""
    return " ".join(line.lower().split())
