"""What `make figures` makes, draws and leaves out."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import pytest

from runners.records import SCHEMA_VERSION
from scripts import catalogue, missing
from tests.analysis.conftest import write_experiment, write_run
from tests.scripts.quiet import Quiet

REST = """
common: {scale: small}
cases: {a: {task: logistic}}
methods: {sgd: {optimizer: sgd}}
search: null
final: {seeds: [0, 1]}
"""


@pytest.fixture
def experiments(tmp_path, monkeypatch):
    """Four made-up experiments: never shipped, cheap, costly, and without a cost at scale=paper."""
    folder = tmp_path / "conf"
    folder.mkdir()
    for name, head in {
        "made_here": "cost: {small: 0.02}\nshipped: false",
        "cheap": "cost: {small: 0.03}",
        "cheap_too": "cost: {small: 0.04}",
        "costly": "cost: {small: 1.5, paper: 200}",
    }.items():
        (folder / f"{name}.yaml").write_text(f"name: {name}\n{head}\n{REST}")
    monkeypatch.setattr(catalogue, "EXPERIMENTS", folder)
    catalogue.experiment.cache_clear()
    yield catalogue.experiment_names()
    catalogue.experiment.cache_clear()


@pytest.fixture
def roots(tmp_path):
    return tmp_path / "runs", tmp_path / "results"


def finished(root, name, command=None, seconds=None, runs=(0, 1)):
    """A finished experiment of two runs, of which `runs` have records."""
    final = [("a", "sgd", seed, "logistic", "sgd", "finished") for seed in (0, 1)]
    path = write_experiment(root, name, final)
    index = json.loads(path.read_text())
    index["command"] = command or index["command"]
    for entry in index["final"]:
        entry["run_id"] = f"{name}-{entry['seed']}"
        entry["seconds"] = seconds
        if entry["seed"] in runs:
            write_run(root, "logistic", "sgd", entry["run_id"], wall_seconds=4.0)
    path.write_text(json.dumps(index))


def names(entries):
    return [entry.name for entry in entries]


def test_what_is_missing_and_cheap_is_made_and_the_rest_is_said(experiments, roots):
    work = missing.survey(experiments, [], roots)
    # .02 + .03 h fit into five minutes, .04 h more do not; what is never shipped is always made.
    assert sorted(names(work.experiments)) == ["cheap", "made_here"]
    assert work.left_out == {
        "cheap_too": "cheap_too: no records (about 2 min): python run.py experiment=cheap_too",
        "costly": "costly: no records (about 1.5 h): python run.py experiment=costly",
    }
    assert work.num_runs() == 4


def test_what_has_records_anywhere_is_not_made(experiments, roots):
    runs, results = roots
    finished(runs, "costly")
    finished(results, "cheap")
    finished(results, "made_here")
    work = missing.survey(["cheap", "costly", "made_here"], [], roots)
    assert (work.experiments, work.gaps, work.left_out) == ([], [], {})


def test_an_unfinished_experiment_goes_on(experiments, roots):
    runs, _ = roots
    write_experiment(runs, "made_here", [], status="interrupted")
    assert names(missing.survey(["made_here"], [], roots).experiments) == ["made_here"]


def test_fresh_makes_everything_again(experiments, roots):
    finished(roots[1], "costly")
    work = missing.survey(["cheap", "costly"], ["timing"], roots, "paper", fresh=True)
    assert names(work.experiments) == ["cheap", "costly"]
    assert work.measurements == ["timing"] and not work.left_out
    command = work.experiments[1].arguments("paper", fresh=True)
    assert command == ["run.py", "experiment=costly", "scale=paper", "force=true"]


def test_records_of_another_scale_are_not_those_asked_for(experiments, roots):
    finished(roots[0], "cheap", command="python run.py experiment=cheap scale=paper")
    finished(roots[1], "costly")
    assert not missing.survey(["cheap", "costly"], [], roots).left_out
    work = missing.survey(["cheap", "costly"], [], roots, scale="paper")
    assert not work.experiments
    assert work.left_out == {
        "costly": "costly: no records at scale=paper (about 200.0 h): "
        "python run.py experiment=costly scale=paper"
    }
    work = missing.survey(["cheap", "costly"], [], roots, scale="small")
    assert names(work.experiments) == ["cheap"] and not work.left_out


def test_a_scale_without_a_cost_is_left_out(experiments, roots):
    work = missing.survey(["cheap"], [], roots, scale="paper")
    assert "(unknown time)" in work.left_out["cheap"]


def test_what_is_never_shipped_is_left_out_at_a_scale_of_unknown_cost(experiments, roots):
    assert (
        "(unknown time)" in missing.survey(["made_here"], [], roots, "paper").left_out["made_here"]
    )
    assert names(missing.survey(["made_here"], [], roots, "small").experiments) == ["made_here"]


def test_what_will_take_long_is_said_beforehand(experiments, roots, calls):
    tally = Quiet()
    missing.make(missing.survey(["cheap", "costly"], [], roots, fresh=True), tally, roots)
    assert tally.lines == ["to be made (about 1.5 h on two cores): cheap, costly"]
    tally = Quiet()
    missing.make(missing.survey(["cheap"], [], roots, fresh=True), tally, roots)
    assert tally.lines == []


def test_deleted_runs_are_made_again_where_they_were_if_that_is_cheap(experiments, roots):
    finished(roots[0], "cheap", seconds=20.0, runs=[1])
    finished(roots[1], "costly", seconds=400.0, runs=[1])
    finished(roots[1], "cheap_too", runs=[1])  # an old index: the other run tells how long
    work = missing.survey(["cheap", "cheap_too", "costly"], [], roots)
    assert [(gap.name, gap.root, gap.seconds) for gap in work.gaps] == [
        ("cheap_too", roots[1], 4.0),
        ("cheap", roots[0], 20.0),
    ]
    assert [e["seed"] for e in work.gaps[1].entries] == [0]
    said = work.left_out["costly"]
    assert "lacks 1 run" in said and said.endswith("python -m scripts.restore costly")
    shutil.rmtree(roots[1] / "logistic")  # nothing tells any more but the experiment's cost
    (gap,) = missing.survey(["cheap_too"], [], roots).gaps
    assert gap.seconds == pytest.approx(0.04 * 3600)


def test_a_damaged_index_is_named_and_holds_nothing_up(experiments, roots):
    finished(roots[0], "cheap")
    (roots[0] / "experiments" / "cheap.json").write_text("{")
    work = missing.survey(["cheap", "made_here"], [], roots)
    assert names(work.experiments) == ["made_here"]
    assert "cheap.json is damaged" in work.errors[0]
    document = {"schema_version": SCHEMA_VERSION + 1, "status": "finished", "final": []}
    (roots[0] / "experiments" / "cheap.json").write_text(json.dumps(document))
    assert "has schema version" in missing.survey(["cheap"], [], roots).errors[0]


def test_exact_measurements_are_made_and_timings_are_left_out(monkeypatch, roots):
    monkeypatch.setattr(missing, "exact_measurements", lambda: {"sums", "there"})
    (roots[1] / "measurements").mkdir(parents=True)
    (roots[1] / "measurements" / "there.json").write_text("{}")
    work = missing.survey([], ["sums", "there", "clock"], roots)
    assert work.measurements == ["sums"]
    assert work.left_out == {
        "clock": "clock: a timing, on an idle machine: python -m scripts.measure clock"
    }


@pytest.fixture
def calls(monkeypatch):
    """Record the commands instead of running them; `statuses` says how each one ends."""
    log = SimpleNamespace(typed=[], statuses={})

    def call(arguments, tally, num_runs):
        log.typed.append(list(arguments))
        return log.statuses.get(arguments[1], 0)

    monkeypatch.setattr(missing, "call", call)
    return log


def test_a_failed_part_holds_up_no_other_and_is_not_forgotten(experiments, roots, calls):
    finished(roots[0], "cheap", seconds=20.0, runs=[1])
    calls.statuses["experiment=made_here"] = 1
    work = missing.survey(["cheap", "made_here"], [], roots)
    work.measurements = ["sums"]
    assert missing.make(work, Quiet(), roots) == 1
    place = str(roots[0])
    assert calls.typed == [
        ["run.py", "experiment=made_here"],
        ["-m", "scripts.restore", "cheap", "--runs", place, "--results", place],
        ["-m", "scripts.measure", "sums", "--out", place],
    ]


def test_a_stop_ends_everything(experiments, roots, calls):
    calls.statuses["experiment=made_here"] = missing.STOPPED
    work = missing.survey(["cheap", "made_here"], [], roots)
    assert missing.make(work, Quiet(), roots) == missing.STOPPED
    assert calls.typed[-1] == ["run.py", "experiment=made_here"]


def test_a_commands_counts_become_progress():
    seen = []
    tally = Quiet()
    tally.set = lambda count, note: seen.append(count)
    program = (
        "import sys; print('toy search: 2/4'); print('toy search: 4/4'); print('a line');"
        "print('toy final: 1/2'); print('toy final: 2/2'); sys.exit(3)"
    )
    assert missing.call(["-c", program], tally, 6) == 3
    assert seen == [2, 4, 5, 6]
    assert tally.lines[1:] == ["a line"]
