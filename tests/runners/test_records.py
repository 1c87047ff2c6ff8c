"""Records: written and read they are equal, and what cannot be trusted is refused."""

import json
import math

import pytest

from runners import records
from runners.records import (
    TABLES,
    RecordsError,
    RecordWriter,
    find_runs,
    read_config,
    read_manifest,
    read_table,
    spectrum_row,
    write_atomically,
    write_json,
    write_manifest,
)

NAN, INF = math.nan, math.inf
ROWS = {
    "steps": [
        (0, 0.1 + 0.2, 1e-300, 5e-324, 0.0, None),
        (1, INF, 0.1, NAN, 1.5, 2.0),
        (2, NAN, 0.1, -INF, 2.5, -0.0),
    ],
    "evals": [(0, 0.0, "train", "loss", NAN, 0.0), (2, 0.5, "geprüft", "", -INF, 2.5)],
    "spectra": [
        (0, "factor", "gram", [1.0, NAN, INF], 1e-6, NAN, 0.0, NAN, 0, 7),
        (2, "", "gram", [], 0.0, 1.0, 1.0, 0.0, 2**40, 0),
        (2, "window", "gram", [3.0], 0.0, 1.0, 1.0, 0.0, -1, 499),
    ],
}


@pytest.fixture
def run_dir(tmp_path):
    folder = tmp_path / "task" / "optimizer" / "id"
    folder.mkdir(parents=True)
    write_manifest(folder, {"status": "finished"})
    return folder


def fill(writer, rows=ROWS):
    for table, some in rows.items():
        for row in some:
            writer.add(table, row)


def read(run_dir, table):
    return [tuple(row.values()) for row in read_table(run_dir, table).to_pylist()]


def test_what_is_written_is_read_bit_for_bit(run_dir):
    writer = RecordWriter(run_dir)
    fill(writer)
    assert writer.flush() == 1
    for table, rows in ROWS.items():
        # As text: floats are exact there, nan is nan and -0.0 is not 0.0.
        assert repr(read(run_dir, table)) == repr(rows)
        assert read_table(run_dir, table).schema.names == TABLES[table].names
        assert read_table(run_dir, table).schema.types == TABLES[table].types


def test_parts_follow_each_other(run_dir):
    writer = RecordWriter(run_dir)
    for step in range(12):
        writer.add("steps", (step, 1.0, 0.1, 1.0, 0.0, None))
        assert writer.flush() == step + 1
    assert writer.flush() == 12  # nothing new, no part
    assert [row[0] for row in read(run_dir, "steps")] == list(range(12))
    assert len(list((run_dir / "steps").iterdir())) == 12
    assert not (run_dir / "evals").exists()
    assert read(run_dir, "evals") == []


def test_parts_that_no_checkpoint_vouches_for_are_dropped(run_dir):
    writer = RecordWriter(run_dir)
    for step in range(3):
        writer.add("steps", (step, 1.0, 0.1, 1.0, 0.0, None))
        if step == 2:
            fill(writer, {"evals": ROWS["evals"]})
        writer.flush()
    for left in (run_dir / ".checkpoint.pt.1.tmp", run_dir / "steps" / ".part-00003.parquet.1.tmp"):
        left.write_bytes(b"half")
    again = RecordWriter(run_dir, num_parts=1)
    assert [row[0] for row in read(run_dir, "steps")] == [0]
    assert read(run_dir, "evals") == []
    assert list(run_dir.rglob("*.tmp")) == []
    again.add("steps", (1, 2.0, 0.1, 1.0, 0.0, None))
    assert again.flush() == 2
    assert [row[:2] for row in read(run_dir, "steps")] == [(0, 1.0), (1, 2.0)]


def test_tracking_sees_every_row_once(run_dir):
    writer = RecordWriter(run_dir)
    writer.add("steps", ROWS["steps"][0])
    assert writer.unseen()["steps"] == ROWS["steps"][:1]
    assert writer.unseen() == {name: [] for name in TABLES}
    writer.add("steps", ROWS["steps"][1])
    assert writer.unseen()["steps"] == [ROWS["steps"][1]]
    writer.flush()
    assert writer.unseen() == {name: [] for name in TABLES}


def test_a_damaged_part_is_named(run_dir):
    writer = RecordWriter(run_dir)
    fill(writer)
    writer.flush()
    part = run_dir / "steps" / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:-20])
    with pytest.raises(RecordsError, match=r"steps/part-00000\.parquet is damaged"):
        read_table(run_dir, "steps")
    assert len(read(run_dir, "evals")) == 2


