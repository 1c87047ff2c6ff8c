"""Sentences in two languages, line by line."""

from __future__ import annotations

from pathlib import Path

from tasks.data.lines import decoded_lines
from tasks.data.store import DataError

Pair = tuple[str, str]  # German, English
SPLITS = ("train", "valid", "test")


def read_lines(path: Path) -> list[str]:
    """Read the lines of a file that is not empty, as `decoded_lines` does.

    Raises:
        DataError: if the file cannot be read or is empty, or a line is not UTF-8.
    """
    lines = decoded_lines(path)
    if not any(line.strip() for line in lines):
        raise DataError(f"{path} must hold sentences, got an empty file")
    return lines


def read_pairs(german: Path, english: Path) -> list[Pair]:
    """Read two files of the same number of lines, one sentence a line.

    Raises:
        DataError: if their numbers of lines differ, or a line has no sentence.
    """
    sides = {path: read_lines(path) for path in (german, english)}
    counts = [len(lines) for lines in sides.values()]
    if counts[0] != counts[1]:
        raise DataError(
            f"{german} and {english} must have the same number of lines, got {counts[0]} and "
            f"{counts[1]}"
        )
    for path, lines in sides.items():
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                raise DataError(f"{path}, line {number}: must hold a sentence, got none")
    return list(zip(*sides.values(), strict=True))


def write_pairs(pairs: list[Pair], german: Path, english: Path) -> None:
    """Write two files that `read_pairs` reads."""
    for index, path in enumerate((german, english)):
        path.write_text("".join(f"{pair[index]}\n" for pair in pairs), encoding="utf-8")
