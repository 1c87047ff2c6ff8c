"""The ledger at a glance: every claim counted once, by its principal reading."""

import pytest

from analysis.figures import claims_overview
from analysis.ledger import NOT_TESTED, PARTLY, REPRODUCED
from analysis.ledger.judge import Verdict
from analysis.load import Records

ABOUT = {"place": "", "claim": "", "published": None, "run": "X", "rule": "", "reading": ""}


def verdict(paper, found, scale="", headline=True):
    return Verdict(id="X01", paper=paper, headline=headline, verdict=found, scale=scale, **ABOUT)


@pytest.fixture
def counts(monkeypatch):
    verdicts = [
        verdict("GGT", REPRODUCED, "exact"),
        verdict("GGT", PARTLY, "exact", headline=False),
        verdict("GGT", REPRODUCED, "small"),
        verdict("GGT", NOT_TESTED),
        verdict("NG+", PARTLY, "paper, small"),
        verdict("NG+", PARTLY, "paper's models, two epochs"),
    ]
    monkeypatch.setattr(claims_overview, "judge_all", lambda records: verdicts)
    data = claims_overview.table(Records([]))
    return data, data.set_index(["by", "group", "verdict"])["count"]


def test_a_claim_counts_once_by_its_principal_reading(counts):
    data, count = counts
    assert count["paper", "GGT", REPRODUCED] == 2
    assert count["paper", "GGT", PARTLY] == 0
    assert count["paper", "GGT", NOT_TESTED] == 1
    assert data[data["by"] == "paper"]["count"].sum() == 5


def test_evidence_counts_those_tested_by_kind(counts):
    data, count = counts
    assert count["evidence", claims_overview.EVIDENCE["exact"], REPRODUCED] == 1
    assert count["evidence", claims_overview.EVIDENCE["small"], REPRODUCED] == 1
    assert count["evidence", claims_overview.EVIDENCE["mixed"], PARTLY] == 1
    assert count["evidence", claims_overview.EVIDENCE["models"], PARTLY] == 1
    assert data[data["by"] == "evidence"]["count"].sum() == 4


def test_every_number_is_written_into_its_bar(counts):
    data, _ = counts
    figure = claims_overview.draw(Records([]), data)
    for axes, by in zip(figure.axes, ("paper", "evidence"), strict=True):
        written = sorted(int(text.get_text()) for text in axes.texts)
        own = data[data["by"] == by]["count"]
        assert written == sorted(own[own > 0])
