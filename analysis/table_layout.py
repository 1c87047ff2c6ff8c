"""Where the columns of a drawn table stand, and how large its letters are."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from analysis import lettering

_FONT_SIZE = 7
_GAP = 0.18  # inches between columns
# What a column of numbers may hold: numbers with or without an interval, or none.
_NUMBER = re.compile(r"(–|[-−+]?(inf|[\d.,]+(e[-+]?\d+)?)( \[.*\])?)")


class Layout(NamedTuple):
    """How a table is set.

    Attributes:
        names: of the columns, broken into lines where there is little room.
        edges: borders of the columns as shares of the width, shape (num_columns + 1,).
        left: which columns are words, which begin at their left border.
        gap: share of the width that a column of numbers keeps free at its right.
        font_size: in points.
    """

    names: list[str]
    edges: np.ndarray
    left: list[bool]
    gap: float
    font_size: float

    @property
    def header_lines(self) -> int:
        return max(name.count("\n") + 1 for name in self.names)


def laid_out(
    columns: Sequence[str],
    cells: Sequence[Sequence[str]],
    bold: Collection[tuple[int, str]],
    width: float,
) -> Layout:
    """Make columns as wide as their widest text.

    Where `width` inches are too few, names are broken into lines, and if that does not do the
    letters become smaller.

    Args:
        columns: their names.
        cells: texts, a sequence a row.
        bold: cells (row, column) that are.
    """
    names = [str(name).strip() for name in columns]
    within = [
        max(
            (
                lettering.longest([row[i]], _FONT_SIZE, _weight((place, name) in bold))
                for place, row in enumerate(cells)
            ),
            default=0.0,
        )
        for i, name in enumerate(columns)
    ]
    room = width - 0.15
    if sum(_needed(names, within)) > room:
        widest = _widest_name(names, within, room)
        names = [
            lettering.wrapped(name, max(widest, own), _FONT_SIZE, "bold")
            for name, own in zip(names, within, strict=True)
        ]
    needed = _needed(names, within)
    font_size = _FONT_SIZE * min(1.0, room / sum(needed))
    edges = np.concatenate([[0.0], np.cumsum(needed) / sum(needed)])
    left = [
        not all(_NUMBER.fullmatch(row[i]) or row[i] in ("yes", "no") for row in cells)
        for i in range(len(names))
    ]
    return Layout(names, edges, left, 0.7 * _GAP / width, font_size)


def _needed(names: Sequence[str], within: Sequence[float]) -> list[float]:
    """Widths of the columns in inches, with the gap to the next."""
    heads = [lettering.longest([name], _FONT_SIZE, "bold") for name in names]
    return [max(pair) + _GAP for pair in zip(heads, within, strict=True)]


def _widest_name(names: Sequence[str], within: Sequence[float], room: float) -> float:
    """The greatest width of a name with which all columns have room; 0 if none has."""
    heads = [lettering.longest([name], _FONT_SIZE, "bold") for name in names]
    for widest in np.linspace(max(heads), 0, 50):
        needed = [max(own, min(head, widest)) for own, head in zip(within, heads, strict=True)]
        if sum(needed) + len(names) * _GAP <= room:
            return float(widest)
    return 0.0


def _weight(strong: bool) -> str:
    return "bold" if strong else "normal"
