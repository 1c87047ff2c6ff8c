"""KrADagrad Fig. 1 by precision: statistics and roots in 32 and 64 bits [Mei et al. 2023]."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis import comparison, dots

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = ("kradagrad_fig1_precision",)
TITLE = "KrADagrad paper, Fig. 1, statistics and roots in 32 and 64 bits"
CASE = "n128"
VARIANTS = {
    "s32_r32": "both 32",
    "s32_r64": "roots 64",
    "s64_r32": "statistics 64",
    "s64_r64": "both 64",
}
ROWS = {
    "shampoo": "Shampoo, eigh",
    "shampoo_newton": "Shampoo, Newton",
    "shampoo_eps": "Shampoo, eigh,\neps 1e-4",
    "kradagrad_star": "KrADagrad*, eigh",
    "kradagrad_star_newton": "KrADagrad*, Newton",
    "kradagrad": "KrADagrad, eigh",
    "kradagrad_newton": "KrADagrad, Newton",
    "kradagrad_star_corrected": "KrADagrad*, eigh,\ncorrected",
    "kradagrad_corrected": "KrADagrad, eigh,\ncorrected",
}
NAMES = {(row, variant): f"{row}_{variant}" for row in ROWS for variant in VARIANTS}


def table(records: Records) -> pd.DataFrame:
    """Return the final losses: method, tuned, num_runs, num_diverged, value, low, high.

    Raises:
        MissingRecordsError: if the experiment is not finished.
    """
    return comparison.endpoints(records.experiment(*EXPERIMENTS), CASE, "loss")


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    data = table(records) if data is None else data
    return dots.draw(
        data,
        records.experiment(*EXPERIMENTS),
        title=TITLE,
        rows=ROWS,
        variants=VARIANTS,
        names=NAMES,
        xlabel="training loss over the last tenth of 250 steps",
        sentences=[
            f"Median over {data['num_runs'].max()} seeds with its 95 % bootstrap interval, and the "
            "best of eight rates on three other instances. n = 128, condition 1e10.",
            "The authors' readings unless said, eps 1e-8 unless said. Newton: coupled iteration, "
            "Shampoo's as the authors run it (with a ridge, and kept though it has not converged), "
            "positive roots by way of the inverse one. Corrected: without scaling to the "
            "gradient's norm.",
        ],
    )
