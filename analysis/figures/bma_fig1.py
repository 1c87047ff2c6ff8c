"""Fig. 1 of the AdaGrad-BMA paper: gradient descent on two dependent parameters [Lu et al. 2018].

Left: the paths in theta, right: in xi = Lambda^{1/2} U' theta, each with the contours of the loss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis import captions, curves, looks, style
from analysis.frames import MissingRecordsError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.load import Experiment, Records

EXPERIMENTS = ("bma_fig1",)
TITLE = "AdaGrad-BMA paper, Fig. 1"
COUPLING = -0.8  # of the paper's Q = [[1, -0.8], [-0.8, 1]], as in conf/task/quadratic2d.yaml
PANELS = {"theta": "parameters θ", "whitened": "after whitening, ξ = Λ$^{1/2}$U$^T$θ"}
AXES = {"theta": ("θ$_1$", "θ$_2$"), "whitened": ("ξ$_1$", "ξ$_2$")}


def table(records: Records) -> pd.DataFrame:
    """Return the path of the first run of each case, tidy.

    x, y: the point in the panel's coordinates; value: the loss; ratio: of the loss to that of the
    step before; num_runs, num_diverged: as in every table of curves.

    Raises:
        MissingRecordsError: if the experiment is not finished or has no run.
    """
    experiment = records.experiment(EXPERIMENTS[0])
    parts = [_path(experiment, case) for case in experiment.cases()]
    data = pd.concat(parts, ignore_index=True)
    if data.empty:
        raise MissingRecordsError(
            f"experiment {experiment.name} has no run; make it with: {experiment.command}"
        )
    return data


def _path(experiment: Experiment, case: str) -> pd.DataFrame:
    evals = experiment.evals(case)
    if evals.empty:
        return pd.DataFrame()
    own = evals[(evals["seed"] == evals["seed"].min()) & (evals["split"] == "train")]
    wide = own.pivot_table(index="step", columns="metric", values="value", aggfunc="last")
    theta = wide[["theta1", "theta2"]].to_numpy()
    x, y = (theta if case == "theta" else theta @ whitening().T).T
    loss = wide["loss"].to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.concatenate([[np.nan], loss[1:] / loss[:-1]])
    method = own["method"].iloc[0]
    return pd.DataFrame({
        "case": case, "method": method, "step": wide.index, "x": x, "y": y, "value": loss,
        "ratio": ratio, "num_runs": evals["seed"].nunique(),
        "num_diverged": len(curves.diverged_seeds(experiment, case, method)),
    })  # fmt: skip


def whitening() -> np.ndarray:
    """The matrix of xi = Lambda^{1/2} U' theta, shape (2, 2)."""
    axes = np.array([[1.0, 1.0], [1.0, -1.0]]) / np.sqrt(2)
    return np.sqrt([[1 + COUPLING], [1 - COUPLING]]) * axes


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    from matplotlib.figure import Figure

    data = table(records) if data is None else data
    experiment = records.experiment(EXPERIMENTS[0])
    with style.context():
        figure = Figure(figsize=(style.PAGE_WIDTH, 3.6), layout="constrained")
        for axes, case in zip(figure.subplots(1, 2), PANELS, strict=True):
            axes.set_title(PANELS[case])
            _draw_path(axes, case, data[data["case"] == case])
        style.head(figure, captions.heading(TITLE, [experiment], style.PAGE_WIDTH))
        style.footnote(figure, _caption(experiment, data))
    return figure


def _draw_path(axes: Axes, case: str, rows: pd.DataFrame) -> None:
    labels = AXES[case]
    axes.set(xlabel=labels[0], ylabel=labels[1])
    if rows.empty:
        axes.text(0.5, 0.5, "no run", ha="center", transform=axes.transAxes)
        return
    x, y = rows["x"].to_numpy(), rows["y"].to_numpy()
    finite = np.isfinite(x) & np.isfinite(y)
    size = 1.25 * max(np.abs(x[finite]).max(), np.abs(y[finite]).max(), 1e-9)
    grid = np.linspace(-size, size, 201)
    X, Y = np.meshgrid(grid, grid)
    Z = (X**2 + Y**2) / 2 + (COUPLING * X * Y if case == "theta" else 0)
    # Each contour has twice the loss of the one within it.
    start = max(float(rows["value"].iloc[0]), 1e-12)
    axes.contour(X, Y, Z, levels=start * 2.0 ** np.arange(-5, 4), colors="0.8", linewidths=0.6)
    look = looks.line(str(rows["method"].iloc[0]))
    axes.plot(x[finite], y[finite], color=style.BLUE, marker="o", markersize=2.5, linewidth=1,
              label=look["label"])  # fmt: skip
    axes.plot(0, 0, marker="x", color=style.VERMILLION, markersize=5, linestyle="none")
    axes.set(xlim=(-size, size), ylim=(-size, size), aspect="equal")


def _caption(experiment: Experiment, data: pd.DataFrame) -> list[str]:
    said = ["Gradient descent with exact line search; contours double the loss; cross: optimum."]
    for case, rows in data.groupby("case", sort=False):
        loss, ratio = rows["value"].to_numpy(), rows["ratio"].to_numpy()
        # Below this share of the first loss a ratio is round-off of the parameters' float32.
        resolved = ratio[1:][loss[:-1] > 1e-9 * loss[0]]
        name = "θ" if case == "theta" else "ξ"
        if len(resolved):
            said.append(
                f"In {name} the loss falls by the factor {np.median(resolved):.3g} a step (median "
                f"of {len(resolved)})."
            )
    said.append("Published: ((1.8 − 0.2) / (1.8 + 0.2))² = 0.64, and one step after whitening.")
    diverged = data[data["num_diverged"] > 0]
    said += [f"Diverged: {case}." for case in dict.fromkeys(diverged["case"])]
    said.append(captions.missing(experiment))
    runs = experiment.runs()
    return [*filter(None, said), curves.provenance(runs)]
