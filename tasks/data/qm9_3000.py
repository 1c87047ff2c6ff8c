"""3,000 molecules of QM9, every fortieth: the stand-in at scale=small."""

from __future__ import annotations

from pathlib import Path

from tasks.data import qm9
from tasks.data.archives import unpacked
from tasks.data.download import find_file
from tasks.data.formats.xyz import read_extended
from tasks.data.structures import SYMBOLS, Structure

PER_ATOM, CRYSTALS, REFERENCES = qm9.PER_ATOM, qm9.CRYSTALS, qm9.REFERENCES
FILES: tuple[str, ...] = ()  # all that the committed list names
TABLE, MOLECULES = "qm9.csv", "qm9_xyz"

_EVERY, _COUNT = 40, 3000


def prepare(folder: Path, originals: Path | None = None) -> None:
    """Write the chosen rows of gdb9.sdf.csv, numbered, and their molecules as extended XYZ.

    Molecule gdb_n is row n - 1; every fortieth row is chosen, from the first on.

    Args:
        originals: gdb9.tar.gz, or the folder of it or of gdb9.sdf and gdb9.sdf.csv; None: it is
            fetched.
    Raises:
        DataError: if the files cannot be had, or are of another format.
    """
    names = ("gdb9.sdf", "gdb9.sdf.csv")
    (folder / MOLECULES).mkdir()
    with unpacked(qm9.SDF, folder, originals, names, "*gdb9.sdf*") as place:
        table = find_file(place, names[1])
        with table.open(encoding="utf-8") as stream:
            lines = [f",{stream.readline().rstrip()}"]
        for row, made in qm9.read_table(place):
            index = int(row["mol_id"].removeprefix("gdb_")) - 1
            if index % _EVERY == 0 and index < _EVERY * _COUNT:
                lines.append(f"{index},{','.join(row.values())}")
                (folder / MOLECULES / f"{row['mol_id']}.xyz").write_text(extended(made))
    (folder / TABLE).write_text("".join(f"{line}\n" for line in lines))


def extended(structure: Structure) -> str:
    """A molecule as extended XYZ."""
    lines = [str(len(structure.numbers)), 'Properties=species:S:1:pos:R:3 pbc="F F F"']
    for number, (x, y, z) in zip(structure.numbers, structure.positions, strict=True):
        lines.append(f"{SYMBOLS[number - 1]:<2} {x:16.8f} {y:16.8f} {z:16.8f}")
    return "".join(f"{line}\n" for line in lines)


def read(folder: Path) -> list[Structure]:
    """Read the prepared molecules; energies are U0, in eV.

    Raises:
        DataError: if a file is missing or malformed; names the line.
    """
    return [
        read_extended(folder / MOLECULES / f"{row['mol_id']}.xyz", qm9.energy_in(row, where))
        for where, row in qm9.table_rows(folder / TABLE)
    ]
