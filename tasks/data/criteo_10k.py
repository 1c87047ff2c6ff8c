"""The first 10,000 rows of Criteo's display advertising challenge: a stand-in for the full log."""

from __future__ import annotations

import itertools
from pathlib import Path

from tasks.data.click_log import ClickLog, gather_log
from tasks.data.criteo_kaggle import BRING, FILE, opened_log
from tasks.data.formats.criteo import read_rows
from tasks.data.store import DataError

__all__ = ["BRING", "FILES", "prepare", "read"]

FILES = (FILE,)
NUM_ROWS = 10_000


def prepare(folder: Path, originals: Path | None = None, num_rows: int = NUM_ROWS) -> None:
    """Write the first rows of `train.txt`, unchanged.

    Args:
        originals: train.txt or the archive of it, or the folder it is in.
        num_rows: that are taken.
    Raises:
        DataError: if the file is not given, is damaged or has fewer rows.
    """
    if originals is None:
        raise DataError(f"Criteo's log cannot be fetched: {BRING}")
    with opened_log(originals) as (name, lines):
        taken = list(itertools.islice(lines, num_rows))
    if len(taken) < num_rows:
        raise DataError(f"{name} must have {num_rows} rows or more, got {len(taken)}")
    for _ in read_rows(taken, name):
        pass
    (folder / FILE).write_bytes(b"".join(taken))


def read(folder: Path) -> ClickLog:
    """Read the prepared rows.

    Raises:
        DataError: if one is not as it should be; names the line.
    """
    path = folder / FILE
    try:
        with path.open("rb") as lines:
            return gather_log(read_rows(lines, path))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
