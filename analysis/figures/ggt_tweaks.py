"""GGT section 2.2: what its tweaks change [Agarwal et al. 2019].

The final training loss of each variant, tuned by itself, on text and on images.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis import captions, comparison, curves, looks, style
from analysis.frames import MissingRecordsError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.load import Experiment, Records

EXPERIMENTS = ("ggt_tweaks", "ggt_tweaks_cifar")
TITLE = "GGT paper, section 2.2: variants of GGT"
CASES = {"ggt_tweaks": ("ptb", "PTB, characters"), "ggt_tweaks_cifar": ("cifar10", "CIFAR-10")}
LABELS = {
    "adam": "Adam",
    "ggt": "GGT (r 100, β₂ 1,\nmomentum in window)",
    "ggt_gradient": "gradients in window",
    "ggt_ridge": "ridge 1e-6",
    "ggt_mix": "0.1 v added",
    "ggt_r10": "β₂ .99, r 10",
    "ggt_r25": "β₂ .99, r 25",
    "ggt_r50": "β₂ .99, r 50",
    "ggt_r100": "β₂ .99, r 100",
    "ggt_r200": "β₂ .99, r 200",
}


def table(records: Records) -> pd.DataFrame:
    """Return one row an experiment and variant: `comparison.endpoints`, and `note`.

    note: why an experiment has no rows.

    Raises:
        MissingRecordsError: if neither experiment is finished.
    """
    parts, absent = [], []
    for name, (case, _) in CASES.items():
        try:
            found = comparison.endpoints(records.experiment(name), case, "loss")
            parts.append(found.assign(experiment=name, note=""))
        except MissingRecordsError as error:
            absent.append(str(error))
            parts.append(pd.DataFrame([{"experiment": name, "note": str(error)}]))
    if len(absent) == len(CASES):
        raise MissingRecordsError("; ".join(absent))
    return pd.concat(parts, ignore_index=True)


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    from matplotlib.figure import Figure

    data = table(records) if data is None else data
    experiments = _experiments(records)
    with style.context():
        figure = Figure(figsize=(style.PAGE_WIDTH, 4.2), layout="constrained")
        grid = figure.subplots(1, len(CASES), sharey=True)
        for axes, (name, (_, title)) in zip(grid, CASES.items(), strict=True):
            axes.set_title(title)
            _draw_panel(axes, data[data["experiment"] == name])
        style.head(figure, captions.heading(TITLE, experiments, style.PAGE_WIDTH))
        style.footnote(figure, _caption(experiments))
    return figure


def _draw_panel(axes: Axes, rows: pd.DataFrame) -> None:
    names = list(LABELS)
    axes.set_yticks(np.arange(len(names))[::-1], list(LABELS.values()), fontsize=7)
    axes.set(xlabel="training loss, mean of the last tenth", ylim=(-0.6, len(names) - 0.4))
    axes.grid(True)
    if (rows["note"] != "").any():
        note = textwrap.fill("; ".join(rows["note"]), 34)
        axes.set(xticks=[], xlabel="")
        axes.text(0.5, 0.5, note, ha="center", va="center", fontsize=7, transform=axes.transAxes)
        return
    for row in rows.to_dict("records"):
        place = len(names) - 1 - names.index(row["method"])
        if not np.isfinite(row["value"]):
            text = "no run" if not row["num_runs"] else "diverged"
            axes.text(0.5, place, text, va="center", transform=axes.get_yaxis_transform())
            continue
        look = looks.line("adam" if row["method"] == "adam" else "ggt")
        axes.plot([row["low"], row["high"]], [place, place], color=look["color"], linewidth=2)
        axes.plot(row["value"], place, "o", color=look["color"], markersize=4)
        text = row["tuned"].replace(" (grid edge)", ", edge")
        axes.annotate(
            text, (row["value"], place), xytext=(0, 4), textcoords="offset points", fontsize=6,
            ha="center",
        )  # fmt: skip
    base = rows.loc[rows["method"] == "ggt", "value"]
    if len(base) and np.isfinite(base.iloc[0]):
        axes.axvline(base.iloc[0], color="0.6", linestyle=":", linewidth=0.8)


def _experiments(records: Records) -> list[Experiment]:
    found = []
    for name in EXPERIMENTS:
        try:
            found.append(records.experiment(name))
        except MissingRecordsError:
            continue  # its panel says so
    return found


def _caption(experiments: list[Experiment]) -> list[str]:
    said = []
    for experiment in experiments:
        numbers = experiment.final.groupby("method")["seed"].nunique()
        said.append(f"{experiment.name}: {numbers.max()} runs a variant.")
    said.append(
        "Median over seeds with a 95 % bootstrap interval; dotted: GGT as it is by default."
    )
    said += dict.fromkeys(captions.chosen_by(experiment) for experiment in experiments)
    said += [captions.missing(experiment) for experiment in experiments]
    said.append(curves.provenance(pd.concat([e.runs() for e in experiments])))
    return [sentence for sentence in said if sentence]
