"""The report in a real browser: it opens offline, sorts, filters, fits a telephone and paper."""

from __future__ import annotations

import importlib.util
import os
import shutil
from types import SimpleNamespace

import pytest

from analysis.report.claims import ledger
from analysis.report.overall import overall
from analysis.report.page import gather, page, users_of
from tests.analysis.conftest import write_ptb
from tests.analysis.report_page import VERDICTS

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FIGURES = ("ggt_fig2", "ggt_fig3_bottom", "ggt_fig4_bottom")  # of the first there are no records


@pytest.fixture(scope="module")
def browser():
    """Chromium without a window; the tests are skipped where it or its driver is missing."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("no driver for the browser: pip install playwright")
    from playwright.sync_api import sync_playwright

    root = hasattr(os, "geteuid") and os.geteuid() == 0
    flags = ["--no-sandbox"] if root else []  # Chromium refuses to sandbox root's processes
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=path, args=flags)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The report of made-up records and verdicts, as a file."""
    folder = tmp_path_factory.mktemp("report")
    write_ptb(folder / "runs", wall_seconds=50.0, train_seconds=20.0, steps_done=40)
    users = users_of(FIGURES)
    pictures, blocks, races = gather(users, [folder / "runs"], 1, lambda name: None)
    text = page(pictures, blocks, users, ledger(VERDICTS), overall(races), "made up")
    (folder / "kappa.html").write_text(text)
    return (folder / "kappa.html").as_uri()


@pytest.fixture
def visit(browser, address):
    """Open the report; afterwards the browser must have had nothing to complain or to fetch."""
    contexts, complaints, requests = [], [], []

    def opened(**settings):
        context = browser.new_context(offline=True, **settings)
        contexts.append(context)
        tab = context.new_page()
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(address)
        return tab

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []
    assert set(requests) <= {address, "data:,"}


def shown(tab):
    """The ids of the ledger's rows that can be seen, in order."""
    return tab.eval_on_selector_all(
        "#ledger tbody tr",
        "rows => rows.filter(r => r.offsetHeight).map(r => r.cells[0].innerText)",
    )


def test_it_opens_with_everything_in_it(visit):
    tab = visit()
    assert "Kappa" in tab.title()
    assert shown(tab) == ["G01", "G02", "G10", "K01"]
    assert tab.locator(".picture svg").count() == 2
    assert tab.locator(".picture svg").first.bounding_box()["height"] > 100
    assert "no records of experiment ggt_fig2" in tab.locator("main").inner_text()
    tab.locator("summary", has_text="Cost").click()
    assert tab.locator("text=500 ms").first.is_visible()


def test_it_sorts_by_every_column_numbers_as_numbers(visit):
    tab = visit()
    ours = tab.locator("#ledger th button", has_text="ours")
    ours.click()
    assert shown(tab) == ["G02", "G01", "G10", "K01"]  # .25, .5, 10, none
    ours.click()
    assert shown(tab) == ["G10", "G01", "G02", "K01"]  # what has no number stays last
    assert tab.locator("#ledger th[aria-sort=descending]").inner_text().startswith("ours")
    tab.locator("#ledger th button", has_text="verdict").click()
    assert shown(tab) == ["G01", "G10", "G02", "K01"]
    tab.locator("#ledger th button", has_text="id").click()
    assert shown(tab) == ["G01", "G02", "G10", "K01"]


def test_it_filters_by_choice_text_and_count(visit):
    tab = visit()
    tab.select_option("[data-filter=paper]", "KrADagrad")
    assert shown(tab) == ["K01"]
    assert tab.inner_text("#shown") == "1 of 4 entries"
    tab.click("#every-row")
    tab.select_option("[data-filter=reading]", "printed")
    assert shown(tab) == ["G10"]
    tab.select_option("[data-filter=reading]", "")
    tab.select_option("[data-filter=scale]", "small")
    tab.fill("[data-filter=text]", "FASTER")
    assert shown(tab) == ["G02"]
    tab.fill("[data-filter=text]", "nowhere in it")
    assert shown(tab) == []
    tab.locator("#summary button[data-paper=GGT][data-verdict='not reproduced']").click()
    assert shown(tab) == ["G02"]
    tab.click("#every-row")
    tab.fill("[data-filter=text]", "that is sold")  # a reason, in a part that is closed
    assert shown(tab) == ["K01"]


