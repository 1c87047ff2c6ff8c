"""What the ledger must not put together, and what it says of records that are missing."""

from __future__ import annotations

import json
import shutil

import pytest

from analysis.ledger.quantities import evaluate
from analysis.ledger.sources import Sources
from analysis.load import Records
from runners.records import RecordsError


def spec(take: str, method: str = "a", **more) -> dict:
    return {"experiment": "e", "case": "c", "method": method, "take": take, **more}


def test_mixed_numerics_versions_are_named(bench):
    bench.runs("e", {"a": [1.0] * 3}, numerics_versions={"task": 1, "runner": 1, "optimizer": 1})
    bench.runs("f", {"b": [2.0] * 3}, numerics_versions={"task": 2, "runner": 1, "optimizer": 1})
    rule = {
        "from": {"case": "c", "take": "final_loss"},
        "a": {"experiment": "e", "method": "a"},
        "b": {"experiment": "f", "method": "b"},
    }
    found = bench.verdict(better=rule)
    assert found.verdict == "not tested"
    assert "the numerics version of quadratic is 1 in run e-" in found.reason
    assert "and 2 in run f-" in found.reason


def test_a_changed_schema_is_not_tested_but_named(bench):
    bench.runs("e", {"a": [1.0] * 3})
    manifest = next(bench.root.glob("quadratic/a/*/manifest.json"))
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "schema_version": 99}))
    found = bench.verdict(positive={"a": spec("final_loss")})
    assert found.verdict == "not tested" and "schema version 99" in found.reason


SECONDS = {"a": spec("step_seconds", "a"), "b": spec("step_seconds", "b"), "at_most": 2}


def test_seconds_of_exclusive_runs_are_compared(bench):
    bench.runs("e", {"a": [1.0] * 3, "b": [1.0] * 3})
    assert bench.verdict(ratio=SECONDS).verdict == "reproduced"


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"timing": "shared"}, "not all were made with timing=exclusive"),
        ({"num_threads": 2}, "machine f0, 1 threads; machine f0, 2 threads"),
        ({"hardware": {"fingerprint": "f1"}}, "machine f0, 1 threads; machine f1, 1 threads"),
    ],
)
def test_seconds_that_cannot_be_compared(bench, second, message):
    bench.runs("e", {"a": [1.0] * 3})
    bench.runs("f", {"b": [1.0] * 3}, **second)
    rule = {**SECONDS, "b": {**SECONDS["b"], "experiment": "f"}}
    found = bench.verdict(ratio=rule)
    assert found.verdict == "not tested" and "not comparable" in found.reason
    assert message in found.reason
    curves = {
        "a": spec("loss_curve", x="seconds"),
        "b": {**spec("loss_curve", "b", x="seconds"), "experiment": "f"},
    }
    assert message in bench.verdict(throughout=curves).reason
    losses = {**rule, "a": spec("final_loss"), "b": {**spec("final_loss", "b"), "experiment": "f"}}
    assert bench.verdict(ratio=losses).verdict == "reproduced"  # losses compare all the same


BUSY = {"begin": 1.0, "end": 1.0, "other_cores": 0.6}
ALONE = {**BUSY, "other_cores": 0.4}


@pytest.mark.parametrize("load", [BUSY, {"begin": 0.1, "end": 1.6, "other_cores": None}])
def test_seconds_beside_other_work_are_refused(bench, load):
    bench.runs("e", {"a": [1.0] * 3}, load=ALONE)
    bench.runs("f", {"b": [1.0] * 3}, load=load)
    rule = {**SECONDS, "b": {**SECONDS["b"], "experiment": "f"}}
    found = bench.verdict(ratio=rule)
    assert found.verdict == "not tested"
    assert "other processes used 0.6 cores beside run f-c-b-0" in found.reason
    losses = {**rule, "a": spec("final_loss"), "b": {**spec("final_loss", "b"), "experiment": "f"}}
    assert bench.verdict(ratio=losses).verdict == "reproduced"


def test_seconds_of_which_nothing_is_known_beside_are_remarked_on(bench):
    bench.runs("e", {"a": [1.0] * 3}, load=ALONE)
    bench.runs("f", {"b": [1.0] * 3})
    rule = {**SECONDS, "b": {**SECONDS["b"], "experiment": "f"}}
    found = bench.verdict(ratio=rule)
    assert found.verdict == "reproduced"
    told = "what else the machine did was not recorded with these seconds"
    assert found.remarks == (f"f: {told}",)


@pytest.mark.parametrize(("load", "expected"), [(ALONE, "reproduced"), (BUSY, "not tested")])
def test_timed_measurements_need_the_machine(bench, load, expected):
    rows = [{"seed": seed, "value": 1.0} for seed in range(3)]
    bench.rows("t", rows, kind="timed", timing="exclusive", load=load)
    found = bench.verdict(bound={"a": {"measurement": "t"}, "at_most": 1})
    assert found.verdict == expected
    if load is BUSY:
        assert "beside measurement t" in found.reason


@pytest.mark.parametrize(
    ("timing", "expected"), [("exclusive", "reproduced"), (None, "not tested")]
)
def test_timed_measurements_must_be_exclusive(bench, timing, expected):
    rows = [
        {"case": c, "seed": s, "value": v} for c, v in (("a", 1.0), ("b", 2.0)) for s in (0, 1, 2)
    ]
    bench.rows("t", rows, kind="timed", timing=timing)
    a, b = ({"measurement": "t", "where": {"case": case}} for case in "ab")
    assert bench.verdict(ratio={"a": a, "b": b, "at_most": 1}).verdict == expected


# ---------------------------------------------------------------- what is missing


def test_what_is_missing_is_said(bench):
    bench.runs("e", {"a": [1.0] * 3, "b": [2.0] * 3}, status={("a", 1): "failed"})
    found = bench.verdict(positive={"a": spec("final_loss", "nothing")})
    assert "experiment e has no method nothing in case c" in found.reason
    few = bench.verdict(positive={"a": spec("final_loss")})
    assert few.verdict == "not tested" and "too few seeds: 2 of a" in few.reason
    absent = bench.verdict(positive={"a": {**spec("final_loss"), "experiment": "none"}})
    assert "no records of experiment none" in absent.reason
    assert absent.commands == ("python run.py experiment=none",)


def test_the_command_names_the_declared_cost(bench):
    absent = bench.verdict(positive={"a": {**spec("final_loss"), "experiment": "ggt_fig3_bottom"}})
    (command,) = absent.commands
    assert command == "python run.py experiment=ggt_fig3_bottom (1 h at scale=small, on 2 cores)"


def test_an_absent_run_is_a_remark(bench):
    bench.runs("e", {"a": [1.0] * 4, "b": [2.0] * 4})
    shutil.rmtree(bench.root / "quadratic" / "a" / "e-c-a-2")
    rule = {"a": spec("final_loss"), "b": spec("final_loss", "b")}
    found = bench.verdict(better=rule)
    assert found.verdict == "reproduced" and found.n == 3
    assert "a (e, c): the run of seed 2 is absent" in found.remarks
    assert found.commands == ("python -m scripts.restore e",)


def test_mixed_versions_within_an_experiment_are_refused(bench):
    bench.runs("e", {"a": [1.0] * 3}, numerics_versions={"task": 1})
    manifest = next(bench.root.glob("quadratic/a/*/manifest.json"))
    document = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**document, "numerics_versions": {"task": 2}}))
    with pytest.raises(RecordsError, match=r"numerics_versions\.task"):
        evaluate(spec("final_loss"), Sources(Records([bench.root])))
