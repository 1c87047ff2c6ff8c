"""REPRODUCTION.md and the command that writes it, from made-up records."""

from __future__ import annotations

import json

import pytest
import yaml

from analysis.ledger.__main__ import main
from analysis.ledger.claims import read_claim
from analysis.ledger.judge import Judged, judge_all
from analysis.ledger.page import page, summary_rows
from analysis.ledger.rules import shown
from analysis.load import Records

FROM = {"experiment": "e", "case": "c", "take": "final_loss"}
A, B = {"method": "a"}, {"method": "b"}


def claim(identity: str, *judged: dict, **more) -> dict:
    entry = {
        "id": identity, "place": "Fig. 1", "claim": f"what {identity} says", "published": None,
        "run": "X", "rule": f"how {identity} is decided", **more,
    }  # fmt: skip
    return {**entry, "judged": list(judged)} if judged else entry


@pytest.fixture
def written(bench):
    """Claims of two papers with every verdict, and the records they are judged from."""
    bench.runs("e", {"a": [1.0, 2.0, 3.0], "b": [2.0, 3.0, 4.0], "c": [1.5, 2.5, 2.0]})
    bench.values("m", 1e-12, 3e-13)
    return [
        claim("G01", {"better": {"from": FROM, "a": A, "b": B}}, published="1 | 2"),
        claim(
            "G02",
            {"reading": "printed", "better": {"from": FROM, "a": B, "b": A}, "note": "See m."},
            {"reading": "corrected", "identity": {"a": {"measurement": "m"}}},
            note="A longer story",
        ),
        claim("K01", {"better": {"from": FROM, "a": {"method": "c"}, "b": B}}),
        claim("K02", {"identity": {"a": {"measurement": "absent"}}}),
        claim("K03", not_tested="needs data that nobody has"),
    ]


def verdicts_of(bench, claims):
    return judge_all(Records([bench.root]), [read_claim(entry) for entry in claims])


def test_summary_counts_the_headlines(bench, written):
    rows = summary_rows(verdicts_of(bench, written))
    assert rows == [
        ["paper", "claims", "reproduced", "partly", "not reproduced", "not tested"],
        ["GGT", "2", "1", "0", "1", "0"],
        ["KrADagrad", "3", "1", "0", "0", "2"],
        ["all", "5", "2", "0", "1", "2"],
    ]


def test_every_entry_has_its_row(bench, written):
    lines = page(verdicts_of(bench, written)).splitlines()
    assert any(
        line.startswith("| G01 | what G01 says (Fig. 1) | 1 \\| 2 | difference 1 | 3 (6 runs) |")
        and line.endswith("| reproduced |")
        for line in lines
    )
    assert any("| printed | not reproduced (clearly) |" in line for line in lines)
    # The second entry of a claim does not repeat it.
    (second,) = [line for line in lines if "| corrected | reproduced |" in line]
    assert second.startswith("|  |  |  | largest error 1e-12 | 2 | exact |")


def test_contradictions_come_from_verdicts_and_notes(bench, written):
    text = page(verdicts_of(bench, written))
    part = text[text.index("## Where our runs contradict") : text.index("## Not tested")]
    assert part.count("- **") == 1
    assert "**G02** (GGT, Fig. 1, printed): what G02 says." in part
    assert "difference -1 (n = 3;" in part and "A longer story. See m." in part


def test_the_papers_models_are_filed_by_themselves(bench):
    bench.runs("e", {"a": [1.0, 2.0, 3.0], "b": [2.0, 3.0, 4.0]})
    rule = {"better": {"from": FROM, "a": B, "b": A}}
    own = claim("B19", {**rule, "scale": "paper's models, two epochs"})
    text = page(verdicts_of(bench, [own, claim("B20", rule)]))
    assert "| paper's models, two epochs, quadratic |" in text
    part = text[text.index("## Where our runs contradict") :]
    first, second = (
        part.index("tuned and timed as we chose:"),
        part.index("At a smaller"),
    )
    assert first < part.index("**B19**") < second < part.index("**B20**")


@pytest.mark.parametrize("rule", ["least validation loss", ""])
def test_the_evidence_names_the_split_and_metric_of_the_choice(bench, rule):
    bench.runs("e", {"a": [1.0] * 3, "b": [2.0] * 3})
    path = bench.root / "experiments" / "e.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "rule": rule}))
    (found,) = verdicts_of(bench, [claim("G01", {"better": {"from": FROM, "a": A, "b": B}})])
    assert found.chosen_by == ((f"{rule} (e)",) if rule else ())
    assert ("Settings chosen by least validation loss (e)." in page([found])) == bool(rule)


def test_not_tested_says_why_and_the_command(bench, written):
    text = page(verdicts_of(bench, written))
    part = text[text.index("## Not tested") :]
    assert "needs data that nobody has" in part
    assert "`python -m scripts.measure absent`" in part


def test_page_without_contradiction_or_gap_says_so(bench):
    bench.values("m", 0.0)
    text = page(verdicts_of(bench, [claim("B01", {"identity": {"a": {"measurement": "m"}}})]))
    assert "Nowhere." in text and "Nothing." in text and "## GGT" not in text


def test_same_records_same_page(bench, written):
    assert page(verdicts_of(bench, written)) == page(verdicts_of(bench, written))


def test_a_failure_within_one_entry_stops_no_other(bench, written):
    claims = [read_claim(entry) for entry in written]
    broken = Judged("", "identity", {"a": None})
    object.__setattr__(claims[0], "judged", (broken,))
    found = judge_all(Records([bench.root]), claims)
    assert found[0].verdict == "not tested"
    assert found[0].reason.startswith("the ledger failed: TypeError")
    assert found[1].verdict == "not reproduced"


# ---------------------------------------------------------------- command


@pytest.fixture
def command(bench, written, tmp_path):
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump(written))
    return ["--claims", str(path), "--runs", str(bench.root), "--results", str(tmp_path / "none")]


def test_command_writes_page_and_json(command, tmp_path, capsys):
    out, data = tmp_path / "out" / "R.md", tmp_path / "ledger.json"
    assert main([*command, "--out", str(out), "--json", str(data)]) == 0
    assert "6 entries of 5 claims" in capsys.readouterr().out
    assert out.read_text().startswith("# What reproduces")
    verdicts = json.loads(data.read_text())
    assert verdicts[0]["ours"] == "difference 1" and verdicts[0]["low"] == 1.0
    assert verdicts[-1]["center"] is None


def test_command_prints_single_claims(command, capsys):
    assert main([*command, "--only", "G02"]) == 0
    printed = capsys.readouterr().out
    assert "G02 (printed): not reproduced | difference -1" in printed and "G01" not in printed
    assert main([*command, "--only", "N01"]) == 2
    assert "no claim is called N01" in capsys.readouterr().err


def test_command_names_a_claim_without_a_rule(command, tmp_path, capsys):
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump([claim("G01", {"reading": "printed"})]))
    assert main(command) == 2
    assert "claim G01, judged 1: exactly one rule is needed" in capsys.readouterr().err


def test_numbers_are_told_briefly_and_counts_exactly():
    nan = float("nan")
    assert shown("count", 2_923_162, nan, nan) == "count 2,923,162"
    assert shown("ratio", 1.23456, 1.0, float("inf")) == "ratio 1.23 [1, inf]"
    assert shown("parts", nan, nan, nan) == "parts"
