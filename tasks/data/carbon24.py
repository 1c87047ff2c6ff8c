"""Carbon-24 [Pickard 2020; Xie et al. 2022]: crystals of carbon at 10 GPa and their energies.

The validation and the test part as CDVAE's code has them, of which a copy of the training part is
three times as large: 4,062 crystals of 6 to 24 atoms, the stand-in for the Materials Project.
"""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

from tasks.data.download import Original, obtain
from tasks.data.formats.cif import parse_cif
from tasks.data.store import DataError
from tasks.data.structures import Structure, numbers_in

# At a commit: the branch may move.
_URL = (
    "https://raw.githubusercontent.com/txie-93/cdvae/"
    "f857f598d6f6cca5dc1ea0582d228f12dcc2c2ea/data/carbon_24/"
)
FILES = ("val.csv", "test.csv")
PER_ATOM = True
CRYSTALS = True
REFERENCES: dict[int, float] = {}  # there is but one element
_CIF, _ENERGY = "cif", "energy_per_atom"


def prepare(folder: Path, originals: Path | None = None) -> None:
    """Write the two files, unchanged.

    Args:
        originals: folder of the files; None: they are fetched.
    Raises:
        DataError: if a file cannot be had.
    """
    for name in FILES:
        shutil.copyfile(obtain(Original(name, _URL + name), folder, originals), folder / name)


def read(folder: Path) -> list[Structure]:
    """Read the crystals of both files; energies are in eV per atom.

    Raises:
        DataError: if a file is malformed; names the line.
    """
    return [structure for name in FILES for structure in read_table(folder / name)]


def read_table(path: Path) -> list[Structure]:
    """Read the crystals of a table with a CIF, of many lines, and an energy in each row.

    Raises:
        DataError: if a row or its CIF is malformed; names the line.
    """
    structures = []
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = csv.DictReader(stream, restkey="more")
            if not {_CIF, _ENERGY} <= set(rows.fieldnames or ()):
                raise DataError(f"{path}, line 1: must name the columns {_CIF} and {_ENERGY}")
            first = rows.line_num + 1
            for row in rows:
                where = f"{path}, line {first}"
                if "more" in row or None in row.values():
                    raise DataError(f"{where}: must have {len(rows.fieldnames)} columns")
                (energy,) = numbers_in([row[_ENERGY]], where)
                structures.append(parse_cif(row[_CIF].splitlines(), energy, path, first))
                first = rows.line_num + 1
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    return structures
