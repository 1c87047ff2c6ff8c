"""Readers of molecules and crystals, on tiny files of the true formats."""

import gzip
import json

import numpy as np
import pytest

from tasks.data.carbon24 import read_table
from tasks.data.formats.cif import lattice
from tasks.data.formats.materials_json import read_materials
from tasks.data.formats.sdf import read_sdf
from tasks.data.formats.xyz import read_extended, read_gdb9
from tasks.data.store import DataError
from tasks.data.structures import SYMBOLS, atomic_number, molecule
from tests.tasks.original_structures import CIF, GDB9, SDF, WATER, document


def refusal(function, *arguments):
    with pytest.raises(DataError) as error:
        function(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def written(tmp_path, text, name="file"):
    path = tmp_path / name
    path.write_text(text)
    return path


# ---------------------------------------------------------------- elements


def test_elements_have_their_numbers():
    assert len(SYMBOLS) == 99
    known = {"H": 1, "C": 6, "O": 8, "F": 9, "Fe": 26, "I": 53, "Lu": 71, "Au": 79, "U": 92}
    assert {symbol: atomic_number(symbol, "") for symbol in known} == known


@pytest.mark.parametrize("symbol", ["Xx", "h", "", "Fm", "Lr"])
def test_an_unknown_element_is_named(symbol):
    assert refusal(atomic_number, symbol, "f.xyz, line 3") == (
        f"f.xyz, line 3: must name an element, H to Es, got {symbol!r}"
    )


def test_one_atom_is_no_molecule():
    said = refusal(molecule, [(1, [0.0, 0.0, 0.0])], 0.0, "f.xyz, line 1")
    assert said == "f.xyz, line 1: must be a molecule of at least 2 atoms, got 1"


# ---------------------------------------------------------------- XYZ


def test_a_file_of_gdb9_is_read(tmp_path):
    structure, energy = read_gdb9(written(tmp_path, GDB9))
    assert energy == -40.47893
    assert structure.numbers.tolist() == [6, 1, 1, 1, 1]
    assert structure.numbers.dtype == np.uint8
    assert structure.positions[0].tolist() == [-0.0126981359, 1.0858041578, 0.0080009958]
    # Mathematica's exponent.
    assert structure.positions[1].tolist() == [2.150416e-6, -0.0060313176, 0.0019761204]
    assert structure.cell is None


def test_an_extended_file_is_read(tmp_path):
    structure = read_extended(written(tmp_path, WATER), -76.4)
    assert structure.numbers.tolist() == [8, 1, 1]
    assert structure.positions[2].tolist() == [0.75, 0.0, 0.5]
    assert structure.energy == -76.4


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("5\n", "five\n", "line 1: must be the number of atoms, got 'five'"),
        ("5\n", "6\n", "line 1: must have 11 lines of 6 atoms, got 10"),
        ("gdb 1", "gdb", "line 2: must have gdb, a number and 15 properties, got 'gdb 157.7118"),
        ("-40.47893", "U0", "line 2: must hold numbers, got '157.7118"),
        ("C\t-0.01", "Cc\t-0.01", "line 3: must name an element, H to Es, got 'Cc'"),
        ("2.150416*^-6", "2.15*10^-6", "line 4: must hold numbers, got '2.15*10^-6 -0.00"),
        ("2.150416*^-6", "nan", "line 4: must hold numbers, got 'nan -0.00"),
        ("H\t1.0117308433", "H 1.0", "line 5: must have an element and x, y, z, got 'H 1.0'"),
    ],
)
def test_a_malformed_file_of_gdb9_is_told_its_line(tmp_path, old, new, message):
    assert old in GDB9
    text = GDB9.replace(old, new, 1)
    if new == "H 1.0":
        text = "\n".join("H 1.0" if x.startswith(new) else x for x in text.splitlines()) + "\n"
    path = written(tmp_path, text)
    assert refusal(read_gdb9, path).startswith(f"{path}, {message}")


def test_one_atom_in_a_file_is_told_its_line(tmp_path):
    lines = GDB9.splitlines()
    path = written(tmp_path, "\n".join(["1", *lines[1:3], *lines[-3:]]))
    said = refusal(read_gdb9, path)
    assert said == f"{path}, line 1: must be a molecule of at least 2 atoms, got 1"


