"""XYZ files of one molecule: extended XYZ, and GDB9's, whose second line holds properties."""

from __future__ import annotations

from pathlib import Path

from tasks.data.lines import decoded_lines
from tasks.data.store import DataError
from tasks.data.structures import Structure, atomic_number, molecule, numbers_in

_COLUMNS = "Properties=species:S:1:pos:R:3"
# Of GDB9's second line: "gdb", the molecule's number, and 15 properties, U0 after zpve.
_NUM_FIELDS = 17
_U0 = 12
# After the atoms: frequencies, SMILES, InChI.
_REST = 3


def read_extended(path: Path, energy: float) -> Structure:
    """Read a molecule whose second line says that an element and its position make a line.

    Args:
        energy: of the molecule, which stands elsewhere.
    Raises:
        DataError: if the file is of another format; names the line.
    """
    lines = decoded_lines(path)
    comment = lines[1] if len(lines) > 1 else ""
    if not comment.startswith(_COLUMNS):
        raise DataError(f"{path}, line 2: must begin with {_COLUMNS}, got {comment[:40]!r}")
    return _read(path, lines, energy, rest=0)


def read_gdb9(path: Path) -> tuple[Structure, float]:
    """Read a molecule of GDB9 [Ramakrishnan et al. 2014], and its U0 in hartree.

    A line of an atom has its charge, too; numbers may have Mathematica's exponents, as 2.1*^-6.

    Raises:
        DataError: if the file is of another format; names the line.
    """
    lines = decoded_lines(path)
    where = f"{path}, line 2"
    fields = lines[1].split() if len(lines) > 1 else []
    if len(fields) != _NUM_FIELDS or fields[0] != "gdb":
        raise DataError(
            f"{where}: must have gdb, a number and {_NUM_FIELDS - 2} properties, got "
            f"{' '.join(fields)[:40]!r}"
        )
    energy = numbers_in(fields[2:], where)[_U0 - 2]
    return _read(path, lines, energy, rest=_REST), energy


def _read(path: Path, lines: list[str], energy: float, rest: int) -> Structure:
    first = lines[0].strip()
    if not first.isdecimal():
        raise DataError(f"{path}, line 1: must be the number of atoms, got {first[:20]!r}")
    count = int(first)
    if len(lines) != count + 2 + rest:
        raise DataError(
            f"{path}, line 1: must have {count + 2 + rest} lines of {count} atoms, got {len(lines)}"
        )
    atoms = []
    for number, line in enumerate(lines[2 : count + 2], start=3):
        where = f"{path}, line {number}"
        fields = line.split()
        if len(fields) < 4:
            raise DataError(f"{where}: must have an element and x, y, z, got {line[:40]!r}")
        atoms.append((atomic_number(fields[0], where), numbers_in(fields[1:4], where)))
    return molecule(atoms, energy, f"{path}, line 1")
