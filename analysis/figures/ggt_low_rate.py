"""GGT section 3.2: what low learning rates do to training and generalisation [Agarwal et al. 2019].

The final training loss and test accuracy against the rate, up to the rate that was tuned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis import captions, comparison, curves, looks, style
from analysis.frames import MissingRecordsError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.load import Experiment, Records

EXPERIMENTS = ("ggt_cifar_text", "ggt_low_rate")
TITLE = "GGT paper, section 3.2: low learning rates"
CASE = "cosine"
OPTIMIZERS = ("sgd", "adam", "ggt")
QUANTITIES = {"loss": ("min", "training loss"), "accuracy, test": ("max", "test accuracy")}


def table(records: Records) -> pd.DataFrame:
    """Return one row a quantity, optimizer and rate: `comparison.endpoints` with `lr` and `name`.

    name: the optimizer; method: as in its experiment; note: why an experiment has no rows.

    Raises:
        MissingRecordsError: if neither experiment is finished.
    """
    parts, absent = [], []
    for name in EXPERIMENTS:
        try:
            experiment = records.experiment(name)
        except MissingRecordsError as error:
            absent.append(str(error))
            parts.append(pd.DataFrame([{"experiment": name, "note": str(error)}]))
            continue
        for y, (direction, _) in QUANTITIES.items():
            found = comparison.endpoints(experiment, CASE, y, direction=direction)
            found["name"] = found["method"].str.split("_").str[0]
            found = found[found["name"].isin(OPTIMIZERS)]
            rates = [_rate(experiment, method) for method in found["method"]]
            parts.append(found.assign(lr=rates, experiment=name, note=""))
    if len(absent) == len(EXPERIMENTS):
        raise MissingRecordsError("; ".join(absent))
    return pd.concat(parts, ignore_index=True)


def _rate(experiment: Experiment, method: str) -> float:
    """The tuned learning rate, or the one in the method's name."""
    choice = experiment.choice
    rows = choice[(choice["case"] == CASE) & (choice["method"] == method)]
    values = rows["values"].iloc[0] if len(rows) else {}
    return float(values["optimizer.lr"] if values else method.rsplit("_", 1)[-1])


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    from matplotlib.figure import Figure

    data = table(records) if data is None else data
    experiments = _experiments(records)
    drawn = looks.lines(OPTIMIZERS)
    with style.context():
        figure = Figure(figsize=(style.PAGE_WIDTH, 3.2), layout="constrained")
        grid = figure.subplots(1, len(QUANTITIES))
        for axes, (y, (_, label)) in zip(grid, QUANTITIES.items(), strict=True):
            _draw_panel(axes, data[data["y"] == y], drawn)
            axes.set_ylabel(label)
        heading = captions.heading(TITLE, experiments, style.PAGE_WIDTH)
        style.head(figure, heading, drawn.values())
        style.footnote(figure, _caption(experiments, data))
    return figure


def _draw_panel(axes: Axes, rows: pd.DataFrame, drawn: dict) -> None:
    for name in OPTIMIZERS:
        own = rows[(rows["name"] == name) & np.isfinite(rows["value"])].sort_values("lr")
        if own.empty:
            continue
        curves.draw_curve(axes, own, "lr", drawn[name])
        tuned = own[own["experiment"] == EXPERIMENTS[0]]
        axes.plot(
            tuned["lr"], tuned["value"], "*", color=drawn[name]["color"], markersize=9, zorder=5
        )
    axes.set(xscale="log", xlabel="learning rate")
    axes.grid(True)


def _experiments(records: Records) -> list[Experiment]:
    found = []
    for name in EXPERIMENTS:
        try:
            found.append(records.experiment(name))
        except MissingRecordsError:
            continue  # the caption says so
    return found


def _caption(experiments: list[Experiment], data: pd.DataFrame) -> list[str]:
    numbers = "/".join(map(str, sorted(set(data["num_runs"].dropna().astype(int)))))
    lost = data[(data["num_diverged"] > 0) & (data["y"] == "loss")]
    said = [
        f"{numbers} runs a point: median with a 95 % bootstrap band. Stars: the tuned rates.",
        "The paper says that a low enough rate trains better and generalises over 3 points worse.",
        *(f"{note[0].upper()}{note[1:]}." for note in dict.fromkeys(data["note"]) if note),
    ]
    if len(lost):
        said.append("Diverged: " + ", ".join(lost["method"]) + ".")
    said += [captions.missing(experiment, [CASE]) for experiment in experiments]
    said.append(curves.provenance(pd.concat([e.runs(CASE) for e in experiments])))
    return [sentence for sentence in said if sentence]
