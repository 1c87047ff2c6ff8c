"""The matrix optimizer x task: a fixed sample of it is run, and agrees with its page."""

import hashlib
import importlib.util

import pytest
import torch
import yaml

from scripts import matrix, matrix_cells
from scripts.matrix_cells import RAN, Cell, run_cell
from scripts.matrix_page import known_cells, letters, page, read_page, requirement, table
from tests.commands import CONF
from tests.fake_sets import standing_in

TASKS, OPTIMIZERS = matrix_cells.names("task"), matrix_cells.names("optimizer")
SECONDS = 60


def rank(optimizer, task):
    """A number that nobody has chosen."""
    return hashlib.sha256(f"{optimizer} {task}".encode()).hexdigest()


def sample():
    """Every optimizer on one task, and every task that is left with one optimizer."""
    pairs = [(name, min(TASKS, key=lambda task: rank(name, task))) for name in OPTIMIZERS]
    left = [task for task in TASKS if task not in {task for _, task in pairs}]
    return pairs + [(min(OPTIMIZERS, key=lambda name: rank(name, task)), task) for task in left]


@pytest.fixture(scope="module")
def written():
    return read_page(matrix.PAGE.read_text())


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_the_sample_has_every_optimizer_and_every_task():
    pairs = sample()
    assert {name for name, _ in pairs} == set(OPTIMIZERS)
    assert {task for _, task in pairs} == set(TASKS)


def test_the_page_has_every_pair(written):
    assert set(written) == {(name, task) for name in OPTIMIZERS for task in TASKS}


@pytest.mark.parametrize(("optimizer", "task"), sample())
def test_a_pair_runs_or_is_refused_as_the_page_says(
    optimizer, task, tmp_path, written, threads, sets_dir
):
    own = yaml.safe_load((CONF / "optimizer" / f"{optimizer}.yaml").read_text())
    if importlib.util.find_spec(own["cls"]["path"].split(".")[0]) is None:
        pytest.skip("of the extra [peers]")
    cell = run_cell(optimizer, task, str(tmp_path), None, SECONDS)
    if cell.status == "no data":
        with standing_in(sets_dir):
            cell = run_cell(optimizer, task, str(tmp_path), None, SECONDS)
    mark, reason = written[optimizer, task]
    assert cell.status in (*RAN, "refused"), cell
    # Whether a rate that is tuned for no task diverges may hang on the processor.
    assert (cell.status in RAN) == (mark in ("+", "d")), cell
    assert requirement(cell.reason) == reason


CELLS = [
    Cell("adam", "barrier", "finished"),
    Cell("adam", "logistic", "diverged"),
    Cell("newton", "barrier", "refused", "number of parameters must be <= 7, got 8"),
    Cell("newton", "logistic", "refused", "number of parameters must be <= 7, got 9"),
    Cell("sgd", "barrier", "refused", "sgd is refused without `momentum`"),
    Cell("sgd", "logistic", "finished"),
]


def test_a_page_is_read_as_it_was_written():
    text = page(CELLS)
    assert read_page(text) == {
        ("adam", "barrier"): ("+", ""),
        ("adam", "logistic"): ("d", ""),
        ("newton", "barrier"): ("1", "number of parameters must be <= 7"),
        ("newton", "logistic"): ("1", "number of parameters must be <= 7"),
        ("sgd", "barrier"): ("2", "sgd is refused without `momentum`"),
        ("sgd", "logistic"): ("+", ""),
    }
    assert "3 of 6 pairs run" in text


def test_more_tasks_than_letters():
    names = [f"task{number:02}" for number in range(30)]
    statuses = ["diverged" if number % 4 == 0 else "finished" for number in range(30)]
    cells = [Cell("sgd", *pair) for pair in zip(names, statuses, strict=True)]
    marks = ["d" if status == "diverged" else "+" for status in statuses]
    text = page(cells)
    assert "z `task25`, aa `task26`, ab `task27`, ac `task28`, ad `task29`." in text
    assert read_page(text) == {
        ("sgd", name): (mark, "") for name, mark in zip(names, marks, strict=True)
    }
    said = table(cells).splitlines()
    assert said[0] == "a   task00" and said[29] == "ad  task29"
    assert said[31].split() == letters(30)
    assert said[32].split() == ["sgd", *marks]
    assert len(said[31]) == len(said[32])


