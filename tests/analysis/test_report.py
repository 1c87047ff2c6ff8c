"""What the report is made of: numbers from records, pictures and tables as HTML."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest

from analysis.load import Records
from analysis.report import charts, overall, searches
from analysis.report.blocks import block, measurement
from analysis.report.claims import ledger
from analysis.report.markup import Raw, join, number, seconds, size, table, tag
from analysis.report.page import gather, page, users_of
from analysis.report.pictures import inline, picture
from runners import measurements
from tests.analysis.report_page import VERDICT


@pytest.fixture
def records(tmp_path):
    return Records([tmp_path])


def test_text_is_escaped_and_made_html_is_not_again():
    made = tag("p", "a < b & c", title='say "it"', hidden=True, class_=None)
    assert made == '<p title="say &quot;it&quot;" hidden>a &lt; b &amp; c</p>'
    assert tag("b", made).count("<p ") == 1
    assert join(["", None, Raw("<i></i>"), "<"], "") == "<i></i>&lt;"
    assert "<td>&lt;script&gt;</td>" in table(["x"], [["<script>"]])


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (number(math.nan), "–"), (number(math.inf), "∞"), (number(-0.5), "−0.5"), (number(3), "3"),
        (seconds(2e-5), "20 µs"), (seconds(0.25), "250 ms"), (seconds(90.0), "90 s"),
        (seconds(600.0), "10 min"), (seconds(9000.0), "2.5 h"), (seconds(math.nan), "–"),
        (size(512), "512 B"), (size(3 * 2**20), "3 MiB"), (size(math.nan), "–"),
    ],
)  # fmt: skip
def test_numbers_in_words(made, expected):
    assert made == expected


def test_a_chart_shows_what_is_finite_and_scales_by_itself():
    line = charts.Line("one", [1e-3, 1e-2, 1e-1], [1.0, math.inf, 3.0], mark=(1e-3, 1.0))
    svg = charts.chart([line], "lr", "score", "title")
    assert svg.count('r="1.8"') == 2 and svg.count('class="mark"') == 1
    assert "0.001" in svg and svg.count("M") >= 2  # the gap starts a new stroke
    assert charts.chart([charts.Line("none", [1.0], [math.nan])], "x", "y") == ""


def test_a_chart_shows_what_is_far_off_or_infinite_at_its_edge():
    line = charts.Line("one", [1.0, 2.0, 3.0, 4.0], [1.0, 4.0, 1e40, math.inf])
    svg = charts.chart([line], "lr", "score", "title", most=5.0)
    hollow = re.findall(r'<circle cx="[^"]+" cy="([^"]+)" r="2.6" class="hollow">', svg)
    assert len(hollow) == 2 and len(set(hollow)) == 1
    assert svg.count('r="1.8"') == 2 and "e40" not in svg


@pytest.mark.parametrize(
    ("scores", "edge"),
    [
        ([1.0, 2.0, 5.0], math.inf),  # all of it is shown
        ([1.0, 2.0, math.inf], 2.2),  # just above what is finite
        ([1.0, 2.0, 1e40], 100.0),
        ([-1.0, 1e40, math.inf], 1.2e40),  # a score below 0 is no measure of what is far
        ([math.inf, math.inf], math.inf),
    ],
)
def test_where_a_chart_of_scores_ends(scores, edge):
    tuning = searches.Tuning("sgd", "lr", list(range(len(scores))), scores, [], None, False)
    assert searches._most([tuning]) == pytest.approx(edge)


def test_axes_have_few_round_ticks():
    for low, high in ((0.0, 1.0), (3.0, 3.0), (-2.0, 5e4), (1.1, 1.3)):
        ticks = charts.axis([low, high], 0, 100).ticks()
        assert 2 <= len(ticks) <= 7
    assert charts.axis([1e-4, 1e2], 0, 100).ticks() == pytest.approx([1e-4, 1e-2, 1.0, 1e2])


def test_pictures_can_stand_side_by_side(make, tmp_path):
    make.ptb(tmp_path)
    texts = [picture(n, [tmp_path]).svg for n in ("ggt_fig3_bottom", "ggt_fig4_bottom")]
    ids = [re.findall(r'\sid="([^"]+)"', text) for text in texts]
    assert ids[0] and not set(ids[0]) & set(ids[1])
    for text, own in zip(texts, ids, strict=True):
        assert set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', text)) <= {
            pair for i in own for pair in ((i, ""), ("", i))
        }
        assert "<metadata" not in text and "<style" not in text and text.startswith("<svg")
        assert not re.search(r'd="[^"]*\d\.\d{3}', text)


def test_only_coordinates_lose_digits():
    path = '<path d="M 1.23456 2" transform="scale(0.015625)"/>'
    svg = f'<svg width="9pt" viewBox="0 0 1 1">{path}</svg>'
    made = inline(svg, "p", "<title>")
    assert 'd="M 1.23 2"' in made and "scale(0.015625)" in made
    assert 'aria-label="&lt;title&gt;"' in made and "9pt" not in made


def test_the_page_says_what_is_missing(make, tmp_path):
    make.ptb(tmp_path)
    users = users_of(["ggt_fig2", "ggt_fig3_bottom", "ggt_fig4_bottom"])
    told = []
    pictures, blocks, races = gather(users, [tmp_path], 1, told.append)
    assert sorted(told) == sorted([*users, "ggt_fig2", "ggt_fig3_bottom"])
    hostile = replace(VERDICT, claim="<script>alert(1)</script>")
    text = page(pictures, blocks, users, ledger([hostile]), overall.overall(races), "<about>")
    assert "no records of experiment ggt_fig2; make them with: python run.py" in text
    assert "<script>alert" not in text and "&lt;about&gt;" in text
    assert text.count('id="exp-ggt_fig3_bottom"') == 1  # described once, by the first figure
    assert '<a href="#exp-ggt_fig3_bottom">' in text
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert not re.search(r'(?:src|href)="(?!#|data:)', text)


def test_a_measurement_tells_how_it_was_made(records, tmp_path):
    facts = {
        "command": "python -m scripts.measure sums", "commit": "0123456789abcdef", "dirty": False,
        "hardware": {"cpu": "a processor", "cores": 2}, "num_threads": 1, "seconds": 0.25,
        "packages": {"torch": "2.13.0"}, "started_at": "", "timing": None,
    }  # fmt: skip
    measurements.write(tmp_path, "sums", "exact", [{"value": 1.0}], facts)
    text = measurement(records, "sums")
    assert "<code>python -m scripts.measure sums</code>" in text
    assert "exact, 250 ms; a processor, 2 cores; 1 thread; torch 2.13.0; commit 0123456789." in text
    assert "make them with: python -m scripts.measure others" in measurement(records, "others")


def test_a_deleted_run_is_said(make, records, tmp_path):
    import shutil

    make.ptb(tmp_path)
    shutil.rmtree(tmp_path / "ptb_lstm" / "sgd" / make.run_id("ptb", "sgd", 2))
    assert "Missing: SGD seed 2" in block(records, "ggt_fig3_bottom")
