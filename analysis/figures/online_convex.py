"""Regret on online convex streams, and the adaptive ratio mu, against steps and dimension.

No figure of a paper: what the papers bound [Mei et al. 2023, Theorem 3.6; Agarwal et al. 2019,
section 4.1 and slides], measured. Top: regret of the runs of `online_convex`. Bottom: regret on a
longer stream, mu against the steps, and mu against the dimension. Regret is drawn over the square
root of the steps: what a bound allows is flat.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from analysis import captions, curves, looks, measures, stacked, style
from analysis.frames import MissingRecordsError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.load import Experiment, Records

EXPERIMENTS = ("online_convex",)
MEASUREMENTS = ("online_regret_long", "online_ratio", "online_ratio_dims")
TITLE = "Regret and adaptivity on convex streams"
COLUMNS = ["experiment", *curves.COLUMNS, "slope", "note"]
# Slopes are taken from here on, as by the claims.
FIRST = 100
_FACT = "task_facts.comparator_"
REGRET = "regret / √steps"


class Panel(NamedTuple):
    """A panel: the case of the experiment or the measurement that it shows, and its words."""

    source: str
    title: str
    ylabel: str
    xlabel: str = "steps"


PANELS = (
    Panel("box", "piecewise linear", REGRET),
    Panel("absolute", "absolute regression", REGRET),
    Panel("logistic", "logistic regression", REGRET),
    Panel(MEASUREMENTS[0], "piecewise linear, longer", REGRET),
    Panel(MEASUREMENTS[1], "μ of the mean point", "μ"),
    Panel(MEASUREMENTS[2], "μ of the regret", "μ", "dimension d"),
)


def table(records: Records) -> pd.DataFrame:
    """Return the curves of all panels: medians over seeds with 95 % bootstrap intervals.

    step: steps, in the last panel the dimension; slope: of log value on log step from 100 on, the
    mean over seeds; note: why a panel is empty.

    Raises:
        MissingRecordsError: if there are neither runs nor a measurement.
    """
    parts = []
    for panel in PANELS:
        try:
            if panel.source in MEASUREMENTS:
                part = _measured(records.measurement(panel.source), panel.source)
            else:
                part = _regrets(records.experiment(EXPERIMENTS[0]), panel.source)
        except MissingRecordsError as error:
            part = pd.DataFrame({"note": [str(error)]})
        parts.append(part.assign(panel=panel.source))
    if all("value" not in part for part in parts):
        raise MissingRecordsError("; ".join(dict.fromkeys(part["note"].iloc[0] for part in parts)))
    data = pd.concat(parts, ignore_index=True).reindex(columns=COLUMNS)
    return data.fillna({"note": "", "tuned": "", "experiment": "", "num_diverged": 0})


def _regrets(experiment: Experiment, case: str) -> pd.DataFrame:
    """Sums of training losses minus the comparators that the runs' facts have."""
    runs = experiment.runs(case)
    frame = experiment.steps(case)
    seeds = curves.paired_seeds(frame) or sorted(set(frame["seed"]))
    parts = []
    for method in experiment.methods(case):
        rows = frame[(frame["method"] == method) & frame["seed"].isin(seeds)]
        own = [seed for seed in seeds if seed in set(rows["seed"])]
        if not own:
            continue
        diverged = curves.diverged_seeds(experiment, case, method) & set(own)
        losses = stacked.side_by_side(rows, "loss", own, diverged)
        facts = runs[runs["method"] == method].set_index("seed").loc[own]
        names = [column for column in facts.columns if str(column).startswith(_FACT)]
        marks = sorted(int(name.removeprefix(_FACT)) for name in names)
        marks = [k for k in marks if k <= len(losses.steps)]
        best = facts[[f"{_FACT}{k}" for k in marks]].to_numpy(dtype=float)
        paid = losses.values.cumsum(axis=1)[:, [k - 1 for k in marks]]
        parts.append(_curve(marks, paid - best).assign(
            experiment=experiment.name, case=case, method=method, num_runs=len(own),
            tuned=curves.tuned(experiment, case, method), num_diverged=len(diverged),
        ))  # fmt: skip
    if not parts:
        raise MissingRecordsError(f"{case}: no run; make it with: {experiment.command}")
    return pd.concat(parts, ignore_index=True)