def test_an_empty_or_other_xyz_file_is_refused(tmp_path):
    path = written(tmp_path, "")
    assert refusal(read_extended, path, 0.0).startswith(f"{path}, line 2: must begin with Prop")
    assert refusal(read_gdb9, path).startswith(f"{path}, line 2: must have gdb")
    path = written(tmp_path, WATER.replace("pos:R:3", "pos:R:2"))
    assert "line 2: must begin with Properties=species:S:1:pos:R:3" in refusal(
        read_extended, path, 0.0
    )


# ---------------------------------------------------------------- SDF


def test_the_records_of_an_sdf_file_are_read(tmp_path):
    records = list(read_sdf(written(tmp_path, SDF)))
    assert [(name, line) for name, line, _ in records] == [("gdb_1", 1), ("gdb_2", 16)]
    assert [number for number, _ in records[0][2]] == [6, 1, 1, 1, 1]
    assert records[1][2][1] == (1, [0.0173, 0.0125, -0.0274])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  4  3  0", "  x  3  0", "line 19: must have the number of atoms and V2000, got '  x  3"),
        (
            "  4  3  0     0  0  0  0  0  0999 V2000",
            "  4  3  0 V3000",
            "line 19: must have the num",
        ),
        ("  4  3  0", " 40  3  0", "line 19: must have 40 atoms, got 8 lines"),
        ("-0.0404    1.0241    0.0626 N", "-0.0404    1.0241    0.0626 Q", "line 20: must name an"),
        ("0.0173    0.0125", "0.0173    0,0125", "line 21: must hold numbers, got '0.0173 0,0125"),
    ],
)
def test_a_malformed_sdf_record_is_told_its_line(tmp_path, old, new, message):
    assert old in SDF
    path = written(tmp_path, SDF.replace(old, new))
    assert refusal(lambda: list(read_sdf(path))).startswith(f"{path}, {message}")


def test_an_sdf_file_that_was_cut_is_refused(tmp_path):
    path = written(tmp_path, SDF[: SDF.rindex("$$$$")])
    said = refusal(lambda: list(read_sdf(path)))
    assert said == f"{path}, line 16: must be a record that ends with $$$$"


# ---------------------------------------------------------------- CIF


def table(cif=CIF, energy="-154.2"):
    return f',material_id,cif,energy_per_atom\n3,C-1,"{CIF}",-154.1\n4,C-2,"{cif}",{energy}\n'


def test_crystals_are_read_from_a_table(tmp_path):
    structures = read_table(written(tmp_path, table()))
    assert [s.energy for s in structures] == [-154.1, -154.2]
    for structure in structures:
        assert structure.numbers.tolist() == [6, 14]
        lengths = np.linalg.norm(structure.cell, axis=1)
        assert lengths.tolist() == pytest.approx([2.5, 3.5, 6.0])
        cosines = [structure.cell[i] @ structure.cell[j] for i, j in ((1, 2), (0, 2), (0, 1))]
        cosines /= lengths[[1, 0, 0]] * lengths[[2, 2, 1]]
        assert np.degrees(np.arccos(cosines)).tolist() == pytest.approx([120, 80, 100])
        expected = np.array([[0.5, 0.25, -0.1], [0.0, 0.75, 1.2]]) @ structure.cell
        np.testing.assert_allclose(structure.positions, expected, rtol=1e-12)


FIRST = 2 + CIF.count("\n") + 1  # line of the second row


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("_cell_length_b   3.5\n", "", 0, "must be a CIF with _cell_length_b, which it does not"),
        ("_cell_length_b   3.5", "_cell_length_b   b", 4, "must hold numbers, got 'b'"),
        ("_alpha   120", "_alpha   10", 0, "must be a cell with a volume, got [2.5, 3.5, 6.0, 10"),
        ("_length_a   2.5", "_length_a   0", 0, "must be a cell with a volume"),
        ("'x, y, z'", "'-x, -y, -z'", 13, "must have no symmetry but x, y, z, got"),
        ("  Si  S0", "  Sj  S0", 23, "must name an element, H to Es, got 'Sj'"),
        ("0.5  0.25", "0.5", 22, "must have a site's element and coordinates, 7 columns, got 'C C"),
        ("0.5  0.25", "0.5  ?", 22, "must hold numbers, got '0.5 ? -0.1'"),
        ("-0.1  1\n", "-0.1  0.5\n", 22, "must be a site of occupancy 1, got 'C C0"),
    ],
)
def test_a_malformed_crystal_is_told_its_line(tmp_path, old, new, line, message):
    assert CIF.count(old) == 1
    path = written(tmp_path, table(CIF.replace(old, new)))
    assert refusal(read_table, path).startswith(f"{path}, line {FIRST + line}: {message}")


