"""What a rule must not decide: too few seeds, margins and targets that are not finite."""

from __future__ import annotations

import math

import pytest

RUNS = {"experiment": "e", "case": "c", "take": "final_loss"}
A, B = {"method": "a"}, {"method": "b"}
PAIR = {"from": RUNS, "a": A, "b": B}
GONE = [1.0, math.nan]


def runs(bench, diverged=(), **more):
    """Methods a and b, equal on three seeds; `diverged` names (method, seed)."""
    methods = {m: {s: GONE if (m, s) in diverged else 1.0 for s in range(3)} for m in "ab"}
    bench.runs("e", methods, status=dict.fromkeys(diverged, "diverged"), **more)


# ---------------------------------------------------------------- diverged runs and margins


ALL_A, ALL_B = ([(m, s) for s in range(3)] for m in "ab")


@pytest.mark.parametrize("margin", [0.5, {"relative": 0.1}, {"sd": B}])
@pytest.mark.parametrize(
    ("diverged", "expected"),
    [
        (ALL_A, "not reproduced"),
        ([("a", 1)], "not reproduced"),
        (ALL_B, "not reproduced"),
        ([("b", 1)], "not reproduced"),
        ([*ALL_A, *ALL_B], "not tested"),
        ([("a", 0), ("b", 0)], "not tested"),
        ([], "reproduced"),
    ],
)
def test_equal_of_diverged_runs(bench, diverged, margin, expected):
    runs(bench, diverged)
    assert bench.verdict(equal={**PAIR, "margin": margin}).verdict == expected


def test_a_margin_that_is_not_finite_decides_nothing(bench):
    runs(bench)
    bench.runs("f", {"c": dict.fromkeys(range(3), GONE)}, status={("c", 1): "diverged"})
    others = {"experiment": "f", "method": "c"}
    for margin in ({"sd": others}, {"half_gap": [others, A]}):
        found = bench.verdict(equal={**PAIR, "margin": margin})
        assert found.verdict == "not tested" and "the margin is not finite" in found.reason


def test_throughout_of_curves_that_both_diverge(bench):
    curves = {**PAIR, "from": {**RUNS, "take": "loss_curve"}, "margin": {"relative": 0.1}}
    runs(bench)
    assert bench.verdict(throughout=curves).verdict == "reproduced"


@pytest.mark.parametrize(
    ("diverged", "expected"),
    [([("b", 0)], "not reproduced"), ([("a", 0), ("b", 0)], "not tested")],
)
def test_throughout_of_diverged_curves(bench, diverged, expected):
    curves = {**PAIR, "from": {**RUNS, "take": "loss_curve"}, "margin": {"relative": 0.1}}
    runs(bench, diverged)
    assert bench.verdict(throughout=curves).verdict == expected


@pytest.mark.parametrize("diverged", [ALL_B, [("b", 0), ("b", 1)]])
def test_a_target_of_diverged_runs_is_reached_by_none(bench, diverged):
    runs(bench, diverged)
    target = {"method": "b", "take": "final_loss"}
    keys = {**PAIR, "from": {**RUNS, "take": "steps_to", "target": target}, "at_most": 2}
    found = bench.verdict(ratio=keys)
    assert found.verdict == "not tested"
    assert "the number taken from b is not finite" in found.reason
    bound = {"from": RUNS, "a": A, "at_most": {"method": "b"}}
    assert bench.verdict(bound=bound).verdict == "not tested"


def test_one_diverged_seed_of_three_leaves_the_target_a_median(bench):
    runs(bench, [("b", 0)])
    target = {"method": "b", "take": "final_loss"}
    keys = {"from": {**RUNS, "take": "steps_to", "target": target}, "a": A, "at_most": 1}
    assert bench.verdict(bound=keys).verdict == "reproduced"


# ---------------------------------------------------------------- too few seeds, too few rows


@pytest.mark.parametrize(
    ("seeds", "train_seconds", "expected"),
    [
        (2, 100.0, "not tested"),
        (3, 100.0, "reproduced"),
        (3, 59.0, "not tested"),
        (4, 59.0, "not tested"),
        (5, 59.0, "reproduced"),
    ],
)
def test_short_runs_need_five_seeds(bench, seeds, train_seconds, expected):
    bench.runs("e", {"a": [1.0] * seeds, "b": [2.0] * seeds}, train_seconds=train_seconds)
    found = bench.verdict(better=PAIR)
    assert found.verdict == expected
    if expected == "not tested":
        assert f"too few seeds: {seeds} of a" in found.reason
        assert ("shorter than a minute" in found.reason) == (train_seconds < 60)


@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize(
    "rule",
    [
        {"better": {}},
        {"not_better": {}},
        {"equal": {"margin": 2}},
        {"ratio": {"at_most": 1}},
        {"positive": {}},
        {"order": {}},
    ],
    ids=lambda rule: next(iter(rule)),
)
def test_comparisons_of_measurements_need_three_rows(bench, rule, rows):
    for name, shift in (("m", 1.0), ("n", 2.0)):
        bench.values(name, *(shift + 0.1 * row for row in range(rows)))
    ((name, keys),) = rule.items()
    m, n = {"measurement": "m"}, {"measurement": "n"}
    sides = {"positive": {"a": m}, "order": {"quantities": [m, n]}}.get(name, {"a": m, "b": n})
    found = bench.verdict(**{name: {**sides, **keys}})
    if rows < 3:
        assert found.verdict == "not tested" and f"too few rows: {rows} of m" in found.reason
    else:
        assert found.verdict == ("not reproduced" if name == "not_better" else "reproduced")


def test_numbers_that_are_counted_need_no_three_rows(bench):
    bench.values("m", 1.0)
    assert bench.verdict(bound={"a": {"measurement": "m"}, "at_most": 1}).verdict == "reproduced"
