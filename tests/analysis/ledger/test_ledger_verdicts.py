"""Every rule on made-up records with known verdicts."""

from __future__ import annotations

import math

import pytest

RUNS = {"experiment": "e", "case": "c", "take": "final_loss"}
A, B = {"method": "a"}, {"method": "b"}


def pair(**more):
    return {"from": RUNS, "a": A, "b": B, **more}


# ---------------------------------------------------------------- two methods, paired by seed


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([1.0, 2.0, 3.0], [1.5, 2.5, 3.5], "reproduced"),
        ([1.0, 2.0, 3.0], [2.0, 3.0, 2.5], "partly"),
        ([1.0, 2.0, 3.0], [0.5, 1.5, 2.5], "not reproduced"),
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], "not reproduced"),  # a tie is not better
        ([1.0, 2.0], [1.5, 2.5], "not tested"),
    ],
)
def test_better(bench, a, b, expected):
    bench.runs("e", {"a": a, "b": b})
    assert bench.verdict(better=pair()).verdict == expected


def test_better_is_paired_by_seed_and_not_by_place(bench):
    # Unpaired, the spread between the seeds hides the difference of .1.
    bench.runs("e", {"a": {0: 1.0, 1: 5.0, 2: 9.0}, "b": {2: 9.1, 0: 1.1, 1: 5.1}})
    found = bench.verdict(better=pair())
    assert found.verdict == "reproduced"
    assert found.center == pytest.approx(0.1) and found.low == pytest.approx(0.1)
    assert found.num_runs == 6 and found.n == 3


def test_better_uses_the_seeds_that_both_have(bench):
    bench.runs("e", {"a": [1.0, 1.0, 1.0, 9.0], "b": [2.0, 2.0, 2.0]})
    found = bench.verdict(better=pair())
    assert found.verdict == "reproduced" and found.n == 3


def test_better_says_how_clear_the_contrary_is(bench):
    bench.runs("e", {"a": [2.0, 3.0, 4.0], "b": [1.0, 2.0, 3.0]})
    assert bench.verdict(better=pair()).strong
    bench.runs("f", {"a": [2.0, 3.0, 4.0], "b": [1.0, 2.0, 4.5]})
    assert not bench.verdict(better={**pair(), "from": {**RUNS, "experiment": "f"}}).strong


def test_better_of_an_accuracy(bench):
    def evals(value):
        return [(100, 1.0, "test", "accuracy", value, 10.0)]

    for name, value in (("more", 0.9), ("less", 0.8)):
        bench.runs(name, {name: [1.0, 1.0, 1.0]}, evals=evals(value))
    keys = {"case": "c", "take": "metric", "metric": "accuracy", "split": "test"}
    more, less = ({"experiment": name, "method": name} for name in ("more", "less"))
    assert bench.verdict(better={"from": keys, "a": more, "b": less}).verdict == "reproduced"
    turned = {"from": keys, "a": more, "b": less, "direction": "min"}
    assert bench.verdict(better=turned).verdict == "not reproduced"


def test_a_diverged_run_is_worse_than_any_number(bench):
    status = {("b", 1): "diverged"}
    bench.runs(
        "e", {"a": [1.0, 1.0, 1.0], "b": {0: 2.0, 1: [2.0, math.nan], 2: 2.0}}, status=status
    )
    found = bench.verdict(better=pair())
    assert found.verdict == "reproduced"
    assert found.remarks == ("b (e, c): seed 1 diverged",)
    turned = bench.verdict(better={"from": RUNS, "a": B, "b": A})
    assert turned.verdict == "not reproduced"


def test_runs_that_all_diverge_are_a_tie(bench):
    status = {(m, s): "diverged" for m in "ab" for s in range(3)}
    bench.runs("e", {m: {s: [1.0, math.nan] for s in range(3)} for m in "ab"}, status=status)
    assert bench.verdict(better=pair()).verdict == "not reproduced"


@pytest.mark.parametrize(
    ("b", "margin", "expected"),
    [
        ([1.1, 2.1, 3.1], 0.2, "reproduced"),
        ([1.1, 2.3, 3.1], 0.2, "partly"),
        ([1.5, 2.5, 3.5], 0.2, "not reproduced"),
        ([1.1, 2.1, 3.1], {"relative": 0.1}, "reproduced"),  # .21 of the median 2.1
        ([1.1, 2.1, 3.1], {"relative": 0.01}, "not reproduced"),
    ],
)
def test_equal(bench, b, margin, expected):
    bench.runs("e", {"a": [1.0, 2.0, 3.0], "b": b})
    assert bench.verdict(equal=pair(margin=margin)).verdict == expected


