"""GGT Fig. 2: adaptive methods on two ill-conditioned convex problems [Agarwal et al. 2019].

Top: the paper's view, the loss of one instance on linear axes. Bottom: over all instances, the
loss above each instance's optimum on log axes, since the loss itself differs far more between
instances than between methods, and methods differ most in their first iterations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis import captions, curves, measures, stacked, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.load import Experiment, Records

EXPERIMENTS = ("ggt_fig2",)
TITLE = "GGT paper, Fig. 2"
TITLES = {"logistic": "Logistic regression", "barrier": "Log barrier"}
MAX_POINTS = 400
# Differences of losses near 1 below these are round-off of the loss: a few units in the last place.
FLOORS = {"float64": 1e-15, "float32": 1e-7}
# Room above the start in the paper's view, as a share of the way from the start to the least loss.
OVERSHOOT = 0.25
COLUMNS = [*curves.COLUMNS, "num_clipped", "floor"]


def table(records: Records) -> pd.DataFrame:
    """Return the curves of both rows, tidy (`analysis.curves.COLUMNS` and two more).

    panel: "instance" (loss of the first seed) or "suboptimality" (median over the seeds that
    every method has, loss minus optimum). A curve keeps at most 400 steps, half of them evenly
    and half geometrically spaced. Sub-optimality below `floor` is round-off and is set to it;
    num_clipped counts the instances where that was done.

    Raises:
        MissingRecordsError: if the experiment is not finished.
    """
    return make_table(records.experiment(*EXPERIMENTS))


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    data = table(records) if data is None else data
    return make_figure(records.experiment(*EXPERIMENTS), data, TITLE)


# ---------------------------------------------------------------- the data


def make_table(experiment: Experiment) -> pd.DataFrame:
    """Return the table of any experiment laid out as this one; see `table`."""
    parts = [_case_table(experiment, case) for case in experiment.cases()]
    return pd.concat(parts, ignore_index=True)[COLUMNS]


def _case_table(experiment: Experiment, case: str) -> pd.DataFrame:
    frame = experiment.steps(case)
    runs = experiment.runs(case)
    optima, floor = _optima(runs), _floor(runs)
    seeds = curves.paired_seeds(frame)
    parts = []
    for method in experiment.methods(case):
        rows = frame[(frame["method"] == method) & frame["seed"].isin(seeds)]
        if rows.empty:
            continue
        diverged = curves.diverged_seeds(experiment, case, method) & set(seeds)
        losses = stacked.side_by_side(rows, "loss", seeds, diverged)
        kept = measures.thinned(len(losses.steps), MAX_POINTS)
        losses = losses._replace(steps=losses.steps[kept], values=losses.values[:, kept])
        labels = {
            "case": case,
            "method": method,
            "tuned": curves.tuned(experiment, case, method),
            "floor": floor,
        }
        first = pd.DataFrame({"step": losses.steps, "value": losses.values[0]})
        instance = first.assign(
            **labels, panel="instance", low=np.nan, high=np.nan, num_clipped=0,
            num_runs=1, num_diverged=int(losses.seeds[0] in diverged),
        )  # fmt: skip
        above = measures.suboptimality(losses.values, [optima.get(s, 0.0) for s in losses.seeds])
        clipped = losses._replace(values=np.maximum(above, floor))
        many = curves.band(clipped).assign(
            **labels, panel="suboptimality", num_clipped=(above < floor).sum(axis=0),
            num_runs=len(losses.seeds), num_diverged=len(diverged),
        )  # fmt: skip
        parts += [instance, many]
    if not parts:
        return pd.DataFrame(columns=COLUMNS)
    return pd.concat(parts, ignore_index=True)


def _optima(runs: pd.DataFrame) -> dict[int, float]:
    """The least loss of each seed's instance; empty unless every instance's is known.

    Where it is not, the loss itself is drawn.
    """
    column = "task_facts.optimum"
    if column not in runs or runs[column].isna().any():
        return {}
    return {int(s): float(v) for s, v in zip(runs["seed"], runs[column], strict=True)}


def _floor(runs: pd.DataFrame) -> float:
    precisions = set(runs["precision"]) if "precision" in runs else set()
    return max((FLOORS.get(p, FLOORS["float32"]) for p in precisions), default=FLOORS["float64"])


# ---------------------------------------------------------------- the drawing


def make_figure(experiment: Experiment, data: pd.DataFrame, title: str) -> Figure:
    """Draw a table of `make_table`: a column a case, the paper's view above all instances."""
    from matplotlib.figure import Figure

    cases = experiment.cases()
    runs = experiment.runs()
    with style.context():
        width = style.PAGE_WIDTH if len(cases) > 1 else 1.3 * style.COLUMN_WIDTH
        figure = Figure(figsize=(width, 6.0), layout="constrained")
        axes = figure.subplots(2, len(cases), squeeze=False)
        for index, case in enumerate(cases):
            of_case = data[data["case"] == case]
            known = bool(_optima(runs[runs["case"] == case]))
            axes[0, index].set_title(TITLES.get(case, case))
            _draw_instance(axes[0, index], of_case[of_case["panel"] == "instance"])
            _draw_suboptimality(axes[1, index], of_case[of_case["panel"] == "suboptimality"], known)
            style.legend_below(axes[1, index])
        style.head(figure, captions.heading(title, [experiment], width))
        style.footnote(figure, _caption(experiment, data, runs))
    return figure


