"""Preparation of the sets that stand in for QM9 and the Materials Project, and what they hold."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from tasks.data import carbon24, qm9, qm9_3000
from tasks.data.store import DataError, fetch, listed, require
from tests.tasks.original_structures import write_sdf


def real(name):
    """The folder of a real set; skips where it is not there."""
    path = Path(os.environ.get("KAPPA_DATA", "data")).absolute() / name
    if not all((path / file).is_file() for file in listed(name)):
        pytest.skip(f"{name} is not there; set KAPPA_DATA to the folder of data sets")
    return path


def sdf_record(name, structure):
    """A molecule as gdb9.sdf has it."""
    lines = [name, "  -OEChem-03231823253D", "", f"{len(structure.numbers):3}  0  0 0999 V2000"]
    for number, (x, y, z) in zip(structure.numbers, structure.positions, strict=True):
        symbol = {1: "H", 6: "C", 7: "N", 8: "O", 9: "F"}[int(number)]
        lines.append(f"{x:10.4f}{y:10.4f}{z:10.4f} {symbol:<3} 0  0")
    return "\n".join([*lines, "M  END", "$$$$", ""])


def test_the_real_qm9_3000_comes_out_of_gdb9(tmp_path):
    source = real("qm9_3000")
    rows = (source / "qm9.csv").read_text().splitlines()
    table, records = [rows[0].removeprefix(",")], []
    other = ",".join(["-1"] * (len(table[0].split(",")) - 1))
    for row, structure in zip(rows[1:], qm9_3000.read(source), strict=True):
        number, line = row.split(",", 1)
        # Its neighbours in the set are not taken.
        after = f"gdb_{int(number) + 2}"
        table += [line, f"{after},{other}"]
        records += [sdf_record(line.split(",")[0], structure), sdf_record(after, structure)]
    for name in ("gdb_120001", "gdb_133885"):
        table.append(f"{name},{other}")
        records.append(sdf_record(name, structure))
    originals = write_sdf(tmp_path / "gdb9", "".join(records), "\n".join(table) + "\n")
    # Held to the committed list.
    folder = fetch("qm9_3000", tmp_path / "data", originals=originals)
    assert len(list((folder / "qm9_xyz").iterdir())) == 3000


def test_the_real_qm9_3000_has_its_energies():
    source = real("qm9_3000")
    molecules = qm9_3000.read(source)
    with (source / "qm9.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(molecules) == len(rows) == 3000
    free = [sum(qm9.REFERENCES[int(z)] for z in s.numbers) for s in molecules]
    relative = np.array([s.energy for s in molecules]) - free
    # The table's own energies relative to free atoms are in kcal/mol, of which 1 eV has 23.0605.
    expected = np.array([float(row["u0_atom"]) for row in rows]) / 23.060548
    np.testing.assert_allclose(relative, expected, rtol=0, atol=5e-4)
    assert {int(z) for s in molecules for z in s.numbers} == {1, 6, 7, 8, 9}


def test_the_real_carbon24_is_all_carbon():
    source = real("carbon24")
    crystals = carbon24.read(require("carbon24", source.parent, carbon24.FILES))
    assert len(crystals) == 2032 + 2030
    assert {int(z) for s in crystals for z in s.numbers} == {6}
    assert {len(s.numbers) for s in crystals} <= set(range(6, 25))
    energies = np.array([s.energy for s in crystals])
    # Diamond's is the lowest.
    assert -154.56 < energies.min() < energies.max() < -154.0
    # The volume that the text says, in cubic angstrom.
    text = (source / "val.csv").read_text()
    volume = float(text[text.index("_cell_volume") :].split()[1])
    assert abs(np.linalg.det(crystals[0].cell)) == pytest.approx(volume, rel=1e-6)


def test_carbon24_is_taken_as_it_is(tmp_path):
    place, source = tmp_path / "prepared", tmp_path / "originals"
    place.mkdir()
    source.mkdir()
    for name in carbon24.FILES:
        (source / name).write_text(f"{name}\n")
    carbon24.prepare(place, source)
    assert [(place / name).read_text() for name in carbon24.FILES] == ["val.csv\n", "test.csv\n"]
    with pytest.raises(DataError, match=r"test\.csv from .* has SHA-256"):
        fetch("carbon24", tmp_path / "data", originals=source)