def test_equal_by_half_the_gap_of_others(bench):
    methods = {"a": [1.0] * 3, "b": [1.4] * 3, "best": [2.0] * 3, "worst": [3.0] * 3}
    bench.runs("e", methods)
    gap = [{"method": "worst"}, {"method": "best"}]
    found = bench.verdict(equal=pair(margin={"half_gap": gap}))
    assert found.verdict == "reproduced" and "margin 0.5" in found.detail
    assert found.num_runs == 12


def test_equal_by_the_spread_over_seeds(bench):
    bench.runs("e", {"a": [1.0, 2.0, 3.0], "b": [1.9, 2.9, 3.9]})
    assert bench.verdict(equal=pair(margin={"sd": B})).verdict == "reproduced"  # s.d. 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((1.0, 2.0, 3.0), "reproduced"),
        ((1.0, 3.0, 2.0), "partly"),
        ((3.0, 2.0, 1.0), "not reproduced"),
    ],
)
def test_order(bench, values, expected):
    bench.runs("e", {m: [v, v, v] for m, v in zip("abc", values, strict=True)})
    quantities = [{"method": m} for m in "abc"]
    found = bench.verdict(order={"from": RUNS, "quantities": quantities})
    assert found.verdict == expected
    assert "a before b" in found.detail and "b before c" in found.detail


def ramp(slope: float) -> list[float]:
    return [10 - slope * i / 100 for i in range(100)]


@pytest.mark.parametrize(
    ("a", "expected"),
    [
        (ramp(3), "reproduced"),
        # Ahead in the first 70 of 100 steps only.
        ([9.9 - 0.02 * i if i < 70 else 20.0 for i in range(100)], "partly"),
        ([20.0] * 100, "not reproduced"),
    ],
)
def test_throughout(bench, a, expected):
    bench.runs("e", {"a": dict.fromkeys(range(3), a), "b": {s: ramp(1) for s in range(3)}})
    keys = {"from": {**RUNS, "take": "loss_curve"}, "a": A, "b": B}
    assert bench.verdict(throughout=keys).verdict == expected


def test_throughout_equal(bench):
    bench.runs("e", {"a": {s: ramp(1) for s in range(3)}, "b": {s: ramp(1.05) for s in range(3)}})
    keys = {"from": {**RUNS, "take": "loss_curve"}, "a": A, "b": B}
    assert bench.verdict(throughout={**keys, "margin": 0.06}).verdict == "reproduced"
    assert bench.verdict(throughout={**keys, "margin": {"relative": 1e-4}}).verdict != "reproduced"
    assert bench.verdict(throughout={**keys, "from": RUNS}).verdict == "not tested"


# ---------------------------------------------------------------- ratios, with censoring


@pytest.mark.parametrize(
    ("a", "bounds", "expected"),
    [
        ([1.0, 1.1, 1.2], {"at_most": 0.65}, "reproduced"),
        ([1.0, 1.1, 1.6], {"at_most": 0.65}, "partly"),  # the ratio of medians keeps it
        ([1.0, 1.1, 1.6], {"at_most": 0.65, "partly": 0.7}, "not reproduced"),
        ([1.0, 1.1, 1.6], {"at_most": 0.65, "partly": 0.9}, "partly"),
        ([3.0, 3.1, 3.2], {"at_most": 0.65}, "not reproduced"),
        ([3.0, 3.1, 3.2], {"at_least": 1.4}, "reproduced"),
        ([3.0, 3.1, 3.2], {"at_least": 1.6, "partly": 1.2}, "partly"),
    ],
)
def test_ratio(bench, a, bounds, expected):
    bench.runs("e", {"a": a, "b": [2.0, 2.0, 2.0]})
    assert bench.verdict(ratio=pair(**bounds)).verdict == expected


def test_ratio_of_steps_to_a_target(bench):
    reached, never = ramp(8), ramp(0.1)
    bench.runs("e", {"a": dict.fromkeys(range(3), reached), "b": dict.fromkeys(range(3), never)})
    keys = {"from": {**RUNS, "take": "steps_to", "target": 5.0}, "a": A, "b": B, "at_most": 1}
    assert bench.verdict(ratio=keys).verdict == "reproduced"  # b is censored: the ratio is 0
    turned = {**keys, "a": B, "b": A}
    assert bench.verdict(ratio=turned).verdict == "not reproduced"
    neither = {**keys, "from": {**keys["from"], "target": 1.0}}
    found = bench.verdict(ratio=neither)
    assert found.verdict == "not tested" and "neither side reaches" in found.reason


def test_target_from_another_method(bench):
    bench.runs("e", {"a": {s: ramp(8) for s in range(3)}, "b": {s: ramp(4) for s in range(3)}})
    target = {"method": "b", "take": "loss_at", "step": 100}
    keys = {"from": {**RUNS, "take": "steps_to", "target": target}, "a": A, "b": B, "at_most": 0.55}
    found = bench.verdict(ratio=keys)
    assert found.verdict == "reproduced" and found.center == pytest.approx(0.5, abs=0.02)
