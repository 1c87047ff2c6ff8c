"""Sentence pairs of the Tatoeba project, German and English, as manythings.org gives them out."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from tasks.data.archives import unpacked
from tasks.data.download import Original, find_file
from tasks.data.parallel_text import SPLITS, Pair, read_lines
from tasks.data.store import DataError

# The site keeps the newest version only, and the committed list is of that of 2018-05-13, so the
# address is of the copy nearest to that day; the checksum of what is in it decides.
ARCHIVE = Original(
    "deu-eng.zip",
    "https://web.archive.org/web/20180601000000id_/http://www.manythings.org/anki/deu-eng.zip",
)
TEXT = "deu.txt"
FILES = (TEXT,)
# Of a hundred English sentences, one is for validation and one for the test.
_SHARES = {0: "valid", 1: "test"}


def prepare(folder: Path, originals: Path | None = None) -> None:
    """Write the text of the archive, unchanged.

    Args:
        originals: the archive or its text, or the folder of either; None: it is fetched.
    Raises:
        DataError: if the archive cannot be had or lacks the text.
    """
    with unpacked(ARCHIVE, folder, originals, FILES, f"*{TEXT}") as place:
        shutil.copyfile(find_file(place, TEXT), folder / TEXT)


def read(folder: Path) -> dict[str, list[Pair]]:
    """Read the prepared pairs of each split, in the file's order.

    All pairs with one English sentence are in one split, chosen by the sentence's hash.

    Raises:
        DataError: if a line has too few columns or is not UTF-8, or a split is empty.
    """
    pairs: dict[str, list[Pair]] = {split: [] for split in SPLITS}
    path = folder / TEXT
    for number, line in enumerate(read_lines(path), start=1):
        columns = line.split("\t")  # newer versions have a third one, of whose they are
        if len(columns) < 2 or not columns[0].strip() or not columns[1].strip():
            raise DataError(
                f"{path}, line {number}: must hold an English and a German sentence separated by "
                f"a tab, got {line[:40]!r}"
            )
        english, german = columns[:2]
        pairs[split_of(english)].append((german, english))
    for split, found in pairs.items():
        if not found:
            raise DataError(f"{path} must hold sentences for {split}, got none")
    return pairs


def split_of(english: str) -> str:
    """The split of an English sentence: by its SHA-256 modulo 100."""
    number = int.from_bytes(hashlib.sha256(english.encode()).digest()[:8], "big") % 100
    return _SHARES.get(number, "train")
