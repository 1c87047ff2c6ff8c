"""Not ahead, strict bounds, and bounds kept together, on made-up runs with known verdicts."""

from __future__ import annotations

import math

import pytest

RUNS = {"experiment": "e", "case": "c", "take": "final_loss"}
PAIR = {"from": RUNS, "a": {"method": "a"}, "b": {"method": "b"}}


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([1.0, 2.0, 3.0], [1.5, 2.5, 3.5], "not reproduced"),  # a is ahead on every seed
        ([1.0, 2.0, 3.0], [2.0, 3.0, 2.5], "reproduced"),  # on two of three: not told apart
        ([1.0, 2.0, 3.0], [0.5, 1.5, 2.5], "reproduced"),
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], "reproduced"),  # a tie
    ],
)
def test_not_better(bench, a, b, expected):
    bench.runs("e", {"a": a, "b": b})
    found = bench.verdict(not_better=PAIR)
    assert found.verdict == expected
    assert found.strong == (expected == "not reproduced")


def test_not_better_has_no_verdict_where_all_runs_diverged(bench):
    status = {(m, s): "diverged" for m in "ab" for s in range(3)}
    bench.runs("e", {m: {s: [1.0, math.nan] for s in range(3)} for m in "ab"}, status=status)
    found = bench.verdict(not_better=PAIR)
    assert found.verdict == "not tested" and "all runs of both diverged" in found.reason


@pytest.mark.parametrize(("b", "expected"), [(2.0, "reproduced"), (1.0, "not reproduced")])
def test_a_tie_is_not_less(bench, b, expected):
    bench.runs("e", {"a": [1.0] * 3, "b": [b] * 3})
    found = bench.verdict(ratio={**PAIR, "less_than": 1})
    assert found.verdict == expected and found.detail.startswith("less than 1; ")
    assert bench.verdict(ratio={**PAIR, "at_most": 1}).verdict == "reproduced"


# Greatest and least losses: 0.9 and 0.6, 0.8 and 0.1, 2 and 0.7.
LOSSES = {0: [0.9] + [0.6] * 99, 1: [0.8] + [0.1] * 99, 2: [0.7] * 50 + [2.0] + [0.7] * 49}


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ({"share": 0.3}, "reproduced"),
        ({"share": 0.5}, "not reproduced"),  # each bound is kept by two of three, both by one
        ({"share": 0.5, "partly": 0.3}, "partly"),
        ({}, "not reproduced"),
    ],
)
def test_within_counts_the_instances_that_keep_all_bounds(bench, shares, expected):
    bench.runs("e", {"a": LOSSES})
    parts = [
        {"a": {"take": "greatest_loss"}, "at_most": 1.0},
        {"a": {"take": "least_loss"}, "at_least": 0.5, "less_than": 0.8},
    ]
    keys = {"from": {"experiment": "e", "case": "c", "method": "a"}, "parts": parts, **shares}
    found = bench.verdict(within=keys)
    assert found.verdict == expected
    assert found.ours == "1 of 3 within the bounds" and found.n == 3
    assert "greatest loss at most 1 in 2" in found.detail


def test_within_pairs_by_instance_and_a_diverged_one_is_outside(bench):
    bench.rows("m", [{"seed": s, "value": v} for s, v in ((0, 1.0), (1, 2.0), (2, math.nan))])
    bench.rows("n", [{"seed": s, "value": v} for s, v in ((2, 1.0), (1, 1.0), (0, 9.0))])
    parts = [
        {"a": {"measurement": "m"}, "at_most": 3},
        {"a": {"measurement": "n"}, "at_most": 3},
    ]
    found = bench.verdict(within={"parts": parts, "share": 0.3})
    assert found.verdict == "reproduced" and found.center == 1  # row 1 alone
