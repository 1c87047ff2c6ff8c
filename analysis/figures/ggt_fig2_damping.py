"""GGT section 3.1: Fig. 2's methods against epsilon [Agarwal et al. 2019].

A method's number is its mean sub-optimality over the evaluations of a run after the start, as a
share of that at the start, so that instances of different difficulty can be drawn together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis import captions, curves, looks, measures, style
from analysis.frames import MissingRecordsError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.load import Experiment, Records

EXPERIMENTS = ("ggt_fig2_damping",)
TITLE = "GGT paper, section 3.1: robustness to epsilon"
METHODS = ("sgd", "diag", "diag_window", "full", "full_window")
DAMPINGS = ("1e-8", "1e-6", "1e-4", "1e-2")
COLUMNS = [
    "panel", "case", "method", "setting", "run", "tuned", "num_runs", "num_diverged", "value",
    "low", "high",
]  # fmt: skip


def table(records: Records) -> pd.DataFrame:
    """Return one row a problem, method and epsilon; SGD, which has none, at every epsilon.

    value: median over instances, with a 95 % interval; a diverged run counts as infinite. setting:
    epsilon. run: the method's name in the experiment.

    Raises:
        MissingRecordsError: if the experiment is not finished.
    """
    places = [
        (case, case, method, float(damping), method if method == "sgd" else f"{method}_{damping}")
        for case in ("logistic", "barrier")
        for method in METHODS
        for damping in DAMPINGS
    ]
    return make_table(records.experiment(*EXPERIMENTS), places)


def make_table(
    experiment: Experiment, places: list[tuple[str, str, str, float, str]]
) -> pd.DataFrame:
    """The table, `COLUMNS`, from (panel, case, method, setting, method in the experiment)."""
    rows = []
    for panel, case, method, setting, run in places:
        values = _shares(experiment, case, run)
        diverged = curves.diverged_seeds(experiment, case, run) & set(values.index)
        row = {
            "panel": panel, "case": case, "method": method, "setting": setting, "run": run,
            "tuned": curves.tuned(experiment, case, run), "num_runs": len(values),
            "num_diverged": len(diverged), "value": np.nan, "low": np.nan, "high": np.nan,
        }  # fmt: skip
        if len(values):
            row["value"], row["low"], row["high"] = map(
                float, measures.bootstrap_interval(values.to_numpy())
            )
        rows.append(row)
    data = pd.DataFrame(rows, columns=COLUMNS)
    if not data["num_runs"].any():
        raise MissingRecordsError(
            f"experiment {experiment.name} has no run; make it with: {experiment.command}"
        )
    return data


def _shares(experiment: Experiment, case: str, method: str) -> pd.Series:
    """Each seed's mean sub-optimality over that at the start; inf where the run diverged."""
    evals = experiment.evals(case)
    rows = evals[(evals["method"] == method) & (evals["metric"] == "suboptimality")]
    first = rows[rows["step"] == 0].set_index("seed")["value"]
    shares = rows[rows["step"] > 0].groupby("seed")["value"].mean() / first
    shares[shares.index.isin(curves.diverged_seeds(experiment, case, method))] = np.inf
    return shares.fillna(np.inf)


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    data = table(records) if data is None else data
    panels = {"logistic": "logistic, labels sampled", "barrier": "barrier"}
    return make_figure(records.experiment(*EXPERIMENTS), data, TITLE, "epsilon", panels)


def make_figure(
    experiment: Experiment,
    data: pd.DataFrame,
    title: str,
    xlabel: str,
    panels: Mapping[str, str],
    methods: Sequence[str] = METHODS,
) -> Figure:
    """Draw a table of `make_table`, a panel each for the names in `panels`."""
    from matplotlib.figure import Figure

    drawn = looks.lines(methods)
    with style.context():
        figure = Figure(figsize=(style.PAGE_WIDTH, 3.4), layout="constrained")
        grid = figure.subplots(1, len(panels), squeeze=False)
        for axes, (panel, name) in zip(grid.flat, panels.items(), strict=True):
            rows = data[data["panel"] == panel]
            for method in methods:
                own = rows[(rows["method"] == method) & (rows["num_runs"] > 0)]
                if len(own):
                    curves.draw_curve(axes, own.sort_values("setting"), "setting", drawn[method])
            axes.set(xscale="log", yscale="log", xlabel=xlabel, title=name)
            axes.set_xticks(sorted(set(rows["setting"])))
            axes.minorticks_off()
            axes.set_ylim(*_limits(rows))
            axes.grid(True)
        grid.flat[0].set_ylabel("mean sub-optimality\n/ that at the start")
        style.head(figure, captions.heading(title, [experiment], style.PAGE_WIDTH), drawn.values())
        style.footnote(figure, _caption(experiment, data))
    return figure


def _limits(rows: pd.DataFrame) -> tuple[float, float] | tuple[None, None]:
    """Limits that hold all points and the lower ends of their bands."""
    finite = rows[np.isfinite(rows["value"]) & (rows["low"] > 0)]
    if finite.empty:
        return None, None
    return 0.8 * finite["low"].min(), 1.5 * finite["value"].max()


def _caption(experiment: Experiment, data: pd.DataFrame) -> list[str]:
    numbers = "/".join(map(str, sorted(set(data["num_runs"]))))
    lost = data[data["num_diverged"] > 0].drop_duplicates(["case", "run"])
    diverged = ", ".join(
        f"{row['num_diverged']} of {row['num_runs']} {looks.line(row['method'])['label']} "
        f"({row['panel']} {row['setting']:g})"
        for row in lost.to_dict("records")
    )
    edges = data[data["tuned"].str.contains("edge")].drop_duplicates(["case", "run"])
    said = [
        f"{numbers} instances a point: median with a 95 % bootstrap band; a diverged run counts as "
        "infinite, and a point without a mark is infinite.",
        "Rates are tuned anew at every point, each method with equal trials; all are in the table.",
        f"At an edge of the grid: {len(edges)} of {data['tuned'].astype(bool).sum()} choices.",
        f"Diverged: {diverged}." if diverged else "",
        captions.chosen_by(experiment),
        captions.missing(experiment),
        curves.provenance(experiment.runs()),
    ]
    return [sentence for sentence in said if sentence]
