"""GGT Fig. 3 bottom: perplexity of a character LSTM on Penn Treebank [Agarwal et al. 2019].

Left: training, from the loss of every step. Right: validation, over the whole split.
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

EXPERIMENTS = ("ggt_fig3_bottom",)
TITLE = "GGT paper, Fig. 3 bottom"
TITLES = {"train": "Training", "valid": "Validation"}
MAX_POINTS = 400
# The training loss is averaged over this share of the run; one batch's loss is mostly noise.
SMOOTHED_SHARE = 0.01
# What happens in this first share of the run may leave the panel: it would flatten the rest.
HIDDEN_SHARE = 0.05
COLUMNS = [*curves.COLUMNS, "epoch", "train_seconds", "smoothed_steps"]


def table(records: Records) -> pd.DataFrame:
    """Return the curves of both panels, tidy (`analysis.curves.COLUMNS` and three more).

    panel: "train" (exp of the mean loss over the last `smoothed_steps` steps, at most 400 points
    a curve) or "valid" (metric `perplexity` on split `valid`). value: median over the seeds that
    every method has. train_seconds: median over the seeds at that step.

    Raises:
        MissingRecordsError: if the experiment is not finished.
    """
    return make_table(records.experiment(*EXPERIMENTS))


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    data = table(records) if data is None else data
    return make_figure(records.experiment(*EXPERIMENTS), data, "epoch", TITLE)


# ---------------------------------------------------------------- the data


def make_table(experiment: Experiment) -> pd.DataFrame:
    """Return the table of any experiment laid out as this one; see `table`."""
    parts = []
    for case in experiment.cases():
        runs = experiment.runs(case)
        steps, evals = experiment.steps(case), experiment.evals(case)
        evals = evals[(evals["split"] == "valid") & (evals["metric"] == "perplexity")]
        seeds = curves.paired_seeds(steps)
        for method in experiment.methods(case):
            chosen = (runs["method"] == method) & runs["seed"].isin(seeds)
            if not chosen.any():
                continue
            labels = {
                "case": case,
                "method": method,
                "tuned": curves.tuned(experiment, case, method),
                "num_runs": len(seeds),
                "num_diverged": int((runs.loc[chosen, "status"] == "diverged").sum()),
            }
            diverged = curves.diverged_seeds(experiment, case, method)
            steps_per_epoch = float(runs.loc[chosen, "steps_per_epoch"].iloc[0])
            train = _train(_of(steps, method), seeds, diverged, steps_per_epoch)
            parts.append(train.assign(**labels, panel="train"))
            evaluations = _of(evals, method)
            if not evaluations.empty:
                valid = _valid(evaluations, seeds, diverged)
                parts.append(valid.assign(**labels, panel="valid"))
    if not parts:
        return pd.DataFrame(columns=COLUMNS)
    return pd.concat(parts, ignore_index=True)[COLUMNS]


def _of(frame: pd.DataFrame, method: str) -> pd.DataFrame:
    return frame[frame["method"] == method]


def _train(
    rows: pd.DataFrame, seeds: list[int], diverged: set[int], steps_per_epoch: float
) -> pd.DataFrame:
    losses = stacked.side_by_side(rows, "loss", seeds, diverged)
    width = max(1, round(SMOOTHED_SHARE * len(losses.steps)))
    kept = measures.thinned(len(losses.steps), MAX_POINTS)
    smoothed = np.array([measures.running_mean(loss, width) for loss in losses.values])
    with np.errstate(over="ignore"):  # a loss beyond 709 has the perplexity inf in float64
        perplexity = np.exp(smoothed)
    points = curves.band(losses._replace(steps=losses.steps[kept], values=perplexity[:, kept]))
    return points.assign(
        epoch=points["step"] / steps_per_epoch,
        train_seconds=points["step"].map(_median_by_step(rows, "train_seconds")),
        smoothed_steps=width,
    )


def _valid(rows: pd.DataFrame, seeds: list[int], diverged: set[int]) -> pd.DataFrame:
    points = curves.band(stacked.side_by_side(rows, "value", seeds, diverged))
    return points.assign(
        epoch=points["step"].map(_median_by_step(rows, "epoch")),
        train_seconds=points["step"].map(_median_by_step(rows, "train_seconds")),
        smoothed_steps=0,
    )


def _median_by_step(rows: pd.DataFrame, column: str) -> pd.Series:
    return rows.groupby("step")[column].median()


# ---------------------------------------------------------------- the drawing


def make_figure(experiment: Experiment, data: pd.DataFrame, x: str, title: str) -> Figure:
    """Draw a table of `make_table` against its column `x`, "epoch" or "train_seconds"."""
    from matplotlib.figure import Figure

    runs = experiment.runs()
    with style.context():
        figure = Figure(figsize=(style.PAGE_WIDTH, 3.7), layout="constrained")
        panels = figure.subplots(1, 2)
        for axes, panel in zip(panels, TITLES, strict=True):
            axes.set_title(TITLES[panel])
            rows = data[data["panel"] == panel]
            for _, curve in rows.groupby("method", sort=False):
                curves.draw_curve(axes, curve, x)
            _set_axes(axes, rows, x)
            axes.set_xlim(0, 1.02 * max(data[x].max(), 1e-9))  # the last mark is whole
        heading = captions.heading(title, [experiment], style.PAGE_WIDTH)
        style.head_of(figure, heading, panels[0])
        style.footnote(figure, _caption(experiment, data, runs))
    return figure


def _set_axes(axes: Axes, rows: pd.DataFrame, x: str) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    label = "epoch" if x == "epoch" else "training time (s)"
    axes.set(yscale="log", xlabel=label, ylabel="perplexity")
    axes.grid(True)
    finite = rows[np.isfinite(rows["value"]) & np.isfinite(rows["high"])]
    shown = finite[finite["step"] >= HIDDEN_SHARE * rows["step"].max()]
    if shown.empty:
        return
    low, high = shown["low"].min(), shown["high"].max()
    axes.set_ylim(low / 1.03, high * 1.03)
    # Perplexities are read as plain numbers; powers of ten alone would leave one tick or none.
    narrow = high < 3 * low
    axes.yaxis.set_major_locator(
        MaxNLocator(7, steps=[1, 2, 5, 10]) if narrow else LogLocator(subs=(1, 1.5, 2, 3, 4, 6))
    )
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:g}")


def _caption(experiment: Experiment, data: pd.DataFrame, runs: pd.DataFrame) -> list[str]:
    used = {case: curves.paired_seeds(runs[runs["case"] == case]) for case in experiment.cases()}
    num_seeds = int(data["num_runs"].max()) if len(data) else 0
    widths = sorted(set(data.loc[data["panel"] == "train", "smoothed_steps"].astype(int)))
    sentences = [
        f"Median over {num_seeds} seeds and its 95 % bootstrap band, the same resampled seeds for "
        "all methods; a diverged run counts as infinite.",
        f"Training: exp of the mean loss over the last {'/'.join(map(str, widths))} steps.",
        f"The first {HIDDEN_SHARE * 100:g} % of training may lie above the panel.",
    ]
    sentences += [
        captions.setting(runs),
        curves.momenta(runs),
        captions.chosen_by(experiment),
        curves.left_out(experiment, used),
        captions.missing(experiment),
    ]
    return [*filter(None, sentences), curves.provenance(runs)]
