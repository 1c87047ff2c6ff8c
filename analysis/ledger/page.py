"""REPRODUCTION.md: the ledger as a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from analysis.ledger.claims import PAPERS, PAPERS_MODELS
from analysis.ledger.judge import Verdict
from analysis.ledger.rules import NOT_REPRODUCED, NOT_TESTED, VERDICTS

INTRODUCTION = """\
# What reproduces, and what does not

Written by `make ledger` from the records; no verdict is typed by hand.

Every claim has a rule that was fixed before it was judged; the few whose rule or instances changed
after records had been seen say so in their notes. A rule compares numbers of single runs, paired by
seed, and its interval is a 95 % bootstrap interval over the seeds:

- **reproduced**: the whole interval lies on the side that the paper claims;
- **partly**: its mean does, or some parts of the claim hold;
- **not reproduced**: neither; "clearly" where the whole interval lies on the other side;
- **not tested**: no records, too few seeds, or seconds that cannot be compared, with the reason.

A claim that was judged for several readings of a formula, or at several scales, has a row for each;
the first one counts in the summary. *Scale*: `exact` is mathematics, counting or a seeded
computation of the size that its row states; `timed` was measured alone on a machine, and only
ratios of times are compared; `paper's models` are the paper's own models and data, trained for the
time that is said, what the paper leaves open chosen by us; `small` is the project's small version
of a task. Where data or a model take another's place, the stand-in is named: such a verdict speaks
of that version, not of the paper's own experiment. Learning rates and other settings that were
searched were chosen by the split and the metric that the evidence of each row names, with an equal
number of trials for every method, on seeds that are not judged.
"""


def page(verdicts: Sequence[Verdict]) -> str:
    """The ledger as Markdown: the same text again for the same records."""
    parts = [INTRODUCTION, _summary(verdicts)]
    for letter, paper in PAPERS.items():
        of_paper = [verdict for verdict in verdicts if verdict.id[0] == letter]
        if of_paper:
            parts.append(_section(paper, of_paper))
    parts += [_contradictions(verdicts), _not_tested(verdicts)]
    return "\n".join(parts)


# ---------------------------------------------------------------- summary


def summary_rows(verdicts: Iterable[Verdict]) -> list[list[str]]:
    """Claims by paper and headline verdict, a row a paper and one for all; first the header."""
    counts = Counter((v.paper, v.verdict) for v in verdicts if v.headline)
    papers = [paper for paper in PAPERS.values() if any(key[0] == paper for key in counts)]
    rows = [["paper", "claims", *VERDICTS]]
    for paper in papers:
        of_paper = [counts[paper, verdict] for verdict in VERDICTS]
        rows.append([paper, *map(str, [sum(of_paper), *of_paper])])
    totals = [sum(counts[paper, verdict] for paper in papers) for verdict in VERDICTS]
    return [*rows, ["all", *map(str, [sum(totals), *totals])]]


def _summary(verdicts: Sequence[Verdict]) -> str:
    judged = {v.id for v in verdicts if v.verdict != NOT_TESTED}
    listed = {v.id for v in verdicts}
    told = f"{len(judged)} of {len(listed)} claims have at least one entry judged from records."
    return "\n".join(["## Summary", "", table(summary_rows(verdicts)), "", told, ""])


# ---------------------------------------------------------------- one paper


def _section(paper: str, verdicts: Sequence[Verdict]) -> str:
    header = [
        "id", "claim", "published", "ours [95 % interval]", "n", "scale, data", "reading",
        "verdict",
    ]  # fmt: skip
    rows = [
        [
            v.id if v.headline else "",
            f"{v.claim} ({v.place})" if v.headline else "",
            published(v) if v.headline else "",
            v.ours or "–",
            counted(v),
            where(v) or "–",
            v.reading or "–",
            worded(v),
        ]
        for v in verdicts
    ]
    evidence = [_evidence(v) for v in verdicts if v.verdict != NOT_TESTED]
    details = ["<details><summary>Rules and evidence</summary>", "", *evidence, "", "</details>"]
    return "\n".join(
        [f"## {paper}", "", table([header, *rows]), "", *(details if evidence else []), ""]
    )


def worded(verdict: Verdict) -> str:
    """A verdict with how clear it is."""
    clearly = " (clearly)" if verdict.verdict == NOT_REPRODUCED and verdict.strong else ""
    return f"{verdict.verdict}{clearly}"


def published(verdict: Verdict) -> str:
    """The published number or numbers, in words."""
    value = verdict.published
    if value is None or value == "":
        return "–"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return str(value)


def counted(verdict: Verdict) -> str:
    """Seeds or cases, and the training runs behind them."""
    runs = f" ({verdict.num_runs} runs)" if verdict.num_runs else ""
    return f"{verdict.n}{runs}" if verdict.n else "–"


def where(verdict: Verdict) -> str:
    """Scale and data of the evidence, with the stand-in."""
    text = ", ".join(filter(None, [verdict.scale, verdict.data]))
    return f"{text} (stand-in: {verdict.stand_in})" if verdict.stand_in else text


def _evidence(verdict: Verdict) -> str:
    reading = f" ({verdict.reading})" if verdict.reading else ""
    sources = [f"experiment `{name}`" for name in verdict.experiments]
    sources += [f"measurement `{name}`" for name in verdict.measurements]
    told = [
        _sentence(f"Rule: {verdict.rule}") if verdict.headline else "",
        _sentence(f"Found: {verdict.detail}") if verdict.detail else "",
        f"From {', '.join(sources)}" + (f", {verdict.num_runs} runs." if verdict.num_runs else "."),
        *(_sentence(f"Settings chosen by {rule}") for rule in verdict.chosen_by),
        *map(_sentence, verdict.remarks),
        *map(_sentence, verdict.notes),
        *(f"Still missing: `{command}`." for command in verdict.commands),
    ]
    return f"- **{verdict.id}**{reading}: " + " ".join(filter(None, told))


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."


# ---------------------------------------------------------------- what contradicts, what is missing


def own_scale(verdict: Verdict) -> bool:
    """Whether the evidence is mathematics, timing, or at the paper's own scale on its own data."""
    scales = set(verdict.scale.split(", "))
    return bool(verdict.scale) and scales <= {"exact", "timed", "paper"} and not verdict.stand_in