def _draw_instance(axes: Axes, rows: pd.DataFrame) -> None:
    _draw_curves(axes, rows)
    axes.set(xlabel="iteration", ylabel="loss, one instance", **_linear_limits(rows))
    axes.grid(True)
    _draw_zoom(axes, rows)


def _draw_curves(axes: Axes, rows: pd.DataFrame) -> None:
    for _, curve in rows.groupby("method", sort=False):
        curves.draw_curve(axes, curve, "step")


def _draw_zoom(axes: Axes, rows: pd.DataFrame) -> None:
    """Add an inset on the least losses, where all curves soon lie at the foot of the panel.

    The rest of the panel is empty then, so the inset hides nothing.
    """
    finite = rows[np.isfinite(rows["value"])]
    if finite.empty:
        return
    last, (bottom, top) = rows["step"].max(), axes.get_ylim()
    later = finite.loc[finite["step"] >= 0.1 * last, "value"]
    shown = finite.loc[finite["step"] >= 0.02 * last, "value"]
    if later.empty or later.max() > bottom + 0.25 * (top - bottom):
        return
    inset = axes.inset_axes([0.36, 0.42, 0.62, 0.55])
    _draw_curves(inset, rows)
    margin = 0.05 * (shown.max() - shown.min()) or 1e-12
    inset.set(xlim=_step_limits(rows), ylim=(shown.min() - margin, shown.max() + margin))
    inset.tick_params(labelsize=6, length=2)
    inset.locator_params(axis="both", nbins=4)
    inset.ticklabel_format(axis="y", useOffset=False)
    inset.grid(True)


def _linear_limits(rows: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Limits as the paper's: from the least loss to the start, with room for an overshoot.

    A method that overshoots further leaves the panel instead of flattening all the others.
    """
    finite = rows.loc[np.isfinite(rows["value"])]
    if finite.empty:
        return {}
    least, most = finite["value"].min(), finite["value"].max()
    start = finite.loc[finite["step"] == finite["step"].min(), "value"].max()
    top = min(most, start + OVERSHOOT * (start - least))
    margin = 0.05 * (top - least) or 1e-12
    return {"ylim": (least - margin, top + margin), "xlim": _step_limits(rows)}


def _draw_suboptimality(axes: Axes, rows: pd.DataFrame, optimum_known: bool) -> None:
    _draw_curves(axes, rows)
    axes.set(xscale="log", yscale="log")
    low, high = rows["low"], rows["high"]
    low, high = low[np.isfinite(low)], high[np.isfinite(high)]
    if len(low) and len(high):
        # Step 0, the start that all methods share, has no place on a log axis.
        axes.set(ylim=(low.min() / 2, high.max() * 2), xlim=(1, _step_limits(rows)[1]))
    label = "loss − optimum" if optimum_known else "loss"
    num_instances = int(rows["num_runs"].max()) if len(rows) else 0
    axes.set(xlabel="iteration", ylabel=f"{label}, {num_instances} instances")
    axes.grid(True)


def _step_limits(rows: pd.DataFrame) -> tuple[float, float]:
    # Steps count from 0: n iterations end at step n - 1, and the axis at n.
    return (0.0, float(rows["step"].max()) + 1)


def _caption(experiment: Experiment, data: pd.DataFrame, runs: pd.DataFrame) -> list[str]:
    many = data[data["panel"] == "suboptimality"]
    used = {case: curves.paired_seeds(runs[runs["case"] == case]) for case in experiment.cases()}
    first = min((seeds[0] for seeds in used.values() if seeds), default=0)
    sentences = [
        f"Top: instance of seed {first}.",
        "Bottom: median over instances and its 95 % bootstrap band, the same resampled instances "
        "for all methods; a diverged run counts as infinite.",
    ]
    if (many["num_clipped"] > 0).any():
        floors = ", ".join(f"{floor:.0e}" for floor in sorted(set(many["floor"])))
        sentences.append(f"Differences below {floors} are round-off and drawn there.")
    sentences.append(captions.chosen_by(experiment))
    sentences.append(curves.left_out(experiment, used))
    sentences.append(captions.missing(experiment))
    return [*filter(None, sentences), curves.provenance(runs)]
