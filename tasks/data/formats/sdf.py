"""SDF files of molecules: MDL's V2000 format, records one after another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tasks.data.lines import decoded_lines
from tasks.data.store import DataError
from tasks.data.structures import atomic_number, numbers_in

_END = "$$$$"
_HEADER = 4  # lines before the atoms: name, program, comment, counts

Atoms = list[tuple[int, list[float]]]


def read_sdf(path: Path) -> Iterator[tuple[str, int, Atoms]]:
    """Yield each record's name, its first line, and its atoms: atomic number and position.

    Raises:
        DataError: if a record is of another format or is not ended; names the line.
    """
    lines = decoded_lines(path)
    start = 0
    for number, line in enumerate(lines):
        if line.startswith(_END):
            yield lines[start].strip(), start + 1, _atoms(path, lines[start:number], start + 1)
            start = number + 1
    if any(line.strip() for line in lines[start:]):
        raise DataError(f"{path}, line {start + 1}: must be a record that ends with {_END}")


def _atoms(path: Path, record: list[str], first: int) -> Atoms:
    where = f"{path}, line {first + _HEADER - 1}"
    counts = record[_HEADER - 1] if len(record) >= _HEADER else ""
    # Fields of three characters, which may touch.
    if "V2000" not in counts or not counts[:3].strip().isdecimal():
        raise DataError(f"{where}: must have the number of atoms and V2000, got {counts[:40]!r}")
    count = int(counts[:3])
    if len(record) < _HEADER + count:
        raise DataError(f"{where}: must have {count} atoms, got {len(record) - _HEADER} lines")
    atoms = []
    for number, line in enumerate(record[_HEADER : _HEADER + count], start=first + _HEADER):
        where = f"{path}, line {number}"
        # x, y, z in ten characters each, a blank, the element in three.
        position = [line[:10].strip(), line[10:20].strip(), line[20:30].strip()]
        atoms.append((atomic_number(line[31:34].strip(), where), numbers_in(position, where)))
    return atoms