def own_models(verdict: Verdict) -> bool:
    """Whether runs train the paper's own models on its own data, for a time that is ours."""
    return verdict.scale.startswith(PAPERS_MODELS) and not verdict.stand_in


def _contradictions(verdicts: Sequence[Verdict]) -> str:
    against = [v for v in verdicts if v.verdict == NOT_REPRODUCED]
    lines = ["## Where our runs contradict a paper", ""]
    if not against:
        return "\n".join([*lines, "Nowhere.", ""])
    own = [v for v in against if own_scale(v)]
    models = [v for v in against if own_models(v)]
    others = [v for v in against if v not in own and v not in models]
    groups = (
        ("By exact mathematics, measured time, or runs at the paper's own scale:", own),
        ("By runs of the paper's own models on its data, tuned and timed as we chose:",
         models),
        ("At a smaller scale or with stand-ins, so of that version only:", others),
    )  # fmt: skip
    for title, chosen in groups:
        if chosen:
            lines += [title, "", *map(_contradiction, chosen), ""]
    return "\n".join(lines)


def _contradiction(verdict: Verdict) -> str:
    reading = f", {verdict.reading}" if verdict.reading else ""
    told = [
        _sentence(verdict.claim),
        f"Published: {published(verdict)}." if verdict.published is not None else "",
        f"Ours: {verdict.ours} (n = {verdict.n}; {where(verdict)}), {worded(verdict)}.",
        _sentence(f"Found: {verdict.detail}") if verdict.detail else "",
        *map(_sentence, verdict.notes),
    ]
    label = f"- **{verdict.id}** ({verdict.paper}, {verdict.place}{reading}): "
    return label + " ".join(filter(None, told))


def _not_tested(verdicts: Sequence[Verdict]) -> str:
    absent = [v for v in verdicts if v.verdict == NOT_TESTED]
    lines = ["## Not tested", ""]
    if not absent:
        return "\n".join([*lines, "Nothing.", ""])
    lines += [
        "Figures and tables of the papers that nothing here draws are told by name, as by "
        "`make figures ONLY=ngplus_fig3`.",
        "",
    ]
    rows = [["id", "claim", "reading", "why", "command and cost"]]
    rows += [
        [
            v.id,
            f"{v.claim} ({v.place})",
            v.reading or "–",
            " ".join([_sentence(v.reason), *map(_sentence, v.notes)]),
            "; ".join(f"`{command}`" for command in v.commands) or "–",
        ]
        for v in absent
    ]
    return "\n".join([*lines, table(rows), ""])


def table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first row is the header."""
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    rule = "|" + "|".join("---" for _ in rows[0]) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])
