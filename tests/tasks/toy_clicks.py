"""Tiny click logs in the format of Criteo's `train.txt`."""

from __future__ import annotations

from pathlib import Path

from tasks.data.store import sha256
from tests.fake_sets import CHECKSUMS

INTEGERS, CATEGORIES = 13, 26
NUM_ROWS = 40  # of the fixture `click_log`: days of 6, 6, 6, 6, 6, 5 and 5


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


def stand_in(folder: Path, rows: list[str]) -> Path:
    """A folder of sets with these rows as criteo_10k, and their checksum."""
    path = write_log(folder / "criteo_10k" / "train.txt", rows)
    (folder / CHECKSUMS).write_text(f"{sha256(path)}  criteo_10k/train.txt\n")
    return folder
