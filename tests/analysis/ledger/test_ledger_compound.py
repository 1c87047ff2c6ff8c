"""Rules made of rules, and rules on many quantities, on made-up records with known verdicts."""

from __future__ import annotations

import pytest

RUNS = {"experiment": "e", "case": "c", "take": "final_loss"}
A, B = {"method": "a"}, {"method": "b"}

HOLDS, PART, NOT = ("holds", "part", "not")


def parts_of(*names):
    return [{"what": name, "positive": {"a": {"measurement": name}}} for name in names]


@pytest.fixture
def three(bench):
    bench.values("holds", 1, 2, 3)
    bench.values("part", -1, 2, 3)
    bench.values("not", -1, -2, -3)
    return bench


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ((HOLDS, HOLDS), "reproduced"),
        ((HOLDS, NOT), "partly"),
        ((NOT, PART), "partly"),
        ((NOT, NOT), "not reproduced"),
        ((HOLDS, "absent"), "not tested"),  # it may be reproduced or partly
        ((NOT, "absent"), "not tested"),
        ((HOLDS, NOT, "absent"), "partly"),  # whatever comes of the absent one
        ((PART, "absent"), "partly"),
        (("absent",), "not tested"),
    ],
)
def test_all(three, names, expected):
    found = three.verdict(all={"parts": parts_of(*names)})
    assert found.verdict == expected
    if "absent" in names:
        assert "absent: not tested" in found.detail + found.reason
    if expected == "not tested" and len(names) == 2:
        assert found.reason.startswith("1 of 2 parts tested; ")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ((HOLDS, HOLDS, NOT), "reproduced"),
        ((HOLDS, NOT, NOT), "partly"),
        ((NOT, NOT, NOT), "not reproduced"),
        ((NOT, NOT, "absent"), "not tested"),  # what is absent could make it partly
        ((HOLDS, NOT, "absent"), "not tested"),  # or reproduced
        ((HOLDS, HOLDS, "absent"), "reproduced"),
    ],
)
def test_most(three, names, expected):
    keys = {"parts": parts_of(*names), "at_least": 2, "partly": 1}
    assert three.verdict(most=keys).verdict == expected


def test_from_is_passed_down_to_the_parts(bench):
    bench.runs("e", {"a": [1.0] * 3, "b": [2.0] * 3})
    parts = [{"what": "one", "better": {"a": A, "b": B}}]
    assert bench.verdict(all={"from": RUNS, "parts": parts}).verdict == "reproduced"
    turned = {"from": RUNS, "better": {"a": B, "b": A}}
    assert bench.verdict(fails=turned).verdict == "reproduced"


@pytest.mark.parametrize(
    ("second", "expected"),
    [((1, 2, 3, 4), "reproduced"), ((1, 2, 4, 3), "partly"), ((4, 3, 2, 1), "not reproduced")],
)
def test_same_order(bench, second, expected):
    for group, values in (("x", (1, 2, 3, 4)), ("y", second)):
        bench.rows(group, [{"case": i, "value": float(v)} for i, v in enumerate(values)])
    groups = [[{"measurement": g, "where": {"case": i}} for i in range(4)] for g in "xy"]
    found = bench.verdict(same_order={"groups": groups, "partly": 0.6})
    assert found.verdict == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((1, 2, 3, 4, 5, 6), "reproduced"),
        ((1, 2, 3), "partly"),  # fewer than six tasks
        ((6, 5, 4, 3, 2, 1), "not reproduced"),
        ((1, 2), "not tested"),
    ],
)
def test_correlation(bench, values, expected):
    bench.rows("x", [{"case": i, "value": float(i)} for i in range(len(values))])
    bench.rows("y", [{"case": i, "value": float(v)} for i, v in enumerate(values)])
    a, b = ([{"measurement": m, "where": {"case": i}} for i in range(len(values))] for m in "xy")
    assert bench.verdict(correlation={"a": a, "b": b}).verdict == expected


@pytest.mark.parametrize(("there", "expected"), [(5, "not tested"), (6, "reproduced")])
def test_correlation_with_a_task_missing(bench, there, expected):
    for name in "xy":
        bench.rows(name, [{"case": i, "value": float(i)} for i in range(there)])
    a, b = ([{"measurement": m, "where": {"case": i}} for i in range(7)] for m in "xy")
    found = bench.verdict(correlation={"a": a, "b": b})
    assert found.verdict == expected
    if expected == "not tested":
        assert found.reason.startswith("5 of 7 tasks tested; measurement x has no rows")
