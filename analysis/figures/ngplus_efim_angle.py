"""NG+ section 2.2: its direction beside the exact natural gradient's [Yang et al. 2021].

Cosines with (damping I + EFIM)^-1 g on the layers of a CNN, along runs of NG+ on MNIST. The paper
calls its direction a good approximation and shows no angle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis import looks, measures, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = ()
MEASUREMENTS = ("ngplus_angle",)
TITLE = "NG+ paper, section 2.2: cosine with the natural gradient"
DIRECTIONS = {
    "printed": ("NG+, (damping I + L)⁻¹ G", looks.WINE, looks.SOLID),
    "normalised": ("with L / n", looks.WINE, looks.DOTTED),
    "plain": ("plain gradient", looks.BLACK, looks.DASHED),
}
LAYERS = {
    "features.conv1_1": "conv 1", "features.conv2_1": "conv 2", "features.conv3_1": "conv 3",
    "features.conv4_1": "conv 4", "readout": "read-out",
}  # fmt: skip


def table(records: Records) -> pd.DataFrame:
    """Return a row a damping, layer, step and direction: mean over seeds, low, high, num_seeds.

    Raises:
        MissingRecordsError: if the measurement was not made.
    """
    rows = records.measurement("ngplus_angle")
    found = []
    for (damping, layer, step), own in rows[rows["layer"] != "all"].groupby(
        ["damping", "layer", "step"], sort=False
    ):
        for direction in DIRECTIONS:
            values = own.sort_values("seed")[direction].to_numpy()
            value, low, high = measures.bootstrap_interval(values, "mean")
            found.append({
                "damping": damping, "layer": layer, "step": step, "direction": direction,
                "value": float(value), "low": float(low), "high": float(high),
                "num_seeds": len(values),
            })  # fmt: skip
    return pd.DataFrame(found)


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    from matplotlib.figure import Figure

    data = table(records) if data is None else data
    dampings = sorted(set(data["damping"]), reverse=True)
    with style.context():
        figure = Figure(figsize=(style.PAGE_WIDTH, 1.6 * len(dampings) + 1), layout="constrained")
        grid = figure.subplots(len(dampings), len(LAYERS), sharex=True, sharey=True, squeeze=False)
        for line, damping in zip(grid, dampings, strict=True):
            for axes, (layer, name) in zip(line, LAYERS.items(), strict=True):
                own = data[(data["damping"] == damping) & (data["layer"] == layer)]
                _draw_panel(axes, own)
                axes.set_title(name if damping == dampings[0] else "")
            line[0].set_ylabel(f"damping {damping:g}\ncosine")
        for axes in grid[-1]:
            axes.set_xlabel("step")
        entries = [
            {"color": color, "linestyle": line, "label": label}
            for label, color, line in DIRECTIONS.values()
        ]
        style.head(figure, TITLE, entries)
        style.footnote(figure, _caption(data))
    return figure


def _draw_panel(axes: Axes, rows: pd.DataFrame) -> None:
    for direction, (_, color, line) in DIRECTIONS.items():
        own = rows[rows["direction"] == direction].sort_values("step")
        x = own["step"].to_numpy()
        axes.plot(x, own["value"], color=color, linestyle=line, marker="o", markersize=2.5)
        low, high = own["low"].to_numpy(), own["high"].to_numpy()
        axes.fill_between(x, low, high, color=color, alpha=0.12, linewidth=0)
    axes.set_ylim(0, 1.03)
    axes.set_yticks(np.linspace(0, 1, 5))
    axes.grid(True)


def _caption(data: pd.DataFrame) -> list[str]:
    return [
        f"Mean over {data['num_seeds'].max()} runs, 95 % bootstrap band; small CNN of the "
        "AdaGrad-BMA paper (322 parameters) on MNIST, batches of 32, lr 0.1, damping 0.16, "
        "curvature every 10 steps; EFIM, L and g over 512 images that are not trained on.",
        "With L / n: I ⊗ L / n has the scale of EFIM, which I ⊗ L exceeds n times.",
    ]
