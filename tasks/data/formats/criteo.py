"""The format of Criteo's click logs: `train.txt` of Kaggle's display advertising challenge."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from tasks.data.store import DataError

NUM_INTEGERS, NUM_CATEGORIES = 13, 26
_NUM_COLUMNS = 1 + NUM_INTEGERS + NUM_CATEGORIES
_KINDS = {
    "label": re.compile(rb"[01]"),
    "integer": re.compile(rb"(-?\d{1,9})?"),  # nine digits fit in 32 bits
    "category": re.compile(rb"([0-9a-fA-F]{1,8})?"),
}
_COLUMNS = ("label", *["integer"] * NUM_INTEGERS, *["category"] * NUM_CATEGORIES)
_WANTED = {
    "label": "0 or 1",
    "integer": "an integer of at most nine digits, or empty",
    "category": "at most eight hexadecimal digits, or empty",
}
_ROW = re.compile(rb"\t".join(_KINDS[kind].pattern for kind in _COLUMNS))
# Rows that are Python objects at a time: 10 MB of them.
_AT_ONCE = 4096


@dataclass(frozen=True)
class ClickRows:
    """Some rows of a log; what is missing is 0.

    Args:
        labels: 1 for a click, shape (n,), uint8.
        integers: counts as they stand in the file, shape (n, 13), int32; a few are negative.
        categories: hashes of 32 bits, shape (n, 26), uint32.
    """

    labels: np.ndarray
    integers: np.ndarray
    categories: np.ndarray


def read_rows(lines: Iterable[bytes], name: object) -> Iterator[ClickRows]:
    """Parse the lines of a log, a few thousand rows at a time.

    A row has 40 columns with tabs between them: a label, 13 integers and 26 categories in
    hexadecimal digits; all but the label may be empty. As in the reference code of DLRM [Naumov et
    al. 2019] a missing integer counts as 0, a missing category as one of its own, of value 0.

    Args:
        lines: of the file, with their ends.
        name: of the file, for messages.
    Raises:
        DataError: if there is no row, or one is not as above; names the line.
    """
    labels: list[int] = []
    integers: list[int] = []
    categories: list[int] = []
    number = 0
    for number, raw in enumerate(lines, start=1):
        line = raw.rstrip(b"\r\n")
        if not _ROW.fullmatch(line):
            raise DataError(f"{name}, line {number}: {_fault(line)}")
        fields = line.split(b"\t")
        labels.append(int(fields[0]))
        integers += [int(field) if field else 0 for field in fields[1 : 1 + NUM_INTEGERS]]
        categories += [int(field, 16) if field else 0 for field in fields[1 + NUM_INTEGERS :]]
        if len(labels) == _AT_ONCE:
            yield _rows(labels, integers, categories)
            labels, integers, categories = [], [], []
    if number == 0:
        raise DataError(f"{name} must hold click rows, got an empty file")
    if labels:
        yield _rows(labels, integers, categories)


def _rows(labels: list[int], integers: list[int], categories: list[int]) -> ClickRows:
    return ClickRows(
        np.array(labels, dtype=np.uint8),
        np.array(integers, dtype=np.int32).reshape(-1, NUM_INTEGERS),
        np.array(categories, dtype=np.uint32).reshape(-1, NUM_CATEGORIES),
    )


def _fault(line: bytes) -> str:
    """What is wrong with a row."""
    fields = line.split(b"\t")
    if len(fields) != _NUM_COLUMNS:
        return (
            f"must have {_NUM_COLUMNS} columns, a label, {NUM_INTEGERS} integers and "
            f"{NUM_CATEGORIES} categories with tabs between them, got {len(fields)}"
        )
    column, kind = next(
        (column, kind)
        for column, (kind, field) in enumerate(zip(_COLUMNS, fields, strict=True), start=1)
        if not _KINDS[kind].fullmatch(field)
    )
    found = fields[column - 1].decode(errors="replace")
    return f"column {column} must be {_WANTED[kind]}, got {found[:80]!r}"
