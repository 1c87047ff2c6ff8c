"""NG+ sections 2.3 and 3: every form of it, how far it comes and what it costs [Yang et al. 2021].

The paper derives these forms and shows none of them apart from (4)-(7).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis import captions, comparison, curves, looks, measures, style
from analysis.frames import MissingRecordsError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.load import Experiment, Records

EXPERIMENTS = ("ngplus_variants",)
MEASUREMENTS = ("ngplus_variant_times",)
TITLE = "NG+ paper, sections 2.3 and 3: its forms"
EQUATIONS = {
    "ng_plus": "eqs. 4-7", "ng_plus_momentum": "eq. 11", "ng_plus_minibatch": "eq. 12",
    "ng_plus_online": "eq. 19", "ng_plus_low_rank": "eq. 14", "ng_plus_sketched": "eqs. 16, 17",
    "ng_plus_block": "eq. 18",
}  # fmt: skip
PANELS = {
    "loss": "training loss, mean of the last tenth",
    "milliseconds": "ms a step,\ncurvature every 10",
    "memory": "state / parameters",
}


def table(records: Records) -> pd.DataFrame:
    """Return a row a method and panel: value, low, high, tuned, num_runs, note.

    panel "loss": median final training loss; "milliseconds": median of the timed steps; "memory":
    bytes of the optimizer's state over those of the parameters. note: why there is no number.

    Raises:
        MissingRecordsError: if the experiment is not finished.
    """
    experiment = records.experiment(*EXPERIMENTS)
    parts = [comparison.endpoints(experiment, "mnist", "loss").assign(panel="loss", note="")]
    parts.append(_memory(experiment))
    try:
        parts.append(_times(records.measurement(*MEASUREMENTS)))
    except MissingRecordsError as error:
        parts.append(pd.DataFrame([{"panel": "milliseconds", "method": "", "note": str(error)}]))
    columns = ["panel", "method", "value", "low", "high", "tuned", "num_runs", "note"]
    return pd.concat(parts, ignore_index=True).reindex(columns=columns)


def _memory(experiment: Experiment) -> pd.DataFrame:
    runs = experiment.runs("mnist").drop_duplicates("method")
    ratio = runs["optimizer_state_bytes"] / (4 * runs["num_parameters"])  # float32
    return pd.DataFrame(
        {"panel": "memory", "method": runs["method"], "value": ratio.astype(float), "note": ""}
    )


def _times(rows: pd.DataFrame) -> pd.DataFrame:
    found = []
    for method, own in rows.groupby("case", sort=False):
        value, low, high = measures.bootstrap_interval(1e3 * own["value"].to_numpy())
        found.append({"method": method, "value": float(value), "low": float(low),
                      "high": float(high)})  # fmt: skip
    return pd.DataFrame(found).assign(panel="milliseconds", note="")


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    from matplotlib.figure import Figure

    data = table(records) if data is None else data
    experiment = records.experiment(*EXPERIMENTS)
    methods = experiment.methods("mnist")
    with style.context():
        figure = Figure(figsize=(style.PAGE_WIDTH, 0.3 * len(methods) + 1.5), layout="constrained")
        grid = figure.subplots(1, len(PANELS), sharey=True, width_ratios=[2, 1, 1])
        for axes, (panel, name) in zip(grid, PANELS.items(), strict=True):
            _draw_panel(axes, data[data["panel"] == panel], methods)
            axes.set_xlabel(name, fontsize=7)
        names = [_name(data, method) for method in methods]
        grid[0].set_yticks(np.arange(len(methods))[::-1], names, fontsize=6)
        grid[0].set_ylim(-0.6, len(methods) - 0.3)
        style.head(figure, captions.heading(TITLE, [experiment], style.PAGE_WIDTH))
        style.footnote(figure, _caption(experiment, data))
    return figure


def _name(data: pd.DataFrame, method: str) -> str:
    """A method with its equation and, below, what was chosen for it."""
    rows = data[(data["panel"] == "loss") & (data["method"] == method)]
    tuned = str(rows["tuned"].iloc[0]).replace(" (grid edge)", ", edge") if len(rows) else ""
    equation = f"  ({EQUATIONS[method]})" if method in EQUATIONS else ""
    return f"{looks.line(method)['label']}{equation}\n{tuned}".strip()


def _draw_panel(axes: Axes, rows: pd.DataFrame, methods: list[str]) -> None:
    axes.grid(True, axis="x")
    missing = [note for note in rows["note"] if note]
    if missing:
        axes.set_xticks([])
        axes.text(0.5, 0.5, "not measured", ha="center", fontsize=7, transform=axes.transAxes)
        return
    found = {row["method"]: row for row in rows.to_dict("records")}
    most = _most(rows)
    for place, method in zip(range(len(methods))[::-1], methods, strict=True):
        row, color = found.get(method), looks.line(method)["color"]
        if row is None or not np.isfinite(row["value"]):
            text = "no run" if row is None or row["num_runs"] == 0 else "diverged"
            axes.text(0.03, place, text, va="center", fontsize=7,
                      transform=axes.get_yaxis_transform())  # fmt: skip
            continue
        high = min(row["high"], most)
        axes.plot([row["low"], high], [place, place], color=color, linewidth=2)
        axes.plot(row["value"], place, "o", color=color, markersize=4)
        if row["high"] > most:
            axes.plot(high, place, ">", color=color, markersize=4)
            axes.annotate(f"to {row['high']:.3g}", (high, place), xytext=(0, 4),
                          textcoords="offset points", ha="right", fontsize=6)  # fmt: skip


def _most(rows: pd.DataFrame) -> float:
    """Where an interval is cut, so that one run far off does not hide the others."""
    values = rows["value"][np.isfinite(rows["value"])]
    if values.empty:
        return np.inf
    low = min(rows["low"].min(), values.min())
    return float(values.max() + 0.5 * (values.max() - low))


def _caption(experiment: Experiment, data: pd.DataFrame) -> list[str]:
    runs = int(data.loc[data["panel"] == "loss", "num_runs"].max())
    said = [
        f"Loss: median over {runs} runs with a 95 % bootstrap interval; below a name what was "
        "chosen, `edge` at an end of its grid. Time: one thread, median of turns.",
        captions.chosen_by(experiment),
        captions.missing(experiment),
        *(f"Not measured: {note}." for note in data["note"] if note),
        curves.provenance(experiment.runs()),
    ]
    return [sentence for sentence in said if sentence]
