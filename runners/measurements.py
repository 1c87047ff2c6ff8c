"""Records of computations that are no training runs: exact mathematics, counts, timings.

A measurement is one file, `<root>/measurements/<name>.json`: how and on what it was made, and its
rows. A row is flat: column -> text, number, truth value or null; `seed` is the row's number of a
random case or a turn, by which rows of two quantities are paired.

Analysis reads measurements only through this module, so it imports neither torch nor the loop.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runners.records import RecordsError, write_atomically

SCHEMA_VERSION = 1
KINDS = ("exact", "timed")

Row = Mapping[str, Any]


def path_of(root: Path | str, name: str) -> Path:
    """Where a measurement of a root of records lies."""
    return Path(root) / "measurements" / f"{name}.json"


def write(root: Path | str, name: str, kind: str, rows: Sequence[Row], facts: Row) -> Path:
    """Write one measurement, atomically.

    Args:
        root: a folder with the layout of runs_dir; made when missing.
        kind: "exact" (the same numbers again on any machine, up to round-off) or "timed".
        rows: at least one; every value a text, number, truth value or None. Numbers that are not
            finite stay what they are.
        facts: command, commit, dirty, hardware, num_threads, packages, started_at, seconds, timing,
            and load: of timed ones, how busy others kept the machine (`runners.load`).
    Returns:
        The file.
    Raises:
        ValueError: if the kind is unknown, there are no rows, or a value is no plain scalar; names
            the row and the column.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    check_rows(name, rows)
    path = path_of(root, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {**facts, "schema_version": SCHEMA_VERSION, "name": name, "kind": kind}
    head = json.dumps(document, indent=1, sort_keys=True).removesuffix("\n}")
    # A row a line: a third of the bytes, and a difference between two versions can be read.
    lines = ",\n".join(f"  {json.dumps(dict(row))}" for row in rows)
    text = f'{head},\n "rows": [\n{lines}\n ]\n}}\n'
    write_atomically(path, lambda temporary: temporary.write_text(text))
    return path


def check_rows(name: str, rows: Sequence[Row]) -> None:
    """Refuse rows that JSON would not give back as they are.

    Raises:
        ValueError: as for `write`.
    """
    if not rows:
        raise ValueError(f"measurement {name} has no rows")
    for number, row in enumerate(rows):
        for column, value in row.items():
            if not isinstance(column, str):
                raise ValueError(f"measurement {name}, row {number}: column {column!r} is no text")
            # By class and not by isinstance: numpy's float64 is a float, its float32 is none.
            if type(value) not in (str, int, float, bool, type(None)):
                raise ValueError(
                    f"measurement {name}, row {number}: {column} must be a plain text, number, "
                    f"truth value or None, got {type(value).__name__}"
                )


def read(path: Path | str) -> dict[str, Any]:
    """Read one measurement's file: the facts of its making and its `rows`.

    Raises:
        RecordsError: if it is missing, is no JSON, or has an unknown schema version.
    """
    path = Path(path)
    try:
        document = json.loads(path.read_text())
    except FileNotFoundError:
        raise RecordsError(f"{path} is missing") from None
    except json.JSONDecodeError as error:
        raise RecordsError(f"{path} is damaged: {error}") from None
    version = document.get("schema_version")
    if version != SCHEMA_VERSION:
        raise RecordsError(
            f"{path} has schema version {version}; this version of Kappa reads measurements of "
            f"version {SCHEMA_VERSION}"
        )
    return document
