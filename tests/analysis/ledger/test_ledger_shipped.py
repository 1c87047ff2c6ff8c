"""The project's own claims on the shipped records, and exact measurements made afresh."""

from __future__ import annotations

import functools

import pytest

from analysis.ledger import claims as claims_module
from analysis.ledger.judge import judge_all, named
from analysis.load import RESULTS, Records
from runners import measurements
from scripts.measure import all_measurements, measure
from tasks.data.listing import DataError

EXACT = [name for name, item in all_measurements().items() if item.kind == "exact"]

# Longer ones, such as those with several processes, are left to `scripts.measure`.
MAX_SECONDS = 5.0


@functools.cache
def claims() -> tuple[claims_module.Claim, ...]:
    return tuple(claims_module.load())


def test_no_entry_stops_the_ledger():
    verdicts = judge_all(Records([RESULTS]), claims())
    assert [v.reason for v in verdicts if v.reason.startswith("the ledger failed")] == []


def test_measurements_that_claims_name_exist():
    wanted = {
        name
        for claim in claims()
        for entry in claim.judged
        for name in named(entry.spec, "measurement")
    }
    assert sorted(wanted - set(all_measurements())) == []


def test_experiments_that_claims_name_exist():
    wanted = {
        name
        for claim in claims()
        for entry in claim.judged
        for name in named(entry.spec, "experiment")
    }
    there = {path.stem for path in (RESULTS.parent / "conf" / "experiment").glob("*.yaml")}
    assert sorted(wanted - there) == []


@pytest.mark.parametrize("name", EXACT)
def test_exact_measurements_afresh_give_the_shipped_verdicts(name, tmp_path):
    shipped = measurements.read(measurements.path_of(RESULTS, name))
    if shipped["seconds"] > MAX_SECONDS:
        pytest.skip(f"took {shipped['seconds']:.0f} s when it was shipped")
    try:
        rows, facts = measure(all_measurements()[name])
    except DataError as error:
        pytest.skip(f"a data set is not there; set KAPPA_DATA: {error}")
    assert list(map(_labels, rows)) == list(map(_labels, shipped["rows"]))
    measurements.write(tmp_path, name, "exact", rows, {**facts, "command": ""})
    mine = [c for c in claims() if any(name in named(e.spec, "measurement") for e in c.judged)]
    verdicts = [
        [(v.id, v.reading, v.verdict) for v in judge_all(Records(roots), mine)]
        for roots in ([tmp_path, RESULTS], [RESULTS])
    ]
    assert verdicts[0] == verdicts[1]


def _labels(row) -> dict:
    """What tells a row from another: its texts, counts and truth values, not its numbers.

    The column `text` holds pictures, bytes of rounded numbers that round-off may turn.
    """
    return {k: v for k, v in row.items() if not isinstance(v, float) and k != "text"}