def ground(tab):
    return tab.evaluate("getComputedStyle(document.body).backgroundColor")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_light_and_dark_by_itself_and_by_hand(visit, scheme):
    tab = visit(color_scheme=scheme)
    white, black = "rgb(255, 255, 255)", "rgb(20, 23, 26)"
    assert ground(tab) == (white if scheme == "light" else black)
    tab.click("#theme")
    assert (tab.inner_text("#theme"), ground(tab)) == ("○ light", white)
    tab.click("#theme")
    assert (tab.inner_text("#theme"), ground(tab)) == ("● dark", black)
    # A figure is drawn in black: it keeps a white card.
    card = "getComputedStyle(document.querySelector('.picture')).backgroundColor"
    assert tab.evaluate(card) == white
    tab.reload()
    assert tab.inner_text("#theme") == "● dark"


def test_text_can_be_read_on_its_ground(visit):
    contrast = """
        () => {
          const light = (c) => {
            const [r, g, b] = c.match(/[0-9.]+/g).map((v) => v / 255)
              .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          const ground = light(getComputedStyle(document.body).backgroundColor);
          return [...document.querySelectorAll("p, a, td, .verdict, summary, small")].map((e) => {
            const text = light(getComputedStyle(e).color);
            return (Math.max(text, ground) + 0.05) / (Math.min(text, ground) + 0.05);
          });
        }"""
    for scheme in ("light", "dark"):
        assert min(visit(color_scheme=scheme).evaluate(contrast)) >= 4.5  # WCAG's level AA


def open_all(tab):
    tab.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")


@pytest.mark.parametrize("width", [320, 390, 700, 1000])
def test_no_part_is_wider_than_a_telephone(visit, width):
    tab = visit(viewport={"width": width, "height": 800})
    open_all(tab)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.locator("#sort").is_visible() == (width < 736)  # where the header is hidden
    if width < 736:
        tab.select_option("#sort", label="ours")
        assert shown(tab)[0] == "G02"


def test_print_hides_controls_and_shows_all_rows_and_parts(visit):
    tab = visit()
    tab.fill("[data-filter=text]", "nowhere in it")
    assert shown(tab) == []
    tab.emulate_media(media="print", color_scheme="dark")
    assert shown(tab) == ["G01", "G02", "G10", "K01"]
    for control in ("#filters", "#theme", "nav"):
        assert not tab.locator(control).is_visible()
    assert ground(tab) == "rgb(255, 255, 255)"
    assert tab.locator("text=Rule: the interval of the difference").first.is_visible()
    assert tab.pdf(format="A4")[:5] == b"%PDF-"


def test_all_can_be_reached_by_the_keyboard(visit):
    tab = visit()
    tab.focus("#ledger th button")
    tab.keyboard.press("Enter")
    tab.keyboard.press("Enter")
    assert shown(tab)[0] == "K01"
    tab.focus("#theme")
    tab.keyboard.press("Space")
    assert tab.inner_text("#theme") == "○ light"


def test_the_checks_above_see_a_fault(browser, tmp_path):
    """A page that fetches, complains and is too wide fails each of them."""
    script = "<script>console.error('x'); fetch('http://localhost:9/')</script>"
    text = f"{script}<p style='width:900px'>wide</p>"
    (tmp_path / "bad.html").write_text(text)
    tab = browser.new_page(viewport={"width": 390, "height": 800})
    seen = SimpleNamespace(messages=[], urls=[])
    tab.on("console", lambda message: seen.messages.append(message.text))
    tab.on("request", lambda request: seen.urls.append(request.url))
    tab.goto((tmp_path / "bad.html").as_uri())
    assert "x" in seen.messages and "http://localhost:9/" in seen.urls
    assert tab.evaluate("document.documentElement.scrollWidth") > 390
    tab.close()
