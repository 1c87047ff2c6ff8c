"""The search of an experiment: sensitivity to what was tuned, and what more trials brought."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from analysis.report.charts import chart, label, line_of
from analysis.report.markup import Raw, details, join, number, seconds, table, tag

if TYPE_CHECKING:
    from analysis.load import Experiment

# Multiple of the worst method's best score up to which charts show the scores.
FAR = 100.0
CHARTS_NOTE = (
    "Circles: what was chosen. Hollow dots at the upper edge: trials that scored worse than is "
    "shown, or diverged. The best score after some trials is the median over all orders in which "
    "they might have come."
)


def search(experiment: Experiment) -> Raw:
    """What was tried, as tables and charts; empty without a search."""
    if not len(experiment.trials):
        return Raw("")
    parts: list[Any] = [_choice(experiment)]
    took = search_seconds(experiment)
    if math.isfinite(took):
        parts.append(tag("p", f"All trials together took {seconds(took)} of one process."))
    for case in experiment.cases():
        parts.append(_search_charts(case, tunings(experiment, case)))
    parts.append(tag("p", CHARTS_NOTE, class_="faint"))
    edges = int(experiment.choice["at_edge"].astype(bool).sum())
    flag = f", {edges} at the edge of a grid" if edges else ""
    return details(f"Tuning: {len(experiment.trials)} trials{flag}", join(parts))


def _choice(experiment: Experiment) -> Raw:
    rows = []
    for row in experiment.choice.to_dict("records"):
        values = ", ".join(f"{k} = {v}" for k, v in (row["values"] or {}).items())
        edge = tag("strong", "edge of the grid") if row["at_edge"] else ""
        rows.append(
            [
                row["case"],
                label(row["method"]),
                values,
                number(row["score"]),
                row["num_trials"],
                edge,
            ]
        )
    return table(["case", "method", "chosen", "score", "trials", ""], rows, numeric=(3, 4))


def _most(found: Sequence[Tuning]) -> float:
    """Where a chart of scores ends: far beyond each method's best one they say nothing more."""
    tried = [score for t in found for score in t.scores]
    finite = [score for score in tried if math.isfinite(score)]
    if not finite:
        return math.inf
    best = [score for score in (min(t.scores) for t in found) if math.isfinite(score)]
    far = FAR * max(best) if min(finite) > 0 else math.inf
    # A little above what is finite, so that only what is not lies on the edge.
    edge = max(finite) + 0.2 * (max(finite) - min(finite))
    return min(far, edge) if len(finite) < len(tried) or max(finite) > far else math.inf


def _search_charts(case: str, found: Iterable[Tuning]) -> Raw:
    found = list(found)
    parts = []
    for key in dict.fromkeys(t.key for t in found):
        lines = []
        for t in found:
            if t.key != key:
                continue
            at = t.xs.index(t.chosen) if t.chosen in t.xs else None
            mark = None if at is None else (t.xs[at], t.scores[at])
            lines.append(line_of(t.method, t.xs, t.scores, mark))
        name = key.removeprefix("optimizer.")
        most = _most([t for t in found if t.key == key])
        parts.append(chart(lines, name, "score", f"{case}: score against {name}", most=most))
    first = {t.method: t for t in found}.values()
    so_far = [line_of(t.method, range(1, len(t.so_far) + 1), t.so_far) for t in first]
    title = f"{case}: best score so far"
    parts.append(chart(so_far, "trials, in random order", "score", title, log_x=False))
    return tag("div", join(parts), class_="charts")


# ---------------------------------------------------------------- numbers


class Tuning(NamedTuple):
    """One method's search in one case, over one of the values that were searched.

    xs, scores: each value with the best mean score found at it, inf where no trial finished.
    so_far: the best score after 1, 2, ... trials, the median over all orders of the trials.
    """

    method: str
    key: str
    xs: list[float]
    scores: list[float]
    so_far: list[float]
    chosen: float | None
    at_edge: bool


def tunings(experiment: Experiment, case: str) -> list[Tuning]:
    """What was tried for each method of a case; nothing for one without a search."""
    trials = experiment.trials
    trials = trials[trials["case"] == case] if len(trials) else trials
    choice = experiment.choice
    made = []
    for method, rows in trials.groupby("method", sort=False):
        points: dict[tuple, list[float]] = {}
        for values, score in zip(rows["values"], rows["score"], strict=True):
            points.setdefault(tuple(sorted(values.items())), []).append(score)
        scored = {point: _mean(scores) for point, scores in points.items()}
        picked = choice[(choice["case"] == case) & (choice["method"] == method)]
        values: Mapping[str, Any] = picked["values"].iloc[0] if len(picked) else {}
        edge = bool(len(picked) and picked["at_edge"].iloc[0])
        for key in dict(next(iter(scored), ())):
            best: dict[float, float] = {}
            for point, score in scored.items():
                at = dict(point)[key]
                if isinstance(at, (int, float)) and not isinstance(at, bool):
                    best[float(at)] = min(score, best.get(float(at), math.inf))
            if len(best) > 1:
                xs = sorted(best)
                so_far = best_so_far(list(scored.values()))
                where = values.get(key)
                made.append(Tuning(method, key, xs, [best[x] for x in xs], so_far, where, edge))
    return made


def _mean(scores: Sequence[float]) -> float:
    """Of a point's trials; one that did not finish makes it ineligible."""
    if any(score is None or not math.isfinite(score) for score in scores):
        return math.inf
    return math.fsum(scores) / len(scores)


def best_so_far(scores: Sequence[float]) -> list[float]:
    """The best score after 1, 2, ... trials: the median over all orders in which they may come.

    Exact: the best of k of n is at most the i-th least with the chance 1 - C(n - i, k) / C(n, k).
    """
    ordered, count = sorted(scores), len(scores)
    return [
        next(
            score
            for i, score in enumerate(ordered, 1)
            if 1 - math.comb(count - i, k) / math.comb(count, k) >= 0.5
        )
        for k in range(1, count + 1)
    ]


def search_seconds(experiment: Experiment) -> float:
    """Wall time of all trials together, in seconds; nan where an older index does not tell."""
    trials = experiment.trials
    if not len(trials):
        return 0.0
    if "seconds" not in trials or trials["seconds"].isna().any():
        return math.nan
    return float(trials["seconds"].sum())
