"""How busy a machine was, from counters that are given by hand."""

from __future__ import annotations

import os

import pytest

from runners import load


class Machine:
    """Counters of a machine: time, seconds that its cores worked, seconds that this process did."""

    def __init__(self, monkeypatch):
        self.time, self.busy, self.own, self.average = 100.0, 50.0, 5.0, 0.4
        monkeypatch.setattr(load, "perf_counter", lambda: self.time)
        monkeypatch.setattr(load, "_busy_seconds", lambda: self.busy)
        monkeypatch.setattr(load, "_own_seconds", lambda: self.own)
        monkeypatch.setattr(load, "_load_average", lambda: self.average)

    def work(self, seconds: float, own: float, others: float) -> None:
        """Let time pass, with so many cores used."""
        self.time += seconds
        self.own += own * seconds
        self.busy += (own + others) * seconds


@pytest.fixture
def machine(monkeypatch):
    return Machine(monkeypatch)


def test_other_work_is_told_from_ones_own(machine):
    watch = load.LoadWatch()
    machine.work(10, own=1, others=0.25)
    machine.average = 1.1
    assert watch.facts() == {"begin": 0.4, "end": 1.1, "other_cores": 0.25}


def test_the_busier_part_of_a_resumed_run_counts(machine):
    first = load.LoadWatch()
    machine.work(10, own=1, others=0.75)
    earlier = first.facts()
    machine.average = 3.0
    second = load.LoadWatch(earlier)
    machine.work(10, own=1, others=0.0)
    assert second.facts() == {"begin": 0.4, "end": 3.0, "other_cores": 0.75}


def test_too_short_a_time_tells_nothing(machine):
    watch = load.LoadWatch()
    machine.work(0.1, own=0, others=2)
    assert watch.facts()["other_cores"] is None


@pytest.mark.parametrize(
    ("recorded", "num_threads", "expected"),
    [
        (None, 1, None),
        ({"begin": None, "end": None, "other_cores": None}, 1, None),
        ({"begin": 9.0, "end": 9.0, "other_cores": 0.1}, 1, 0.1),
        ({"begin": 0.2, "end": 1.75, "other_cores": None}, 1, 0.75),
        ({"begin": 2.5, "end": 1.0}, 1, 1.5),
        ({"begin": 0.5, "end": 1.75}, 2, 0.0),
    ],
)
def test_what_was_recorded_in_cores(recorded, num_threads, expected):
    assert load.other_cores(recorded, num_threads) == expected


def test_this_machine_is_read():
    watch = load.LoadWatch()
    facts = watch.facts()
    assert facts["begin"] == pytest.approx(os.getloadavg()[0], abs=5)
    assert facts["other_cores"] is None  # no time has passed


def test_own_work_does_not_exceed_that_of_the_machine():
    if load._busy_seconds() is None:
        pytest.skip("only Linux counts the work of all processes")
    busy, own = load._busy_seconds(), load._own_seconds()
    total = 0
    while load._own_seconds() - own < 0.2:
        total += 1
    # Both count in hundredths of a second, of each kind of work and each core.
    assert load._busy_seconds() - busy > 0.1
