"""Criteo's display advertising challenge [Kaggle 2014]: 45,840,617 rows of seven days.

Its terms are agreed to before it is downloaded, so nothing is fetched.
"""

from __future__ import annotations

import contextlib
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from tasks.data.archives import reading
from tasks.data.arrays import load_array
from tasks.data.click_log import ClickLog, number_column
from tasks.data.download import find_file
from tasks.data.formats.criteo import NUM_CATEGORIES, NUM_INTEGERS, read_rows
from tasks.data.store import DataError

FILE = "train.txt"
ARCHIVE = "dac.tar.gz"
BRING = (
    f"get Kaggle's display advertising challenge from https://ailab.criteo.com, {ARCHIVE} or the "
    f"{FILE} in it"
)
FILES = ("labels.npy", "integers.npy", "categories.npy", "values.npy", "num_values.npy")
_COLUMNS = {"labels": (np.uint8, ()), "integers": (np.int32, (NUM_INTEGERS,))}
_CATEGORIES = (NUM_CATEGORIES,)


def prepare(folder: Path, originals: Path | None = None) -> None:
    """Write labels, integers and numbered categories as arrays, 157 bytes a row.

    The log is read once, a few thousand rows at a time and 45 million in ten minutes, and no text
    is kept; then one column of categories after the other is in memory, at some 30 bytes a row.

    Args:
        originals: train.txt or the archive of it, or the folder it is in.
    Raises:
        DataError: if the file is not given, or a row is not as it should be; names the line.
    """
    if originals is None:
        raise DataError(f"Criteo's log cannot be fetched: {BRING}")
    with tempfile.TemporaryDirectory(prefix=".columns-", dir=folder) as scratch:
        with opened_log(originals) as (name, lines):
            columns = _write_columns(lines, name, Path(scratch))
        for kind in _COLUMNS:
            np.save(folder / f"{kind}.npy", columns[kind])
        raw = columns["categories"]
        numbers = np.lib.format.open_memmap(
            folder / "categories.npy", mode="w+", dtype=np.int32, shape=raw.shape
        )
        values = [number_column(raw[:, j], numbers[:, j]) for j in range(NUM_CATEGORIES)]
        numbers.flush()
    np.save(folder / "values.npy", np.concatenate(values))
    np.save(folder / "num_values.npy", np.array([len(each) for each in values]))


def read(folder: Path) -> ClickLog:
    """Open the prepared arrays; those of rows stay on disk and are read as they are asked for.

    Raises:
        DataError: if they do not fit together.
    """
    labels, integers, numbers = (
        load_array(folder / f"{kind}.npy", dtype, shape, mmap_mode="c")
        for kind, (dtype, shape) in {**_COLUMNS, "categories": (np.int32, _CATEGORIES)}.items()
    )
    counts = load_array(folder / "num_values.npy", np.int64, ())
    values = load_array(folder / "values.npy", np.uint32, ())
    rows = {len(array) for array in (labels, integers, numbers)}
    if len(rows) != 1 or len(counts) != NUM_CATEGORIES or counts.sum() != len(values):
        raise DataError(f"the arrays in {folder} do not belong together; prepare them again")
    return ClickLog(labels, integers, numbers, tuple(np.split(values, np.cumsum(counts)[:-1])))


@contextlib.contextmanager
def opened_log(originals: Path) -> Iterator[tuple[str, Iterable[bytes]]]:
    """Give the name and the lines of a user's `train.txt`, packed in the archive or not.

    Raises:
        DataError: if it is not there, or the archive is damaged.
    """
    path = find_file(originals, FILE, ARCHIVE)
    with contextlib.ExitStack() as stack:
        stack.enter_context(reading(path))
        if not tarfile.is_tarfile(path):
            yield str(path), stack.enter_context(path.open("rb"))
            return
        tar = stack.enter_context(tarfile.open(path, "r|*"))
        for member in tar:
            if member.isfile() and Path(member.name).name == FILE:
                stream = tar.extractfile(member)
                assert stream is not None
                yield f"{path}:{member.name}", stream
                return
        raise DataError(f"{path} must hold {FILE}, which it does not")


def _write_columns(lines: Iterable[bytes], name: str, scratch: Path) -> dict[str, np.ndarray]:
    """Write each kind of column to a file of its own; returns the files as arrays."""
    kinds = {**_COLUMNS, "categories": (np.uint32, _CATEGORIES)}
    with contextlib.ExitStack() as stack:
        files = {kind: stack.enter_context((scratch / kind).open("wb")) for kind in kinds}
        for rows in read_rows(lines, name):
            for kind, stream in files.items():
                stream.write(getattr(rows, kind).tobytes())
    return {
        kind: np.memmap(scratch / kind, dtype, mode="r").reshape(-1, *shape)
        for kind, (dtype, shape) in kinds.items()
    }