@pytest.mark.parametrize("version", [0, 3, "1", None])
def test_another_schema_version_is_refused_everywhere(version, run_dir):
    path = run_dir / "manifest.json"
    path.write_text(json.dumps({"schema_version": version}))
    for reader in (read_manifest, lambda folder: read_table(folder, "steps")):
        with pytest.raises(RecordsError) as error:
            reader(run_dir)
        assert str(error.value) == (
            f"{path} has schema version {version}; this version of Kappa reads 1 and 2"
        )


def test_a_manifest_that_is_missing_or_damaged_is_named(tmp_path, run_dir):
    with pytest.raises(RecordsError, match=r"holds no run: manifest\.json is missing"):
        read_manifest(tmp_path)
    (run_dir / "manifest.json").write_text("{")
    with pytest.raises(RecordsError, match=r"manifest\.json is damaged"):
        read_manifest(run_dir)


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "file"
    path.write_text("before")

    def fail(temporary):
        temporary.write_text("half")
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        write_atomically(path, fail)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_json_keeps_numbers_that_are_not_finite(tmp_path):
    write_json(tmp_path / "x.json", {"b": [NAN, INF, -INF], "a": 0.1})
    value = json.loads((tmp_path / "x.json").read_text())
    assert repr(value) == repr({"a": 0.1, "b": [NAN, INF, -INF]})


def test_runs_are_found_below_a_root_or_at_it(run_dir):
    root = run_dir.parents[2]
    other = root / "task" / "another" / "id"
    other.mkdir(parents=True)
    assert list(find_runs(root)) == [run_dir]
    write_manifest(other, {})
    (root / "experiments").mkdir()
    assert list(find_runs(root)) == [other, run_dir]
    assert list(find_runs(run_dir)) == [run_dir]
    (run_dir / "config.yaml").write_text("optimizer: {lr: 1.0e-3, betas: [0.9, 0.999]}\n")
    assert read_config(run_dir) == {"optimizer": {"lr": 1e-3, "betas": [0.9, 0.999]}}


def test_a_spectrum_is_summed_up_above_its_resolution():
    row = spectrum_row(3, "window", "gram", [1e-9, 1.0, 4.0], 1e-6, 0.5, 2, 19)
    named = dict(zip(TABLES["spectra"].names, row, strict=True))
    assert named["eigenvalues"] == [1e-9, 1.0, 4.0]
    assert named["condition_number"] == 4.0
    # exp of the entropy of (1/5, 4/5), in closed form; rounding of a few operations.
    assert named["effective_rank"] == pytest.approx(5 / 4**0.8, rel=1e-14)
    assert (named["step"], named["root_residual"], named["fallbacks"]) == (3, 0.5, 2)
    assert named["staleness"] == 19


@pytest.mark.parametrize(
    "eigenvalues, resolution", [([], 0.0), ([0.0, 0.0], 0.0), ([1e-9], 1e-6), ([-1.0], -2.0)]
)
def test_a_spectrum_with_nothing_above_its_resolution_has_no_condition(eigenvalues, resolution):
    condition, rank = spectrum_row(0, "x", "gram", eigenvalues, resolution, NAN, 0)[5:7]
    assert math.isnan(condition)
    assert rank == 0.0


def test_equal_eigenvalues_have_full_rank_and_condition_one():
    condition, rank = spectrum_row(0, "x", "gram", [2.0] * 5, 0.0, NAN, 0)[5:7]
    assert condition == 1.0
    assert rank == pytest.approx(5.0, rel=1e-14)


def test_statuses_are_those_of_the_schema():
    assert records.STATUSES == ("finished", "diverged", "failed", "interrupted")
    assert records.SCHEMA_VERSION == 2


def test_records_of_version_one_are_read_with_their_missing_column_null(run_dir, monkeypatch):
    """Written as version 1 wrote them: no `staleness`."""
    monkeypatch.setattr(records, "SCHEMA_VERSION", 1)
    schema = TABLES["spectra"]
    monkeypatch.setitem(TABLES, "spectra", schema.remove(schema.get_field_index("staleness")))
    write_manifest(run_dir, {"status": "interrupted"})
    writer = RecordWriter(run_dir)
    writer.add("spectra", ROWS["spectra"][2][:-1])
    writer.flush()
    monkeypatch.undo()
    assert read_manifest(run_dir)["schema_version"] == 1
    assert read(run_dir, "spectra") == [(*ROWS["spectra"][2][:-1], None)]
    # And where such a run is continued.
    writer = RecordWriter(run_dir, num_parts=1)
    writer.add("spectra", ROWS["spectra"][2])
    writer.flush()
    write_manifest(run_dir, {"status": "finished"})
    assert [row[-1] for row in read(run_dir, "spectra")] == [None, 499]
