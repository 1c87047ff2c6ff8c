"""The ledger as a table that can be sorted and filtered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from analysis.ledger.judge import Verdict
from analysis.ledger.page import published, summary_rows, where, worded
from analysis.ledger.rules import VERDICTS
from analysis.report.markup import Raw, code, html, join, tag

COLUMNS = ("id", "claim", "published", "ours", "n", "scale, data", "reading", "verdict")


def ledger(verdicts: Sequence[Verdict]) -> Raw:
    """Summary, filters and the table of all entries."""
    if not verdicts:
        return tag("p", "The ledger has no claims.", class_="gap")
    head = [
        tag("th", tag("button", column, type="button"), scope="col", aria_sort="none")
        for column in COLUMNS
    ]
    body = join(map(_row, verdicts))
    grid = tag(
        "table", join([tag("thead", tag("tr", join(head, ""))), tag("tbody", body)]), id="ledger"
    )
    return join([_summary(verdicts), _controls(verdicts), tag("div", grid, class_="scroll wide")])


def _summary(verdicts: Sequence[Verdict]) -> Raw:
    header, *rows = summary_rows(verdicts)
    columns = header[2:]
    lines = []
    for row in rows:
        paper = "" if row[0] == "all" else row[0]
        cells = [tag("th", row[0], scope="row"), tag("td", row[1], class_="n")]
        for verdict, count in zip(columns, row[2:], strict=True):
            pick = tag(
                "button", count, type="button", class_=f"count {_class(verdict)}",
                data_paper=paper, data_verdict=verdict, title=f"show these: {verdict}",
            )  # fmt: skip
            cells.append(tag("td", pick, class_="n"))
        lines.append(tag("tr", join(cells, "")))
    head = tag("tr", join((tag("th", name) for name in header), ""))
    made = tag("table", join([tag("thead", head), tag("tbody", join(lines))]), id="summary")
    return tag("div", made, class_="scroll")


def _controls(verdicts: Sequence[Verdict]) -> Raw:
    def options(name: str, values: Iterable[str]) -> Raw:
        listed = [tag("option", f"every {name}", value="")]
        listed += [tag("option", value or f"no {name}", value=value or "-") for value in values]
        return tag("label", join([name, tag("select", join(listed, ""), data_filter=name)], " "))

    there = {verdict.verdict for verdict in verdicts}
    sorting = [tag("option", column, value=i) for i, column in enumerate(COLUMNS)]
    parts = [
        options("paper", dict.fromkeys(v.paper for v in verdicts)),
        options("verdict", [verdict for verdict in VERDICTS if verdict in there]),
        options("reading", sorted({v.reading for v in verdicts})),
        options("scale", sorted({v.scale for v in verdicts})),
        tag("label", join(["text", Raw('<input type="search" data-filter="text">')], " ")),
        tag("label", join(["sort by", tag("select", join(sorting, ""), id="sort")], " ")),
        tag("button", "all rows", type="button", id="every-row"),
        tag("output", f"{len(verdicts)} of {len(verdicts)} entries", id="shown"),
    ]
    return tag("form", join(parts), class_="controls", id="filters")


def _row(verdict: Verdict) -> Raw:
    told = [tag("p", f"Rule: {verdict.rule}")]
    told += [tag("p", text) for text in (verdict.detail, verdict.reason) if text]
    told += [tag("p", f"Settings chosen by {rule}.") for rule in verdict.chosen_by]
    told += [tag("p", text) for text in (*verdict.remarks, *verdict.notes)]
    names = [f"experiment {name}" for name in verdict.experiments]
    names += [f"measurement {name}" for name in verdict.measurements]
    if names:
        runs = f"; {verdict.num_runs} runs" if verdict.num_runs else ""
        told.append(tag("p", f"From {', '.join(names)}{runs}."))
    told += [tag("p", join(["Missing: ", code(command)], "")) for command in verdict.commands]
    claim = join([verdict.claim, tag("small", verdict.place)], " ")
    evidence = tag("details", join([tag("summary", "rule and evidence"), *told]))
    cells: list[tuple[Any, Any]] = [
        (tag("b", verdict.id), verdict.id),
        (join([claim, evidence]), verdict.claim),
        (published(verdict), None),
        (verdict.ours or "–", verdict.center),
        (verdict.n or "–", verdict.n),
        (where(verdict) or "–", None),
        (verdict.reading or "–", None),
        (tag("span", worded(verdict), class_=f"verdict {_class(verdict.verdict)}"), _rank(verdict)),
    ]
    made = [
        tag("td", content, data_label=COLUMNS[i], data_key=_key(key))
        for i, (content, key) in enumerate(cells)
    ]
    return tag(
        "tr", join(made, ""), data_paper=verdict.paper, data_verdict=verdict.verdict,
        data_reading=verdict.reading or "-", data_scale=verdict.scale or "-",
    )  # fmt: skip


def _key(value: Any) -> str | None:
    """What a cell is sorted by, as JavaScript reads numbers."""
    if isinstance(value, float):
        return repr(value).replace("inf", "Infinity")
    return None if value is None else str(value)


def _rank(verdict: Verdict) -> int:
    return VERDICTS.index(verdict.verdict)


def _class(verdict: str) -> str:
    return html(verdict.replace(" ", "-"))
