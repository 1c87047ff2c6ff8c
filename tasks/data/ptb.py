"""Penn Treebank with Mikolov's preprocessing: source, layout, encoding of characters and words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tasks.data.archives import extract
from tasks.data.download import Original, obtain
from tasks.data.lines import decoded_lines
from tasks.data.store import DataError

# The archive of the recurrent language model toolkit; its MD5 is the one quoted everywhere.
ARCHIVE = Original(
    "simple-examples.tgz",
    "http://www.fit.vutbr.cz/~imikolov/rnnlm/simple-examples.tgz",
    md5="30177ea32e27c525793142b6bf2c8e2d",
)
MEMBERS = "simple-examples/data/ptb*.txt"

SPLITS = ("train", "valid", "test")
CHAR_FILES = tuple(f"ptb.char.{split}.txt" for split in SPLITS)
WORD_FILES = tuple(f"ptb.{split}.txt" for split in SPLITS)

# Index in this string = number of the symbol. The end of a line, which ends a sentence, is 0;
# "_" stands for the blank. All of them occur in train and valid.
SYMBOLS = "\n#$&'*-./0123456789<>N\\_abcdefghijklmnopqrstuvwxyz"
NEWLINE = 0
_UNKNOWN = 255

# Numbers of two words: the end of a line, and what the text itself has for words outside its
# vocabulary. With the end of a line its vocabulary is 10,000.
EOS, UNK = 0, 1
_WORDS = {"<eos>": EOS, "<unk>": UNK}


def prepare(folder: Path, originals: Path | None = None, archive: Original = ARCHIVE) -> None:
    """Write the files of the official archive, unchanged, into the folder.

    Args:
        originals: simple-examples.tgz, or the folder it is in; None: it is fetched.
    Raises:
        DataError: if the archive cannot be had or is not the official one.
    """
    extract(obtain(archive, folder, originals), folder, MEMBERS)


def read_symbols(path: Path) -> np.ndarray:
    """Read a prepared character file: symbols separated by blanks, one sentence a line.

    Returns:
        Numbers of the symbols (indices in SYMBOLS), shape (n,), uint8.
    Raises:
        DataError: if the file is empty or holds a byte that is no symbol; names its line.
    """
    raw = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    table = np.full(256, _UNKNOWN, dtype=np.uint8)
    table[np.frombuffer(SYMBOLS.encode(), dtype=np.uint8)] = np.arange(len(SYMBOLS))
    written = raw[raw != ord(" ")]
    symbols = table[written]
    if len(symbols) == 0:
        raise DataError(f"{path} must hold symbols, got an empty text")
    wrong = symbols == _UNKNOWN
    if wrong.any():
        position = int(wrong.argmax())
        line = 1 + int((written[:position] == ord("\n")).sum())
        raise DataError(
            f"{path}, line {line}: must hold the 49 symbols, blanks and newlines only, "
            f"got {bytes(written[position : position + 1])!r}"
        )
    return symbols


def spell(symbols: np.ndarray) -> str:
    """The text that symbols stand for: the word file's, without the blanks around its lines."""
    letters = np.frombuffer(SYMBOLS.replace("_", " ").encode(), dtype=np.uint8)
    return letters[symbols].tobytes().decode()


def read_vocabulary(path: Path, size: int) -> dict[str, int]:
    """Number the words of the training text.

    <eos> is 0 and <unk> 1; then come the words by falling frequency, those of one frequency in
    the order of their first occurrence. The rarest words, if there are more than `size` entries,
    all have the number of <unk>.

    Raises:
        DataError: if the file holds no words.
    """
    counts = Counter(word for _, line in _lines(path) for word in line)
    ordered = [word for word, _ in counts.most_common() if word not in _WORDS]
    numbers = (i if i < size else UNK for i in range(len(_WORDS), len(ordered) + len(_WORDS)))
    return {**_WORDS, **dict(zip(ordered, numbers, strict=True))}


def read_words(path: Path, vocabulary: dict[str, int]) -> np.ndarray:
    """Read a prepared word file: words separated by blanks, one sentence a line.

    Returns:
        Numbers of the words, with <eos> at the end of each line, shape (n,), int64.
    Raises:
        DataError: if the file holds no words, or one that is not in the vocabulary; names its
            line.
    """
    numbers = []
    for index, line in _lines(path):
        try:
            numbers += [vocabulary[word] for word in line]
        except KeyError as error:
            raise DataError(
                f"{path}, line {index}: every word must occur in the training text, "
                f"got {error.args[0]!r}"
            ) from error
        numbers.append(EOS)
    return np.array(numbers, dtype=np.int64)


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of each line, from 1, and its words."""
    lines = decoded_lines(path)
    if not any(line.strip() for line in lines):
        raise DataError(f"{path} must hold words, got an empty text")
    yield from enumerate((line.split() for line in lines), start=1)
