"""KrADagrad Fig. 1 by precision: statistics and roots in 32 and 64 bits [Mei et al. 2023]."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from analysis import comparison
from analysis.figures.kradagrad_fig1_crossed import cell_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = ("kradagrad_fig1_precision",)
TITLE = "KrADagrad paper, Fig. 1, statistics and roots in 32 and 64 bits"
CASE = "n128"
COLUMNS = {
    "s32_r32": "both 32",
    "s32_r64": "roots 64",
    "s64_r32": "statistics 64",
    "s64_r64": "both 64",
}
ROWS = {
    "shampoo": "Shampoo, eigh",
    "shampoo_newton": "Shampoo, Newton",
    "shampoo_eps": "Shampoo, eigh, eps 1e-4",
    "kradagrad_star": "KrADagrad*, eigh",
    "kradagrad_star_newton": "KrADagrad*, Newton",
    "kradagrad": "KrADagrad, eigh",
    "kradagrad_newton": "KrADagrad, Newton",
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
    found = {row["method"]: row for row in data.to_dict("records")}
    lines = [
        {"": label}
        | {heading: cell_text(found.get(f"{name}_{key}")) for key, heading in COLUMNS.items()}
        for name, label in ROWS.items()
    ]
    return comparison.table_figure(
        pd.DataFrame(lines),
        TITLE,
        [
            "Training loss over the last tenth of 250 steps: median over "
            f"{data['num_runs'].max()} seeds, 95 % bootstrap interval; the rate that eight trials "
            "chose. n = 128, condition 1e10, eps 1e-8 unless said; the authors' readings. Newton: "
            "coupled iteration, positive roots by way of the inverse one. – : not run.",
        ],
        [records.experiment(*EXPERIMENTS)],
    )
