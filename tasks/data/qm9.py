"""QM9 [Ramakrishnan et al. 2014]: 133,885 molecules of H, C, N, O and F, and their energies U0.

From either of its two publications: figshare's archive of one XYZ file a molecule, or MoleculeNet's
gdb9.sdf with gdb9.sdf.csv, whose positions have four decimals. No checksum of either is known here:
the number of molecules is checked.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from tasks.data.archives import unpacked
from tasks.data.download import Original, find_file
from tasks.data.formats.sdf import Atoms, read_sdf
from tasks.data.formats.xyz import read_gdb9
from tasks.data.store import DataError
from tasks.data.structures import (
    FILES,
    Structure,
    load_structures,
    molecule,
    numbers_in,
    save_structures,
)

__all__ = ["FILES", "prepare", "read"]

XYZ = Original("dsgdb9nsd.xyz.tar.bz2", "https://ndownloader.figshare.com/files/3195389")
SDF = Original(
    "gdb9.tar.gz", "https://deepchemdata.s3-us-west-1.amazonaws.com/datasets/gdb9.tar.gz"
)
NUM_MOLECULES = 133_885
PER_ATOM = False
CRYSTALS = False
EV_PER_HARTREE = 27.211386245988  # CODATA 2018
# U0 of free atoms in hartree, by atomic number: the set's own atomref.txt.
_ATOMS = {1: -0.500273, 6: -37.846772, 7: -54.583861, 8: -75.064579, 9: -99.718730}
# In eV; subtracted from a molecule's energy, as SchNetPack does.
REFERENCES = {number: energy * EV_PER_HARTREE for number, energy in _ATOMS.items()}

_FIRST = "dsgdb9nsd_000001.xyz"
_NAME = re.compile("gdb_[1-9][0-9]*")
_SDF, _TABLE = "gdb9.sdf", "gdb9.sdf.csv"


def prepare(
    folder: Path, originals: Path | None = None, num_molecules: int = NUM_MOLECULES
) -> None:
    """Write the molecules as arrays (`save_structures`), in the set's order.

    Args:
        originals: archive of XYZ files, archive of gdb9.sdf and gdb9.sdf.csv, or a folder of
            either or of its files; None: the first is fetched.
        num_molecules: that there must be.
    Raises:
        DataError: if the files cannot be had, or one of them is of another format.
    """
    if originals is not None and _is_sdf(originals):
        with unpacked(SDF, folder, originals, (_SDF, _TABLE), "*gdb9.sdf*") as place:
            structures = [structure for _, structure in read_table(place)]
    else:
        with unpacked(XYZ, folder, originals, (_FIRST,), "*.xyz") as place:
            first = find_file(place, _FIRST)
            files = sorted(first.parent.glob("dsgdb9nsd_*.xyz"))
            structures = [_in_ev(*read_gdb9(file)) for file in files]
    if len(structures) != num_molecules:
        raise DataError(
            f"{originals or XYZ.name} must hold {num_molecules} molecules, got {len(structures)}"
        )
    save_structures(structures, folder)


def read(folder: Path) -> list[Structure]:
    """Read the prepared molecules; energies are U0, in eV.

    Raises:
        DataError: if a file is missing or damaged.
    """
    return load_structures(folder, crystals=False)


def read_table(place: Path) -> Iterator[tuple[dict[str, str], Structure]]:
    """Yield the rows of gdb9.sdf.csv with their molecules of gdb9.sdf; energies in eV.

    Raises:
        DataError: if their molecules do not match, or a line is malformed; names it.
    """
    table = find_file(place, _TABLE)
    records = read_sdf(find_file(place, _SDF))
    for (where, row), record in _matched(table, records):
        name, first, atoms = record
        if name != row["mol_id"]:
            raise DataError(f"{where}: must be of {name}, as in {_SDF}, got {row['mol_id']!r}")
        if not _NAME.fullmatch(name):
            raise DataError(f"{where}: must name a molecule as gdb_1, got {name[:20]!r}")
        made = molecule(atoms, energy_in(row, where), f"{table.with_name(_SDF)}, line {first + 3}")
        yield row, made


def table_rows(table: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each row of a table, {column: text}, with its file and line.

    Raises:
        DataError: if it lacks the columns mol_id and u0, or a row has another number of columns.
    """
    try:
        with table.open(newline="", encoding="utf-8") as stream:
            rows = csv.DictReader(stream, restkey="more")
            if not {"mol_id", "u0"} <= set(rows.fieldnames or ()):
                raise DataError(f"{table}, line 1: must name the columns mol_id and u0")
            for row in rows:
                where = f"{table}, line {rows.line_num}"
                if "more" in row or None in row.values():
                    raise DataError(f"{where}: must have {len(rows.fieldnames)} columns")
                yield where, row
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{table} cannot be read: {error}") from error


def energy_in(row: dict[str, str], where: str) -> float:
    """U0 of a row, in eV."""
    return numbers_in([row["u0"]], where)[0] * EV_PER_HARTREE


def _matched(
    table: Path, records: Iterator[tuple[str, int, Atoms]]
) -> Iterator[tuple[tuple[str, dict[str, str]], tuple[str, int, Atoms]]]:
    rows = table_rows(table)
    for row in rows:
        record = next(records, None)
        if record is None:
            raise DataError(f"{row[0]}: must be of a molecule in {_SDF}, which has fewer")
        yield row, record
    if next(records, None) is not None:
        raise DataError(f"{table} must have a row for each molecule in {_SDF}, which has more")


def _in_ev(structure: Structure, hartree: float) -> Structure:
    return Structure(structure.numbers, structure.positions, hartree * EV_PER_HARTREE)


def _is_sdf(originals: Path) -> bool:
    if originals.is_file():
        return originals.name.startswith("gdb9")
    names = (_SDF, SDF.name)
    return any(path.is_file() for name in names for path in originals.glob(f"**/{name}"))
