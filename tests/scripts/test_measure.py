"""Measurements: written, read, made by the command, and what helps to make them."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from analysis.load import MissingRecordsError, Records
from runners import measurements
from runners.records import RecordsError
from scripts import measure
from scripts.measurements import kit

ROWS = [{"case": "a", "seed": 0, "value": 1.5}, {"case": "a", "seed": 1, "value": math.inf}]


@pytest.fixture
def known(monkeypatch):
    """Two made-up measurements in place of the real ones; one of them fails."""

    def broken():
        raise RuntimeError("no such matrix")

    def threads():
        return [{"value": torch.get_num_threads(), "draw": float(torch.rand(()))}]

    found = {
        "fine": measure.Measurement("fine", "exact", lambda: ROWS),
        "broken": measure.Measurement("broken", "exact", broken),
        "threads": measure.Measurement("threads", "timed", threads),
        "long": measure.Measurement("long", "slow", lambda: ROWS),
    }
    monkeypatch.setattr(measure, "all_measurements", lambda: found)
    return found


# ---------------------------------------------------------------- records


def test_rows_and_facts_come_back(tmp_path):
    measurements.write(tmp_path, "m", "exact", ROWS, {"command": "c", "num_threads": 1})
    frame = Records([tmp_path / "none", tmp_path]).measurement("m")
    assert frame.to_dict("records") == ROWS
    assert frame.attrs["command"] == "c" and frame.attrs["kind"] == "exact"


def test_first_root_wins(tmp_path):
    for folder, value in (("mine", 1.0), ("shipped", 2.0)):
        measurements.write(tmp_path / folder, "m", "exact", [{"value": value}], {})
    frame = Records([tmp_path / "mine", tmp_path / "shipped"]).measurement("m")
    assert frame["value"].tolist() == [1.0]


def test_missing_names_the_command(tmp_path):
    with pytest.raises(MissingRecordsError, match=r"python -m scripts\.measure m$"):
        Records([tmp_path]).measurement("m")


def test_unknown_version_and_damage_are_refused(tmp_path):
    path = measurements.write(tmp_path, "m", "exact", ROWS, {})
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 99}))
    with pytest.raises(RecordsError, match="schema version 99"):
        Records([tmp_path]).measurement("m")
    path.write_text("{")
    with pytest.raises(RecordsError, match="damaged"):
        measurements.read(path)


@pytest.mark.parametrize("value", [np.float32(1), torch.tensor(1.0), [1.0], {"a": 1}])
def test_values_that_are_no_plain_scalars_are_named(tmp_path, value):
    with pytest.raises(ValueError, match="row 1: value must be a plain text"):
        measurements.write(tmp_path, "m", "exact", [*ROWS[:1], {"value": value}], {})
    with pytest.raises(ValueError, match="has no rows"):
        measurements.write(tmp_path, "m", "exact", [], {})
    with pytest.raises(ValueError, match="kind must be one of exact, timed"):
        measurements.write(tmp_path, "m", "other", ROWS, {})


# ---------------------------------------------------------------- command


def test_unknown_name_lists_all(known, tmp_path, capsys):
    assert measure.main(["fine", "nothing", "--out", str(tmp_path)]) == 2
    assert "nothing (measurements: fine, broken, threads, long)" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_one_that_fails_does_not_stop_the_others(known, tmp_path, capsys):
    assert measure.main(["--exact", "--out", str(tmp_path)]) == 1
    assert "broken: RuntimeError: no such matrix" in capsys.readouterr().err
    assert measurements.read(measurements.path_of(tmp_path, "fine"))["rows"] == ROWS


def test_what_is_slow_is_exact_and_asked_for_by_name(known, tmp_path):
    assert measure.main(["--slow", "--out", str(tmp_path)]) == 0
    assert [path.stem for path in (tmp_path / "measurements").iterdir()] == ["long"]
    assert measurements.read(measurements.path_of(tmp_path, "long"))["kind"] == "exact"


def test_facts_of_a_timed_one(known, tmp_path):
    before = torch.get_num_threads()
    state = torch.get_rng_state()
    assert measure.main(["threads", "--threads", "2", "--out", str(tmp_path)]) == 0
    document = measurements.read(measurements.path_of(tmp_path, "threads"))
    assert document["rows"][0]["value"] == document["num_threads"] == 2
    assert document["timing"] == "exclusive" and document["kind"] == "timed"
    assert set(document["load"]) == {"begin", "end", "other_cores"}
    assert document["command"] == "python -m scripts.measure threads --threads 2"
    assert {"commit", "dirty", "hardware", "packages", "started_at", "seconds"} <= set(document)
    assert torch.get_num_threads() == before and torch.equal(torch.get_rng_state(), state)
    # Torch's default generator is seeded, so what forgets a generator is still repeatable.
    again = measure.measure(known["threads"])[0]
    assert again[0]["draw"] == document["rows"][0]["draw"]


def test_real_names_are_unique_and_listed(capsys):
    assert measure.main(["--list"]) == 0
    listed = [line.split()[1] for line in capsys.readouterr().out.splitlines()]
    assert listed == sorted(measure.all_measurements())


# ---------------------------------------------------------------- kit


def test_random_spd_has_its_condition_number():
    for _, generator in kit.cases(3):
        values = torch.linalg.eigvalsh(kit.random_spd(12, 1e6, generator))
        # eigvalsh is accurate to n * eps * largest, 1e-15 beside the least eigenvalue 1e-6.
        assert float(values[-1] / values[0]) == pytest.approx(1e6, rel=1e-7)
        assert float(values[-1]) == pytest.approx(1.0)


def test_cases_are_repeatable_and_differ():
    draws = [float(kit.gaussian(1, generator=g)) for _, g in kit.cases(3)]
    assert draws == [float(kit.gaussian(1, generator=g)) for _, g in kit.cases(3)]
    assert len(set(draws)) == 3


def test_relative_error_and_slope():
    one = torch.ones(2, 2)
    assert kit.relative_error(one * 1.5, one) == pytest.approx(0.5)
    assert kit.relative_error(one, torch.zeros(2, 2)) == pytest.approx(2.0)
    assert kit.relative_error(one * math.nan, one) == math.inf
    assert kit.log_slope([1, 10, 100], [3, 300, 30000]) == pytest.approx(2.0)


def test_steps_feeds_the_gradients_given():
    start, gradients = [torch.zeros(2)], [[torch.ones(2)], [torch.full((2,), 2.0)]]
    visited = kit.steps(lambda p: torch.optim.SGD(p, lr=0.5), start, gradients)
    assert [float(step[0][0]) for step in visited] == [-0.5, -1.5]
    assert float(start[0][0]) == 0


def test_flops_of_a_product():
    a, b = torch.ones(3, 4), torch.ones(4, 5)
    assert kit.flops(lambda: a @ b) == 2 * 3 * 4 * 5


def test_turns_take_turns():
    order = []
    functions = {name: lambda name=name: order.append(name) for name in ("a", "b")}
    rows = kit.in_turns(functions, turns=2, warmup=1, calls=2, size=7)
    assert len(order) == 3 * 2 * 2
    assert [(row["case"], row["seed"]) for row in rows] == [("a", 0), ("b", 0), ("b", 1), ("a", 1)]
    assert all(row["value"] >= 0 and row["size"] == 7 for row in rows)
