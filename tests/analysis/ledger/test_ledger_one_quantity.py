"""Rules on one quantity at a time, on made-up measurements with known verdicts."""

from __future__ import annotations

import math

import pytest

M = {"measurement": "m"}


@pytest.mark.parametrize(
    ("rule", "values", "expected"),
    [
        ({"near": {"a": M, "value": 2.0, "tolerance": 0.1}}, (2.05, 2.15, 2.2), "reproduced"),
        ({"near": {"a": M, "value": 2.0, "tolerance": 0.1}}, (2.2, 2.3, 2.4), "not reproduced"),
        (
            {"near": {"a": M, "value": 2.0, "tolerance": 0.1, "side_of": 1}},
            (1.2, 1.3, 1.4),
            "partly",
        ),
        (
            {"near": {"a": M, "value": 2.0, "tolerance": 0.1, "side_of": 1}},
            (0.9, 1.3, 1.4),
            "not reproduced",
        ),
        ({"near": {"a": M, "value": 2.0, "tolerance": {"relative": 0.1}}}, (2.1,), "reproduced"),
        ({"bound": {"a": M, "at_most": 1}}, (0.1, 1.0), "reproduced"),
        ({"bound": {"a": M, "at_most": 1, "partly": 2}}, (0.1, 1.5), "partly"),
        ({"bound": {"a": M, "at_most": 1}}, (0.1, 1.5), "not reproduced"),
        ({"bound": {"a": M, "at_least": 1, "partly": 0.5}}, (0.6, 1.5), "partly"),
        ({"bound": {"a": M, "at_least": 1, "at_most": 2}}, (1.0, 2.0), "reproduced"),
        ({"bound": {"a": M, "at_least": 1, "at_most": 2}}, (1.0, math.nan), "not reproduced"),
        ({"bound": {"a": M, "at_least": 1, "share": 0.5}}, (0.6, 1.5), "reproduced"),
        ({"bound": {"a": M, "at_least": 1, "share": 0.6}}, (0.6, 1.5), "not reproduced"),
        ({"bound": {"a": M, "less_than": 1}}, (0.1, 0.9), "reproduced"),
        ({"bound": {"a": M, "less_than": 1}}, (0.1, 1.0), "not reproduced"),  # a tie
        ({"bound": {"a": M, "more_than": 1, "partly": 0.9}}, (1.0, 2.0), "partly"),
        ({"bound": {"a": M, "more_than": 1, "less_than": 2}}, (1.1, 1.9), "reproduced"),
        ({"bound": {"a": M, "more_than": 1, "less_than": 2}}, (1.1, math.nan), "not reproduced"),
        ({"identity": {"a": M}}, (1e-12, -1e-10), "reproduced"),
        ({"identity": {"a": M}}, (1e-12, -1e-8), "not reproduced"),
        ({"identity": {"a": M, "tolerance": 1e-7}}, (1e-12, -1e-8), "reproduced"),
        ({"identity": {"a": M}}, (1e-12, math.nan), "not reproduced"),
        ({"count": {"a": M, "equals": 322}}, (322,), "reproduced"),
        ({"count": {"a": M, "equals": 322}}, (322, 323), "not reproduced"),
        ({"count": {"a": M, "equals": 322, "relative": 0.05}}, (330,), "reproduced"),
        ({"slope": {"a": M, "at_most": 0.27}}, (0.2, 0.25, 0.26), "reproduced"),
        ({"slope": {"a": M, "at_most": 0.27}}, (0.2, 0.25, 0.3), "partly"),
        ({"slope": {"a": M, "at_most": 0.27}}, (0.3, 0.35, 0.4), "not reproduced"),
        ({"slope": {"a": M, "less_than": 0.3}}, (0.3, 0.3, 0.3), "not reproduced"),
        ({"slope": {"a": M, "near": 2, "tolerance": 0.02}}, (2.01,), "reproduced"),
        ({"slope": {"a": M, "near": 2, "tolerance": 0.02}}, (2.05,), "not reproduced"),
        ({"mean": {"a": M, "at_least": 1}}, (1.1, 1.2, 1.3), "reproduced"),
        ({"positive": {"a": M}}, (1.0, 2.0, 3.0), "reproduced"),
        ({"positive": {"a": M}}, (-1.0, 2.0, 3.0), "partly"),
        ({"positive": {"a": M}}, (0.0, 0.0, 0.0), "not reproduced"),
        ({"fails": {"positive": {"a": M}}}, (-3.0, -2.0, -1.0), "reproduced"),
        ({"fails": {"positive": {"a": M}}}, (1.0, 2.0, 3.0), "not reproduced"),
        ({"fails": {"rule": {"positive": {"a": M}}}}, (-1.0, 2.0, 3.0), "partly"),
    ],
)
def test_rules_on_one_quantity(bench, rule, values, expected):
    bench.values("m", *values)
    assert bench.verdict(**rule).verdict == expected
    assert bench.verdict(**rule).measurements == ("m",)


@pytest.mark.parametrize(
    "rule",
    [
        {"near": {"a": M, "value": 2.0, "tolerance": 0.1}},
        {"bound": {"a": M, "at_most": 1}},
        {"within": {"parts": [{"a": M, "at_most": 1}]}},
        {"not_better": {"a": M, "b": M}},
        {"identity": {"a": M}},
        {"count": {"a": M, "equals": 1}},
        {"slope": {"a": M, "at_most": 1}},
        {"positive": {"a": M}},
        {"fails": {"positive": {"a": M}}},
        {"all": {"parts": [{"what": "one", "positive": {"a": M}}]}},
        {"most": {"parts": [{"what": "one", "positive": {"a": M}}], "at_least": 1}},
        {"ratio": {"a": M, "b": M, "at_most": 1}},
        {"equal": {"a": M, "b": M, "margin": 1}},
        {"order": {"quantities": [M, M]}},
        {"same_order": {"groups": [[M, M], [M, M]]}},
        {"correlation": {"a": [M], "b": [M]}},
        {"throughout": {"a": M, "b": M}},
        {"better": {"a": M, "b": M}},
    ],
    ids=lambda rule: next(iter(rule)),
)
def test_without_records_no_rule_is_tested(bench, rule):
    found = bench.verdict(**rule)
    assert found.verdict == "not tested" and "no records of measurement m" in found.reason
    assert found.commands == ("python -m scripts.measure m",)
    assert math.isnan(found.center) and not found.ours
