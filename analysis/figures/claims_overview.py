"""The ledger at a glance: how many claims of each paper reproduce, and on what evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from analysis import style
from analysis.ledger import NOT_REPRODUCED, NOT_TESTED, PARTLY, REPRODUCED, judge_all
from analysis.ledger.claims import NUM_CLAIMS, PAPERS, PAPERS_MODELS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = ()
TITLE = "Claims of the four papers"
# Dark to light from reproduced to not tested, so that a print in grey keeps the order.
COLORS = {
    REPRODUCED: style.BLUE, PARTLY: style.SKY, NOT_REPRODUCED: style.VERMILLION,
    NOT_TESTED: "0.85",
}  # fmt: skip
EVIDENCE = {
    "exact": "computed", "paper": "runs, paper's scale", "models": "runs, paper's models",
    "small": "runs, small scale", "timed": "measured times", "mixed": "more than one kind",
}  # fmt: skip
COLUMNS = ["by", "group", "verdict", "count"]
# A number is written into a part of a bar that is at least this share of the longest bar.
LEAST_SHARE = 0.03


def table(records: Records) -> pd.DataFrame:
    """Return counts of claims by the verdict of their principal reading.

    by: "paper", or "evidence" of the claims that were tested; group: which one.
    """
    verdicts = [verdict for verdict in judge_all(records) if verdict.headline]
    tested = [verdict for verdict in verdicts if verdict.verdict != NOT_TESTED]
    pairs = [("paper", verdict.paper, verdict.verdict) for verdict in verdicts]
    pairs += [("evidence", _evidence(verdict.scale), verdict.verdict) for verdict in tested]
    counts = pd.Series(pairs).value_counts()
    groups = [("paper", paper) for paper in PAPERS.values()]
    groups += [("evidence", name) for name in EVIDENCE.values()]
    rows = [
        (by, group, verdict, int(counts.get((by, group, verdict), 0)))
        for by, group in groups
        for verdict in COLORS
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _evidence(scale: str) -> str:
    key = "models" if scale.startswith(PAPERS_MODELS) else scale
    return EVIDENCE.get(key, EVIDENCE["mixed"])


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    data = table(records) if data is None else data
    with style.context():
        figure = Figure(figsize=(style.PAGE_WIDTH, 2.7), layout="constrained")
        left, right = figure.subplots(1, 2)
        _draw_bars(left, data[data["by"] == "paper"])
        left.set_title("by paper")
        _draw_bars(right, data[data["by"] == "evidence"])
        right.set_title("of those tested, by evidence")
        handles = [Patch(color=color, label=verdict) for verdict, color in COLORS.items()]
        style.head_with(figure, TITLE, handles)
        style.footnote(figure, _caption(data))
    return figure


def _draw_bars(axes: Axes, data: pd.DataFrame) -> None:
    counts = data.pivot(index="group", columns="verdict", values="count")
    counts = counts.loc[list(dict.fromkeys(data["group"])), list(COLORS)]
    most = max(int(counts.sum(axis=1).max()), 1)
    left = 0 * counts.iloc[:, 0]
    for verdict, color in COLORS.items():
        own = counts[verdict]
        axes.barh(range(len(own)), own, left=left, color=color, height=0.7)
        for place, (count, start) in enumerate(zip(own, left, strict=True)):
            if count >= LEAST_SHARE * most:
                dark = verdict in (REPRODUCED, NOT_REPRODUCED)
                axes.text(start + count / 2, place, str(count), ha="center", va="center",
                          fontsize=7, color="white" if dark else "black")  # fmt: skip
        left = left + own
    names = [
        name.replace("Block Mean Approximation", "Block Mean\nApproximation")
        for name in counts.index
    ]
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(xlabel="claims", xlim=(0, 1.02 * most))


def _caption(data: pd.DataFrame) -> list[str]:
    papers = data[data["by"] == "paper"]
    judged = int(papers["count"].sum())
    tested = int(papers.loc[papers["verdict"] != NOT_TESTED, "count"].sum())
    total = sum(NUM_CLAIMS.values())
    said = [f"{judged} claims, {tested} of them tested; each counted by its principal reading."]
    if judged < total:
        said.append(f"{total - judged} of the {total} claims are not listed yet.")
    return said