def test_a_crystal_without_sites_is_refused(tmp_path):
    path = written(tmp_path, table(CIF[: CIF.index("  C  C0")]))
    said = refusal(read_table, path)
    assert said == f"{path}, line {FIRST}: must be a CIF with sites, got none"


def test_a_malformed_table_is_told_its_line(tmp_path):
    path = written(tmp_path, table(energy="low"))
    assert refusal(read_table, path) == f"{path}, line {FIRST}: must hold numbers, got 'low'"
    path = written(tmp_path, table(energy="-154.2,more"))
    assert refusal(read_table, path) == f"{path}, line {FIRST}: must have 4 columns"
    path = written(tmp_path, "a,b\n1,2\n")
    said = refusal(read_table, path)
    assert said == f"{path}, line 1: must name the columns cif and energy_per_atom"
    assert refusal(read_table, tmp_path / "none").startswith(f"{tmp_path}/none cannot be read: ")


def test_a_cubic_cell_is_a_cube():
    np.testing.assert_allclose(lattice([2, 2, 2], [90] * 3, ""), 2 * np.eye(3), atol=1e-15)


# ---------------------------------------------------------------- the Materials Project


@pytest.mark.parametrize("layout", ["array", "indented", "lines", "gzip"])
def test_documents_are_read(tmp_path, layout):
    content = [document(-1.5), document(0.25, elements=("Fe", "O"))]
    path = tmp_path / "file.json"
    if layout == "lines":
        path.write_text("".join(f"{json.dumps(one)}\n" for one in content))
    elif layout == "gzip":
        path.write_bytes(gzip.compress(json.dumps(content).encode()))
    else:
        path.write_text(json.dumps(content, indent=2 if layout == "indented" else None))
    first, second = read_materials(path)
    assert first.energy == -1.5
    assert first.numbers.tolist() == [11, 17]
    assert second.numbers.tolist() == [26, 8]
    assert second.cell.tolist() == [[2.0, 0.0, 0.0], [0.5, 3.0, 0.0], [0.0, 0.1, 4.0]]
    # [0.5, 0.5, 0.25] of it.
    assert second.positions[1].tolist() == pytest.approx([1.25, 1.525, 1.0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"formation_energy_per_atom": None}, "must be a document with formation_energy_per_atom"),
        ({"structure": {"sites": []}}, "must be a document with formation_energy_per_atom and a"),
        ({"matrix": [[1, 0, 0], [0, 1, 0], [1, 1, 0]]}, "must have a cell with a volume"),
        ({"matrix": [[1, 0], [0, 1]]}, "must have a matrix of 3 x 3"),
        ({"elements": ("Na", "Xx")}, "must name an element, H to Es, got 'Xx'"),
        ({"occu": 0.5}, "must have one whole atom at each site"),
        ({"abc": [0.5, 0.5]}, "must be a document with"),
    ],
)
def test_a_malformed_document_is_told_its_line(tmp_path, change, message):
    path = tmp_path / "file.json"
    for text, line in (
        (json.dumps(document()) + "\n" + json.dumps(document(**change)) + "\n", 2),
        (
            "[\n" + json.dumps(document(), indent=1) + ",\n" + json.dumps(document(**change)) + "]",
            0,
        ),
    ):
        path.write_text(text)
        line = line or len(json.dumps(document(), indent=1).splitlines()) + 2
        said = refusal(lambda: list(read_materials(path)))
        assert said.startswith(f"{path}, line {line}: {message}"), said


def test_what_is_no_json_is_told_its_line(tmp_path):
    path = tmp_path / "file.json"
    path.write_text("[\n" + json.dumps(document()) + ",\n{'structure': 1}]")
    said = refusal(lambda: list(read_materials(path)))
    assert said.startswith(f"{path}, line 3: must be JSON, got Expecting property name")
    path.write_bytes(b"\xff")
    assert refusal(lambda: list(read_materials(path))) == (
        f"{path} must be UTF-8, got invalid start byte"
    )