def test_heads_of_columns_differ_however_many():
    heads = letters(800)
    assert len(set(heads)) == 800
    assert [heads[i] for i in (0, 25, 26, 51, 52, 701, 702)] == [
        "a", "z", "aa", "az", "ba", "zz", "aaa",
    ]  # fmt: skip


def test_the_table_names_what_failed_and_what_has_no_data():
    said = table([*CELLS[:5], Cell("sgd", "logistic", "failed", "ZeroDivisionError: by zero")])
    assert "failed: sgd on logistic: ZeroDivisionError: by zero" in said
    said = table([*CELLS[:5], Cell("sgd", "logistic", "no data", "data set x is missing")])
    assert "no data: sgd on logistic: data set x is missing" in said


def test_what_can_come_of_a_cell(tmp_path, threads, monkeypatch):
    def cell(optimizer="sgd", task="logistic", seconds=SECONDS):
        return run_cell(optimizer, task, str(tmp_path / "runs"), str(tmp_path), seconds)

    assert cell() == Cell("sgd", "logistic", "finished")
    # There already: what it was made to be.
    assert cell() == Cell("sgd", "logistic", "finished")
    assert cell("sgd", "barrier").status == "diverged"
    refused = cell("kfac")
    assert refused.status == "refused"
    assert "KFAC" in refused.reason
    missing = cell(task="ptb_lstm")
    assert missing.status == "no data"
    assert "data set ptb is missing" in missing.reason


def test_a_fault_of_ours_is_no_refusal(tmp_path, threads, monkeypatch):
    broken = "optimizer.cls.path=tests.toys.Crashing"
    outcome = matrix_cells.outcome_of

    def with_toy(overrides, workers):
        return outcome([*overrides, broken], workers)

    monkeypatch.setattr(matrix_cells, "outcome_of", with_toy)
    failed = run_cell("sgd", "quadratic", str(tmp_path), None, SECONDS)
    assert failed.status == "failed"
    assert "the toy has broken" in failed.reason


def test_a_cell_that_takes_too_long_has_failed(tmp_path, threads, monkeypatch):
    def for_ever(overrides, workers):
        while True:
            pass

    monkeypatch.setattr(matrix_cells, "outcome_of", for_ever)
    cell = run_cell("sgd", "logistic", str(tmp_path), None, 1)
    assert cell == Cell("sgd", "logistic", "failed", "not done after 1 s")


def test_the_command_prints_the_part_that_was_asked_for(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(matrix, "PAGE", tmp_path / "matrix.md")
    arguments = ["--task", "logistic", "--optimizer", "sgd", "kfac", "--workers", "1"]
    assert matrix.main(arguments) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "a  logistic"
    assert out[2:5] == ["      a", "kfac  1", "sgd   +"]
    assert out[5].startswith("1  the model must have linear layers")
    # A part of the matrix writes no page.
    assert not matrix.PAGE.exists()


def test_a_part_of_the_matrix_mends_the_page_that_has_the_rest(tmp_path, monkeypatch):
    written = matrix.PAGE.read_text()
    monkeypatch.setattr(matrix, "PAGE", tmp_path / "matrix.md")
    wrong = {("sgd", "logistic"): Cell("sgd", "logistic", "diverged")}
    matrix.PAGE.write_text(page([*(known_cells(written) | wrong).values()]))
    assert matrix.main(["--task", "logistic", "--optimizer", "sgd", "--workers", "1"]) == 0
    assert matrix.PAGE.read_text() == written


def test_a_name_that_does_not_exist_ends_the_command(capsys):
    with pytest.raises(SystemExit) as end:
        matrix.main(["--optimizer", "sdg"])
    assert end.value.code == 2
    assert "sdg" in capsys.readouterr().err
