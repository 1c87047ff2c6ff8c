"""KrADagrad Fig. 1 with momentum and grafting crossed: what each contributes [Mei et al. 2023]."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis import comparison
from analysis.tables import number_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = ("kradagrad_fig1_crossed",)
TITLE = "KrADagrad paper, Fig. 1, momentum and grafting crossed"
CASE = "n128"
COLUMNS = {
    "plain": "neither",
    "momentum": "momentum",
    "graft": "gradient's norm",
    "both": "both",
}
ROWS = {
    "sgd": "SGD",
    "shampoo": "Shampoo, float32",
    "shampoo64": "Shampoo, float64",
    "kradagrad_star": "KrADagrad*",
    "kradagrad": "KrADagrad",
}


def table(records: Records) -> pd.DataFrame:
    """Return the final losses: method, tuned, num_runs, num_diverged, value, low, high.

    Raises:
        MissingRecordsError: if the experiment is not finished.
    """
    return comparison.endpoints(records.experiment(*EXPERIMENTS), CASE, "loss")


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    data = table(records) if data is None else data
    experiment = records.experiment(*EXPERIMENTS)
    found = {row["method"]: row for row in data.to_dict("records")}
    cells = []
    for name, label in ROWS.items():
        line = {"": label}
        for suffix, heading in COLUMNS.items():
            line[heading] = cell_text(found.get(_method(name, suffix)), "the same")
        cells.append(line)
    best = {}
    for row, name in enumerate(ROWS):
        values = [found.get(_method(name, s), {}).get("value", np.inf) for s in COLUMNS]
        if np.isfinite(values).any():
            best[row] = list(COLUMNS.values())[int(np.nanargmin(values))]
    return comparison.table_figure(
        pd.DataFrame(cells),
        TITLE,
        [
            "Training loss over the last tenth of 250 steps: median over "
            f"{data['num_runs'].max()} seeds, 95 % bootstrap interval; the rate that eight trials "
            "chose. n = 128, condition 1e10; corrected readings, heavy ball .9, roots every 3 "
            "steps. Scaling to the gradient's norm leaves SGD as it is.",
        ],
        [experiment],
        bold=set(best.items()),
    )


def _method(name: str, suffix: str) -> str:
    if name == "sgd":
        return {"plain": "sgd", "momentum": "sgd_momentum"}.get(suffix, "")
    return f"{name}_{suffix}"


def cell_text(row: dict | None, absent: str = "–") -> str:
    """A row of `endpoints` for a table: the value with its interval, then what was tuned."""
    if row is None:
        return absent
    if not row["num_runs"]:
        return "no run"
    text = number_text(row["value"], row["low"], row["high"])
    if row["num_diverged"]:
        text = f"{text}, {row['num_diverged']}/{row['num_runs']} diverged"
    return f"{text}, {row['tuned']}" if row["tuned"] else text
