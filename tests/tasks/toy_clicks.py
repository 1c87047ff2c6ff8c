"""Tiny click logs in the format of Criteo's `train.txt`."""

from __future__ import annotations

from pathlib import Path

INTEGERS, CATEGORIES = 13, 26


def row(label="0", integers=("1",) * INTEGERS, categories=("68fd1e64",) * CATEGORIES) -> str:
    """One line of the log; "" is a missing value."""
    return "\t".join([label, *integers, *categories]) + "\n"


def counted(number: int) -> str:
    """A row that tells which it is: its first count and, in hexadecimal, its first category."""
    return row(
        label=str(int(number % 3 == 0)),
        integers=(str(number), "-2", "", *["7"] * (INTEGERS - 3)),
        categories=(f"{number % 5:08x}", "", "ffffffff", *["0a18233a"] * (CATEGORIES - 3)),
    )


def write_log(path: Path, rows: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(rows))
    return path
