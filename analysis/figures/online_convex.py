"""Regret on online convex streams, and the adaptive ratio mu, against steps and dimension.

No figure of a paper: what the papers bound [Mei et al. 2023, Theorem 3.6; Agarwal et al. 2019,
section 4.1 and slides], measured: regret of the runs of `online_convex`, regret on a longer stream,
mu against the steps, and mu against the dimension. Regret is drawn over the square root of the
steps: what a bound allows is flat.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from analysis import captions, curves, looks, regrets, style
from analysis.frames import MissingRecordsError
from analysis.panel_axes import write_note

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = ("online_convex",)
MEASUREMENTS = (regrets.LONG, regrets.RATIO, regrets.RATIO_DIMS)
TITLE = "Regret and adaptivity on convex streams"
COLUMNS = ["experiment", *curves.COLUMNS, "slope", "note"]
WORDS = ("experiment", "tuned", "note")
PROBLEMS = {
    "box": "piecewise linear", "least_squares": "least squares", "logistic": "logistic regression",
}  # fmt: skip
MARKERS = {"box": "o", "least_squares": "s", "logistic": "^"}
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
    Panel(regrets.LONG, "piecewise linear, longer", REGRET),
    Panel(regrets.RATIO, "μ of the mean point", "μ"),
    Panel(regrets.RATIO_DIMS, "μ of the regret", "μ", "dimension d"),
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
                part = regrets.of_measurement(records.measurement(panel.source), panel.source)
            else:
                part = regrets.of_runs(records.experiment(EXPERIMENTS[0]), panel.source)
        except MissingRecordsError as error:
            part = pd.DataFrame({"note": [str(error)]})
        empty = {column: "" for column in WORDS if column not in part}
        parts.append(part.assign(panel=panel.source, **empty))
    if all("value" not in part for part in parts):
        raise MissingRecordsError("; ".join(dict.fromkeys(part["note"].iloc[0] for part in parts)))
    data = pd.concat(parts, ignore_index=True).reindex(columns=COLUMNS)
    return data.fillna({"num_diverged": 0})


# ---------------------------------------------------------------- the drawing


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    from matplotlib.figure import Figure

    data = table(records) if data is None else data
    drawn = looks.lines(list(dict.fromkeys(data["method"].dropna())))
    with style.context():
        figure = Figure(figsize=(style.PAGE_WIDTH, 8.2), layout="constrained")
        for axes, panel in zip(figure.subplots(3, 2).flat, PANELS, strict=True):
            _draw_panel(axes, panel, data[data["panel"] == panel.source], drawn)
        style.head(figure, TITLE, drawn.values())
        style.footnote(figure, _caption(records, data))
    return figure


def _draw_panel(
    axes: Axes, panel: Panel, rows: pd.DataFrame, drawn: Mapping[str, Mapping[str, Any]]
) -> None:
    axes.set_title(panel.title)
    axes.set(xlabel=panel.xlabel, ylabel=panel.ylabel)
    if rows["value"].isna().all():
        write_note(axes, rows["note"].iloc[0] if len(rows) else "no run")
        return
    for (method, case), curve in rows.groupby(["method", "case"], sort=False):
        look = drawn[method]
        finite = curve[np.isfinite(curve["value"])]
        x = finite["step"].to_numpy(dtype=float)
        unit = np.sqrt(x) if panel.ylabel == REGRET else np.ones_like(x)
        value, low, high = (finite[column].to_numpy() / unit for column in ("value", "low", "high"))
        marker = MARKERS.get(case, "o") if panel.source == regrets.RATIO else "o"
        axes.plot(x, value, **{**look, "linewidth": 1.0}, marker=marker, markersize=2.8)
        drawn_band = np.isfinite(low) & np.isfinite(high)
        axes.fill_between(
            x, low, high, where=drawn_band, color=look["color"], alpha=0.08, linewidth=0
        )
    if panel.source == regrets.RATIO:
        _name_problems(axes, rows)
    _finish(axes, panel, rows)


def _name_problems(axes: Axes, rows: pd.DataFrame) -> None:
    """Name the marks of the problems in a legend that has a strip of its own below the curves."""
    for case in dict.fromkeys(rows["case"]):
        axes.plot([], [], color="0.4", linestyle="none", marker=MARKERS.get(case, "o"),
                  markersize=3.5, label=PROBLEMS.get(case, case))  # fmt: skip
    low, high = rows["low"].min(), rows["high"].max()
    axes.set_ylim(low / (high / low) ** 0.25, 1.2 * high)
    handles, labels = axes.get_legend_handles_labels()
    marks = [(h, text) for h, text in zip(handles, labels, strict=True) if not len(h.get_xdata())]
    axes.legend(
        *zip(*marks, strict=True), loc="lower center", ncols=len(marks), fontsize=6.5,
        handletextpad=0, columnspacing=0.5, handlelength=1.6,
    )  # fmt: skip


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
        for power, name in ((-0.5, "1/√d"), (0.5, "√d")):
            axes.plot(d, d**power, color="0.5", linewidth=0.7, linestyle=":")
            axes.annotate(name, (d[-1], d[-1] ** power), xytext=(-6, 5), ha="right", va="bottom",
                          textcoords="offset points", fontsize=7, color="0.4")  # fmt: skip
        axes.xaxis.set_major_locator(FixedLocator(d))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(True)


def _caption(records: Records, data: pd.DataFrame) -> list[str]:
    said = [
        "Regret: sum of losses minus that of the best fixed point up to the same step.",
        "Medians over seeds with 95 % bootstrap bands.",
        *_slopes(data),
        "The longer stream and μ: seeded loops of the same optimizers; rates are chosen on other "
        "seeds, with equal trials.",
    ]
    shown = data[data["value"].notna()]
    counts = shown.groupby("panel", sort=False)["num_runs"].max().astype(int)
    titles = {panel.source: panel.title for panel in PANELS}
    said.append("Runs a curve: " + ", ".join(f"{titles[p]} {n}" for p, n in counts.items()) + ".")
    ran = shown[shown["experiment"] != ""]
    said += [captions.tuned_values(ran), captions.diverged(ran)]
    for name in MEASUREMENTS:
        rows = shown[shown["panel"] == name].drop_duplicates(["method", "case"])
        parts = [
            f"{looks.line(row['method'])['label']}"
            + (f" ({PROBLEMS.get(row['case'], row['case'])})" if name == regrets.RATIO else "")
            + f" {row['tuned']}"
            for row in rows.to_dict("records")
        ]
        said += [f"{titles[name]}: {', '.join(parts)}."] if parts else []
    missing = [note for note in dict.fromkeys(data["note"]) if note]
    said += [f"Missing: {note}." for note in missing]
    if len(ran):
        experiment = records.experiment(EXPERIMENTS[0])
        cases = [panel.source for panel in PANELS[:3]]
        said += captions.of_experiment(experiment, cases, experiment.methods(cases[0]))
        said.append(curves.provenance(experiment.runs()))
    return [sentence for sentence in said if sentence]


def _slopes(data: pd.DataFrame) -> list[str]:
    """A sentence with the slopes of the curves against steps; none without them."""
    parts = []
    for panel in PANELS:
        rows = data[(data["panel"] == panel.source) & np.isfinite(data["slope"])]
        rows = rows.drop_duplicates(["method", "case"])
        named = [
            f"{looks.line(row['method'])['label']}"
            + (f" ({PROBLEMS.get(row['case'], row['case'])})" if panel.ylabel != REGRET else "")
            + f" {row['slope']:.2f}"
            for row in rows.to_dict("records")
        ]
        parts += [f"{panel.title}: {', '.join(named)}"] if named else []
    what = f"Mean slopes of log regret, or log μ, on log steps from {regrets.FIRST} on"
    return [f"{what} (bounds: ½, and 0): {'; '.join(parts)}."] if parts else []
