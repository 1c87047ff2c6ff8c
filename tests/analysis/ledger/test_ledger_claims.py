"""Claims as they are written: read, completed, and refused by name where they do not fit."""

from __future__ import annotations

import pytest
import yaml

from analysis.ledger.claims import ANALYSIS, ClaimsError, load, read_claim

BETTER = {
    "from": {"experiment": "e", "case": "c", "take": "final_loss"},
    "a": {"method": "x"},
    "b": {"method": "y"},
}


def claim(**more) -> dict:
    whole = {
        "id": "K23", "place": "Fig. 1", "claim": "x is better", "published": None, "run": "P, S",
        "rule": "the paired difference", "judged": [{"reading": "printed", "better": BETTER}],
    }  # fmt: skip
    return {key: value for key, value in {**whole, **more}.items() if value != "absent"}


def judged(**rule) -> dict:
    return claim(judged=[rule])


def test_from_is_merged_into_each_quantity():
    entry = read_claim(claim()).judged[0]
    assert (entry.reading, entry.rule) == ("printed", "better")
    assert entry.spec["a"] == {
        "experiment": "e", "case": "c", "take": "final_loss", "method": "x",
    }  # fmt: skip
    assert "from" not in entry.spec


def test_from_reaches_targets_margins_and_derived_quantities():
    steps = {
        "from": {
            "experiment": "e", "case": "c", "take": "steps_to",
            "target": {"method": "y", "take": "final_loss"},
        },
        "a": {"method": "x"},
        "b": {"best": [{"method": "y"}, {"method": "z"}]},
        "at_most": 1,
    }  # fmt: skip
    spec = read_claim(judged(ratio=steps)).judged[0].spec
    target = {"experiment": "e", "case": "c", "take": "final_loss", "method": "y"}
    assert spec["a"]["target"] == target
    assert [part["target"] for part in spec["b"]["best"]] == [target, target]
    equal = {**BETTER, "margin": {"half_gap": [{"method": "y"}, {"method": "z"}]}}
    spec = read_claim(judged(equal=equal)).judged[0].spec
    assert spec["margin"]["half_gap"][1]["experiment"] == "e"


def test_where_of_a_measurement_is_joined():
    keys = {"from": {"measurement": "m", "where": {"case": "r<d"}}, "a": {"where": {"n": 3}}}
    spec = read_claim(judged(identity=keys)).judged[0].spec
    assert spec["a"] == {"measurement": "m", "where": {"case": "r<d", "n": 3}}


def test_numbers_as_the_configuration_writes_them(tmp_path):
    text = yaml.safe_dump([judged(identity={"a": {"measurement": "m"}, "tolerance": 0})])
    path = tmp_path / "claims.yaml"
    path.write_text(text.replace("tolerance: 0", "tolerance: 1e-9"))
    assert load(path)[0].judged[0].spec["tolerance"] == 1e-9


