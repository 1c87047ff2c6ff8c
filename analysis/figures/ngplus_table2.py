"""NG+ Tables 2 and 3: epochs, iterations and rates of larger batches [Yang et al. 2021].

The target is the accuracy that the small batch has at 25 % of the budget, as in the ledger.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis import comparison, curves, measures
from analysis.tables import number_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.load import Experiment, Records

EXPERIMENTS = ("ngplus_batch_size",)
TITLE = "NG+ paper, Tables 2 and 3"
CASE, SMALL, SHARE = "mnist", "ng_plus_x1", 0.25
BATCHES = {"ng_plus_x1": 16, "ng_plus_x8": 128, "ng_plus_x16": 256}
# Batch, epochs, iterations and base rate on ImageNet.
PUBLISHED = {
    "ng_plus_x1": (256, 40, 200_000, 0.18), "ng_plus_x8": (2048, 41, 25_600, 1.3),
    "ng_plus_x16": (4096, 41, 12_800, 2.6),
}  # fmt: skip


def table(records: Records) -> pd.DataFrame:
    """Return a row a batch size: epochs and iterations to the target, medians over seeds.

    Raises:
        MissingRecordsError: if the experiment is not finished.
    """
    experiment = records.experiment(*EXPERIMENTS)
    small = _accuracy(experiment, SMALL)
    early = small[small["step"] <= SHARE * small["step"].max()] if len(small) else small
    target = float(early.groupby("seed")["value"].last().median())
    rows = []
    for method, batch in BATCHES.items():
        own = _accuracy(experiment, method)
        row = {
            "method": method, "batch": batch, "tuned": curves.tuned(experiment, CASE, method),
            "num_runs": own["seed"].nunique(), "target": target, "epochs": np.nan,
            "iterations": np.nan,
        }  # fmt: skip
        if len(own):
            for column, name in (("epoch", "epochs"), ("step", "iterations")):
                times = [
                    measures.steps_to_target(
                        one[column].to_numpy(), one["value"].to_numpy(), target, "max"
                    )
                    for _, one in own.groupby("seed")
                ]
                row[name] = measures.median_time(np.array(times))
        names = ("published_batch", "published_epochs", "published_iterations", "published_lr")
        rows.append({**row, **dict(zip(names, PUBLISHED[method], strict=True))})
    return pd.DataFrame(rows)


def _accuracy(experiment: Experiment, method: str) -> pd.DataFrame:
    rows = experiment.evals(CASE)
    chosen = (rows["metric"] == "accuracy") & (rows["split"] == "test")
    return rows[chosen & (rows["method"] == method)].sort_values("step")


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    data = table(records) if data is None else data
    runs = data["num_runs"] > 0
    shown = pd.DataFrame(
        {
            "batch": data["batch"],
            "tuned": data["tuned"],
            "epochs": _numbers(data["epochs"], runs),
            "iterations": _numbers(data["iterations"], runs),
            "paper: batch": data["published_batch"],
            "epochs ": data["published_epochs"],
            "iterations ": data["published_iterations"],
            "rate ": data["published_lr"],
        }
    )
    said = [
        f"To a test accuracy of {data['target'].iloc[0]:.3g}, which batches of 16 have at 25 % of "
        f"two epochs: median over {data['num_runs'].max()} runs, evaluated twelve times an epoch. "
        "Larger batches are accumulated from 16 images. The paper: to 75.9 % on ImageNet.",
    ]
    return comparison.table_figure(shown, TITLE, said, [records.experiment(*EXPERIMENTS)])


def _numbers(values: pd.Series, runs: pd.Series) -> list[str]:
    return [
        number_text(round(value) if value > 100 else float(value))
        if value < np.inf
        else "not reached"
        if run
        else "no run"
        for value, run in zip(values, runs, strict=True)
    ]
