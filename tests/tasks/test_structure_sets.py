"""Preparation of QM9 and the Materials Project, and what bad files are told."""

import numpy as np
import pytest

from scripts.prepare_data import main as prepare_data
from tasks.data import matproj, qm9
from tasks.data.store import DataError, fetch, require, sha256
from tasks.data.structures import load_structures, save_structures
from tests.commands import command
from tests.fake_sets import CHECKSUMS, write_molecules
from tests.tasks.original_structures import (
    GDB9,
    SDF,
    TABLE,
    document,
    write_documents,
    write_gdb9,
    write_sdf,
)
from tests.tasks.originals import tar_of
from tests.tasks.toy_structures import crystal, molecule


def refusal(function, *arguments):
    with pytest.raises(DataError) as error:
        function(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def place(tmp_path):
    """The folder that is being prepared."""
    folder = tmp_path / "prepared"
    folder.mkdir()
    return folder


# ---------------------------------------------------------------- the layout


@pytest.mark.parametrize("kind", ["molecules", "crystals"])
def test_structures_are_read_as_they_were_written(place, kind):
    make = crystal if kind == "crystals" else molecule
    written = [make(count, seed=count) for count in (3, 2, 5)]
    save_structures(written, place)
    read = load_structures(place, crystals=kind == "crystals")
    for before, after in zip(written, read, strict=True):
        for name in ("numbers", "positions", "cell"):
            assert np.array_equal(getattr(before, name), getattr(after, name))
            if getattr(before, name) is not None:
                assert getattr(before, name).dtype == getattr(after, name).dtype
        assert before.energy == after.energy


def test_arrays_that_do_not_match_are_refused(place):
    save_structures([crystal(3), crystal(2)], place)
    for name, wanted in (("numbers", 5), ("positions", 5), ("energies", 2), ("cells", 2)):
        path = place / f"{name}.npy"
        whole = np.load(path)
        np.save(path, whole[:-1])
        said = refusal(load_structures, place, True)
        assert said == f"{path} must have {wanted} rows, got {wanted - 1}"
        np.save(path, whole)


# ---------------------------------------------------------------- QM9


def test_qm9_comes_out_of_either_publication(tmp_path):
    nitrogen = GDB9.replace("gdb 1\t", "gdb 2\t").replace("C\t-0.01", "N\t-0.01")
    sources = {
        "folder": write_gdb9(tmp_path / "folder", nitrogen),
        "sdf": write_sdf(tmp_path / "sdf"),
        "sdf file": tmp_path / "sdf" / "gdb9.sdf",
        "table beside it": tmp_path / "sdf" / "gdb9.sdf.csv",
    }
    members = {path.name: path.read_bytes() for path in sources["folder"].iterdir()}
    (tmp_path / qm9.XYZ.name).write_bytes(tar_of(members, "w:bz2"))
    sources["archive"] = tmp_path / qm9.XYZ.name
    members = {f"./{path.name}": path.read_bytes() for path in sources["sdf"].iterdir()}
    (tmp_path / qm9.SDF.name).write_bytes(tar_of(members, "w:gz"))
    sources["sdf archive"] = tmp_path / qm9.SDF.name
    found = {}
    for name, source in sources.items():
        folder = tmp_path / f"prepared {name}"
        folder.mkdir()
        qm9.prepare(folder, source, num_molecules=2)
        assert sorted(path.name for path in folder.iterdir()) == sorted(qm9.FILES)
        found[name] = qm9.read(folder)
        first = found[name][0]
        # 1 hartree is 27.2114 eV.
        assert first.energy == pytest.approx(-40.47893 * 27.211386, rel=1e-8)
        assert first.numbers.tolist() == [6, 1, 1, 1, 1]
        assert found[name][1].numbers[0] == 7
    same = [("folder", "archive")]
    same += [("sdf", other) for other in ("sdf archive", "sdf file", "table beside it")]
    for one, other in same:
        for a, b in zip(found[one], found[other], strict=True):
            assert np.array_equal(a.positions, b.positions)
    # Four decimals in the one, ten in the other.
    np.testing.assert_allclose(
        found["folder"][0].positions, found["sdf"][0].positions, rtol=0, atol=1.5e-4
    )


def test_the_number_of_molecules_is_checked(tmp_path, place):
    source = write_gdb9(tmp_path / "folder")
    said = refusal(qm9.prepare, place, source)
    assert said == f"{source} must hold 133885 molecules, got 2"


@pytest.mark.parametrize(
    ("sdf", "table", "message"),
    [
        (SDF, TABLE.replace("gdb_2", "gdb_3"), "{table}, line 3: must be of gdb_2, as in gdb9.sdf"),
        (SDF, TABLE + "gdb_3,1,2,3\n", "{table}, line 4: must be of a molecule in gdb9.sdf, which"),
        (SDF, TABLE[: TABLE.index("gdb_2")], "{table} must have a row for each molecule in gdb9"),
        (SDF, TABLE.replace(",-276", "\n,-276"), "{table}, line 3: must have 4 columns"),
        (SDF, TABLE.replace("-56.525887", ""), "{table}, line 3: must hold numbers, got ''"),
        (SDF, TABLE.replace("u0,", "u1,"), "{table}, line 1: must name the columns mol_id and u0"),
        (SDF.replace("0.0626 N", "0.0626 Xx"), TABLE, "{sdf}, line 20: must name an element"),
        (SDF.replace("  4  3", "  1  3"), TABLE, "{sdf}, line 19: must be a molecule of at least"),
    ],
)
def test_molecules_and_table_that_do_not_match_are_refused(tmp_path, place, sdf, table, message):
    source = write_sdf(tmp_path / "sdf", sdf, table)
    paths = {"table": source / "gdb9.sdf.csv", "sdf": source / "gdb9.sdf"}
    assert refusal(qm9.prepare, place, source).startswith(message.format(**paths))


def command_refusal(capsys, name, source, data_dir):
    """What the command says to files that it cannot take."""
    assert prepare_data([name, "--from", str(source), "--data-dir", str(data_dir)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert not data_dir.exists()
    return said


def test_bad_molecules_end_the_command_with_one_line(tmp_path, capsys):
    lines = GDB9.splitlines()
    bad = {
        "3: must name an element, H to Es, got 'Q'": GDB9.replace("C\t-0.01", "Q\t-0.01"),
        "1: must be a molecule of at least 2 atoms, got 1": "\n".join(
            ["1", *lines[1:3], *lines[-3:]]
        ),
        "5: must hold numbers, got '1.01.17308433": GDB9.replace("1.0117308433", "1.01.17308433"),
    }
    for number, (message, text) in enumerate(bad.items()):
        source = write_gdb9(tmp_path / str(number), text)
        said = command_refusal(capsys, "qm9", source, tmp_path / "data")
        assert said.startswith(f"{source}/dsgdb9nsd_000002.xyz, line {message}")


def test_bad_molecules_of_an_archive_are_told_by_its_name(tmp_path, capsys):
    bad = GDB9.replace("C\t-0.01", "Q\t-0.01").encode()
    archive = tmp_path / qm9.XYZ.name
    archive.write_bytes(tar_of({"dsgdb9nsd_000001.xyz": bad}, "w:bz2"))
    said = command_refusal(capsys, "qm9", archive, tmp_path / "data")
    assert said.startswith(f"{archive}:dsgdb9nsd_000001.xyz, line 3: must name an element")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ({2: "Xx 0 0 0"}, "line 3: must name an element, H to Es, got 'Xx'"),
        ({3: "C 0 0"}, "line 4: must have an element and x, y, z, got 'C 0 0'"),
        ({0: "1", 3: None}, "line 1: must be a molecule of at least 2 atoms, got 1"),
    ],
)
def test_bad_molecules_end_a_run_with_one_line(tmp_path, lines, message):
    """Also in a set whose files are those that its list names."""
    write_molecules(tmp_path / "qm9_3000")
    path = tmp_path / "qm9_3000" / "qm9_xyz" / "gdb_3.xyz"
    content = path.read_text().splitlines()
    for number, line in lines.items():
        content = content[:number] + ([] if line is None else [line, *content[number + 1 :]])
    path.write_text("\n".join(content) + "\n")
    write_list(tmp_path)
    runs = tmp_path / "runs"
    result = command("task=qm9_schnet", "scale=smoke", f"runs_dir={runs}", sets_dir=tmp_path)
    assert result.code == 2
    assert result.err == f"run.py: {path}, {message}\n"
    assert not runs.exists()


def write_list(folder):
    """The checksums of what a folder holds, as the committed list."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    lines = [f"{sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / CHECKSUMS).write_text("".join(lines))


# ---------------------------------------------------------------- the Materials Project


def test_the_materials_project_is_prepared_and_listed(tmp_path):
    source = write_documents(tmp_path / "mp.json", document(-1.5), document(0.5))
    folder = fetch("matproj", tmp_path / "data", originals=source)
    assert require("matproj", tmp_path / "data", matproj.FILES) == folder
    energies = [structure.energy for structure in matproj.read(folder)]
    assert energies == [-1.5, 0.5]
    # Several files are read by name.
    parts = tmp_path / "parts"
    parts.mkdir()
    write_documents(parts / "b.json", document(2.0))
    write_documents(parts / "a.json", document(1.0))
    folder = fetch("matproj", tmp_path / "other", originals=parts)
    assert [structure.energy for structure in matproj.read(folder)] == [1.0, 2.0]


def test_the_materials_project_has_to_be_brought(tmp_path, capsys):
    assert "save the documents of a query" in refusal(matproj.prepare, tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "must hold crystals in .json" in refusal(matproj.prepare, tmp_path, empty)
    source = write_documents(tmp_path / "mp.json", document(), document(elements=("Na", "Xx")))
    said = command_refusal(capsys, "matproj", source, tmp_path / "data")
    assert said.startswith(f"{source}, line 1: must name an element, H to Es, got 'Xx'")