@pytest.mark.parametrize(
    ("written", "expected"),
    [("1e3", "1e3"), ("2.50", "2.50"), ("[1e-6, 10]", ["1e-6", 10]), ("3", 3), ("null", None)],
)
def test_published_numbers_stay_as_they_are_written(tmp_path, written, expected):
    path = tmp_path / "claims.yaml"
    text = yaml.safe_dump([claim(published="HERE")])
    path.write_text(text.replace("HERE", written))
    assert load(path)[0].published == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (judged(better=BETTER, scale="large"), "judged 1: scale must begin with"),
        (claim(rule="absent"), "K23: rule is missing"),
        (claim(rule=""), "K23: rule is empty"),
        (claim(judged="absent"), "K23: exactly one of judged and not_tested"),
        (claim(not_tested="no data"), "K23: exactly one of judged and not_tested"),
        (claim(colour="red"), "K23: unknown key 'colour'"),
        (claim(id="K60"), "K60: ids are G01-G61"),
        (claim(id="Z01"), "Z01: ids are G01-G61"),
        (claim(run="Q"), "K23: run must be letters"),
        (judged(reading="x"), "K23, judged 1: exactly one rule is needed, got none"),
        (judged(beter=BETTER), "K23, judged 1: unknown rule or key 'beter'"),
        (judged(better=BETTER, positive={}), "exactly one rule is needed, got better, positive"),
        (judged(better={**BETTER, "margin": 1}), "judged 1, better: unknown key 'margin'"),
        (judged(better={"from": BETTER["from"], "a": {"method": "x"}}), "better: b is missing"),
        (judged(better={**BETTER, "direction": "up"}), "direction must be min or max, got 'up'"),
        (
            judged(better={**BETTER, "a": {"method": "x", "take": "end"}}),
            "better, a: take must be one of .*, got 'end'",
        ),
        (
            judged(better={**BETTER, "a": {"method": "x", "at": 0.5}}),
            "better, a: unknown key 'at'",
        ),
        (
            judged(better={**BETTER, "a": {"method": "x", "take": "metric"}}),
            "better, a: metric is missing",
        ),
        (
            judged(better={**BETTER, "from": {**BETTER["from"], "metric": "accuracy"}}),
            "no quantity has a use for 'metric' of from",
        ),
        (
            judged(better={**BETTER, "from": {**BETTER["from"], "tke": "x"}}),
            "from: unknown key 'tke'",
        ),
        (judged(equal=BETTER), "equal: margin is missing"),
        (judged(equal={**BETTER, "margin": {"relativ": 1}}), "margin: unknown key 'relativ'"),
        (judged(equal={**BETTER, "margin": "wide"}), "margin: must be a number, got 'wide'"),
        (judged(ratio=BETTER), "ratio: needs at_most or less_than or at_least or more_than"),
        (judged(ratio={**BETTER, "at_most": 1, "at_least": 0}), "needs only one of"),
        (
            judged(bound={"a": {"measurement": "m"}, "at_most": 1, "less_than": 2}),
            "needs only one of",
        ),
        (judged(within={"parts": []}), "parts: must be a list of quantities with bounds"),
        (judged(within={"parts": [{"a": {"measurement": "m"}}]}), "parts 1: needs one of at_most"),
        (
            judged(within={"parts": [{"a": {"measurement": "m"}, "at_most": 1, "less_than": 2}]}),
            "parts 1: needs one of at_most",
        ),
        (judged(within={"parts": [{"a": {"measurement": "m"}, "upto": 1}]}), "key 'upto'"),
        (
            judged(bound={"a": {"measurement": "m"}, "at_most": 1, "at_least": 0, "partly": 2}),
            "partly goes with one bound",
        ),
        (judged(bound={"a": {"measurement": "m"}, "at_most": 1, "share": "most"}), "share: must"),
        (judged(all={"parts": []}), "parts must be a list of rules"),
        (judged(all={"parts": [{"what": "one"}]}), "all, part 1: exactly one rule is needed"),
        (judged(fails={"better": {}}), "fails, better: a is missing"),
        (judged(same_order={"groups": [[{"measurement": "m"}]]}), "list of two or more lists"),
        (judged(positive={"a": {"ratio": [{"measurement": "m"}]}}), "needs two quantities, got 1"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(given, message):
    with pytest.raises(ClaimsError, match=message):
        read_claim(given)


def write(path, *claims):
    path.write_text(yaml.safe_dump(list(claims)))


def test_claims_come_in_the_papers_order(tmp_path):
    path = tmp_path / "a.yaml"
    write(path, claim(id="B01"), claim(id="K23"), claim(id="G02"), claim(id="K04"))
    assert [c.id for c in load(path)] == ["G02", "K04", "K23", "B01"]


def test_a_claim_that_comes_twice_is_refused(tmp_path):
    write(tmp_path / "a.yaml", claim(), claim())
    with pytest.raises(ClaimsError, match="K23 comes twice"):
        load(tmp_path / "a.yaml")


@pytest.mark.parametrize(("text", "message"), [("a: [", "no YAML"), ("a: 1", "must be a list")])
def test_files_that_hold_no_claims(tmp_path, text, message):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(ClaimsError, match=message):
        load(path)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ClaimsError, match="holds no claims"):
        load(tmp_path / "none.yaml")


def test_the_projects_claims_are_203():
    expected = [
        f"{letter}{number:02d}"
        for letter, count in (("G", 61), ("K", 59), ("N", 46), ("B", 37))
        for number in range(1, count + 1)
    ]
    assert len(expected) == 203
    assert [c.id for c in load(ANALYSIS / "claims.yaml")] == expected