def _measured(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """The curves of a measurement, one a method and problem."""
    x = "dim" if name == MEASUREMENTS[2] else "horizon"
    quantity = {MEASUREMENTS[0]: "regret", MEASUREMENTS[1]: "gap_ratio"}.get(name, "regret_ratio")
    rows = frame[frame["quantity"] == quantity]
    rows = rows[rows["horizon"] == rows["horizon"].max()] if x == "dim" else rows
    problem = "problem" if name == MEASUREMENTS[1] else "quantity"
    parts = []
    for (method, case), own in rows.groupby(["method", problem], sort=False):
        wide = own.pivot(index="seed", columns=x, values="value")
        rates = "/".join(f"{lr:g}" for lr in sorted(set(own["lr"])))
        parts.append(_curve(list(wide.columns), wide.to_numpy()).assign(
            case=case, method=method, num_runs=len(wide), tuned=f"lr {rates}", num_diverged=0,
        ))  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def _curve(x: list[int], values: np.ndarray) -> pd.DataFrame:
    """Median and interval of values (seeds, points), and the mean slope over seeds."""
    center, low, high = measures.bootstrap_interval(values)
    if len(values) == 1:
        low = high = np.full(len(x), np.nan)
    chosen = np.array(x) >= FIRST
    slope = np.nan
    if chosen.sum() > 1 and np.isfinite(values[:, chosen]).all() and (values[:, chosen] > 0).all():
        fits = [np.polyfit(np.log(np.array(x)[chosen]), np.log(row[chosen]), 1) for row in values]
        slope = float(np.mean([fit[0] for fit in fits]))
    columns = {"step": x, "value": center, "low": low, "high": high}
    return pd.DataFrame({**columns, "slope": slope})


# ---------------------------------------------------------------- the drawing


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    from matplotlib.figure import Figure

    data = table(records) if data is None else data
    with style.context():
        figure = Figure(figsize=(style.PAGE_WIDTH, 5.4), layout="constrained")
        for axes, panel in zip(figure.subplots(2, 3).flat, PANELS, strict=True):
            _draw_panel(axes, panel, data[data["panel"] == panel.source])
        style.head(figure, TITLE)
        style.footnote(figure, _caption(records, data))
    return figure


def _draw_panel(axes: Axes, panel: Panel, rows: pd.DataFrame) -> None:
    axes.set_title(panel.title)
    axes.set(xlabel=panel.xlabel, ylabel=panel.ylabel)
    if rows["value"].isna().all():
        note = rows["note"].iloc[0] if len(rows) else "no run"
        axes.text(0.5, 0.5, note, ha="center", va="center", wrap=True, fontsize=6,
                  transform=axes.transAxes)  # fmt: skip
        axes.set(xticks=[], yticks=[])
        return
    several = panel.source == MEASUREMENTS[1]
    names = {
        key: f"{key[0]}_{key[1]}" if several else key[0]
        for key, _ in rows.groupby(["method", "case"], sort=False)
    }
    drawn = looks.lines(list(names.values()))
    for key, curve in rows.groupby(["method", "case"], sort=False):
        look = drawn[names[key]]
        slope = curve["slope"].iloc[0]
        said = [look["label"]]
        if np.isfinite(slope) and panel.xlabel == "steps":
            said.append(f"{slope:.2f}")
        if curve["num_diverged"].iloc[0]:
            said.append(f"{int(curve['num_diverged'].iloc[0])} diverged")
        finite = curve[np.isfinite(curve["value"])]
        x = finite["step"].to_numpy(dtype=float)
        unit = np.sqrt(x) if panel.ylabel == REGRET else np.ones_like(x)
        value, low, high = (finite[column].to_numpy() / unit for column in ("value", "low", "high"))
        look = {**look, "label": ", ".join(said), "linewidth": 1.0}
        axes.plot(x, value, **look, marker="o", markersize=1.8)
        drawn_band = np.isfinite(low) & np.isfinite(high)
        axes.fill_between(
            x, low, high, where=drawn_band, color=look["color"], alpha=0.08, linewidth=0
        )
    _finish(axes, panel, rows)


def _finish(axes: Axes, panel: Panel, rows: pd.DataFrame) -> None:
    from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator, ScalarFormatter

    axes.set_xscale("log")
    if panel.ylabel == REGRET:
        axes.set_ylim(bottom=0)
    else:
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    if panel.xlabel != "steps":
        d = np.array(sorted(set(rows["step"])), dtype=float)
        axes.plot(d, d**-0.5, color="0.5", linewidth=0.7, linestyle=":", label="1/√d and √d")
        axes.plot(d, d**0.5, color="0.5", linewidth=0.7, linestyle=":")
        axes.xaxis.set_major_locator(FixedLocator(d))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(True)
    handles, labels = axes.get_legend_handles_labels()
    if panel.source == MEASUREMENTS[1]:
        # Six curves leave no room inside: it is made below them.
        low, high = axes.get_ylim()
        axes.set_ylim(low / (high / low) ** 0.7, high)
    rising = panel.ylabel == REGRET and panel.source != "logistic"
    place = "lower right" if rising else "lower left"
    axes.legend(handles, labels, loc=place, fontsize=5.5, handlelength=2.6, labelspacing=0.25)


def _caption(records: Records, data: pd.DataFrame) -> list[str]:
    said = [
        "Regret: sum of losses minus that of the best fixed point up to the same step.",
        "Medians over seeds with 95 % bootstrap bands; numbers in legends: mean slopes of log "
        "regret, or log μ, on log steps from 100 on (bounds: ½ for regret, 0 for μ).",
        "Bottom: seeded loops of the same optimizers; rates are chosen on other seeds, with equal "
        "trials.",
    ]
    shown = data[data["value"].notna()]
    counts = shown.groupby("panel", sort=False)["num_runs"].max().astype(int)
    titles = {panel.source: panel.title for panel in PANELS}
    said.append("Runs a curve: " + ", ".join(f"{titles[p]} {n}" for p, n in counts.items()) + ".")
    said.append(captions.tuned_values(shown[shown["experiment"] != ""]))
    for name in MEASUREMENTS:
        rows = shown[shown["panel"] == name].drop_duplicates(["method", "case"])
        parts = [
            f"{looks.line(row['method'])['label']}"
            + (f" ({row['case']})" if name == MEASUREMENTS[1] else "")
            + f" {row['tuned']}"
            for row in rows.to_dict("records")
        ]
        said += [f"{titles[name]}: {', '.join(parts)}."] if parts else []
    missing = [note for note in dict.fromkeys(data["note"]) if note]
    said += [f"Missing: {note}." for note in missing]
    if (shown["experiment"] != "").any():
        experiment = records.experiment(EXPERIMENTS[0])
        cases = [panel.source for panel in PANELS[:3]]
        said += captions.of_experiment(experiment, cases, experiment.methods(cases[0]))
        said.append(curves.provenance(experiment.runs()))
    return [sentence for sentence in said if sentence]
