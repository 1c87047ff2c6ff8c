"""Figures of the papers that nothing here draws, and what `make figures` says of them."""

from __future__ import annotations

import re

import pytest

from analysis.draw import figure_names
from analysis.ledger.claims import load
from scripts import figures
from scripts.catalogue import NOT_MADE

PAPERS = {"ggt": "G", "kradagrad": "K", "ngplus": "N", "bma": "B"}


@pytest.mark.parametrize("name", NOT_MADE)
def test_one_line_says_why_and_what_brings_it(name, capsys):
    assert figures.main(["--only", f"ggt_fig2,{name}"]) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert printed.startswith(f"{name}: {NOT_MADE[name].title} is not made: ")
    assert NOT_MADE[name].why in printed and NOT_MADE[name].brings in printed


def test_what_is_drawn_is_not_among_them():
    assert sorted(set(NOT_MADE) & set(figure_names())) == []


def test_every_figure_that_a_claim_names_is_drawn_or_explained():
    """The claims' places name the papers' figures and tables, "Fig. 4a" or "Fig. 3 top"."""
    prefixes = {letter: prefix for prefix, letter in PAPERS.items()}
    known = {*figure_names(), *NOT_MADE}
    absent = set()
    for claim in load():
        for kind, number in re.findall(r"(Fig\.|Table) (\d+)", claim.place):
            name = f"{prefixes[claim.id[0]]}_{'fig' if kind == 'Fig.' else 'table'}{number}"
            if not any(re.fullmatch(rf"{name}(_.*)?", other) for other in known):
                absent.add(name)
    assert sorted(absent) == []
