"""NG+ Table 1: epochs and seconds to an accuracy, beside the paper's [Yang et al. 2021].

The accuracy is the one that SGD has at 75 % of the budget, as the ledger's claims have it.
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

EXPERIMENTS = ("ngplus_fig2",)
TITLE = "NG+ paper, Table 1"
CASE, SHARE = "tiny_imagenet", 0.75
# Epochs, hours and seconds an epoch on ImageNet to 75.9 %.
PUBLISHED = {
    "sgd": (76, 10.9, 517), "lars": (74, 10.7, 521), "kfac": (42, 8.0, 686),
    "ng_plus": (40, 6.7, 600),
}  # fmt: skip


def table(records: Records) -> pd.DataFrame:
    """Return a row a method: epochs to the target and their ratio to SGD's, beside the paper's.

    target: median over seeds of SGD's validation accuracy at 75 % of its steps. epochs: median
    over seeds, inf where the target was not reached. reached: runs that did. final: accuracy.

    Raises:
        MissingRecordsError: if the experiment is not finished.
    """
    experiment = records.experiment(*EXPERIMENTS)
    target = _target(experiment)
    epochs = {m: _epochs(experiment, m, target) for m in experiment.methods(CASE)}
    rows = []
    for method, values in epochs.items():
        published = PUBLISHED.get(method, (np.nan,) * 3)
        final = _accuracy(experiment, method)
        row = {
            "method": method, "tuned": curves.tuned(experiment, CASE, method),
            "num_runs": len(values), "target": target, "final": np.nan, "epochs": np.nan,
            "reached": int(np.isfinite(values).sum()),
            "ratio": np.nan, "published_epochs": published[0],
            "published_ratio": published[0] / PUBLISHED["sgd"][0],
        }  # fmt: skip
        if len(values):
            row["epochs"] = measures.median_time(values.to_numpy())
            row["final"] = float(final.groupby("seed")["value"].last().median())
            sgd = measures.median_time(epochs["sgd"].to_numpy())
            row["ratio"] = row["epochs"] / sgd if 0 < sgd < np.inf else np.nan
        rows.append(row)
    return pd.DataFrame(rows)


def _accuracy(experiment: Experiment, method: str) -> pd.DataFrame:
    rows = experiment.evals(CASE)
    chosen = (rows["metric"] == "accuracy") & (rows["split"] == "val")
    return rows[chosen & (rows["method"] == method)].sort_values("step")


def _target(experiment: Experiment) -> float:
    """SGD's median accuracy at the share of its steps; nan without a run."""
    rows = _accuracy(experiment, "sgd")
    early = rows[rows["step"] <= SHARE * rows["step"].max()] if len(rows) else rows
    return float(early.groupby("seed")["value"].last().median())


def _epochs(experiment: Experiment, method: str, target: float) -> pd.Series:
    """Epochs to the target of each seed; inf where it was not reached."""
    rows = _accuracy(experiment, method)
    found = {
        seed: measures.steps_to_target(
            own["epoch"].to_numpy(), own["value"].to_numpy(), target, "max"
        )
        for seed, own in rows.groupby("seed")
    }
    return pd.Series(found, dtype=float)


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    data = table(records) if data is None else data
    shown = pd.DataFrame(
        {
            "method": data["method"],
            "tuned": data["tuned"],
            "epochs": [_epochs_text(row) for row in data.to_dict("records")],
            "/ SGD": data["ratio"],
            "paper: epochs": [number_text(float(v)) for v in data["published_epochs"]],
            "paper: / SGD": data["published_ratio"],
            "accuracy at the end": data["final"],
        }
    )
    said = [
        f"Epochs to a validation accuracy of {data['target'].iloc[0]:.3g}, SGD's median at 75 % of "
        f"the budget: median over {data['num_runs'].max()} runs; evaluated twice an epoch. The "
        "paper: to 75.9 % on ImageNet. Seconds: Fig. 2, and the costs beside.",
    ]
    return comparison.table_figure(shown, TITLE, said, [records.experiment(*EXPERIMENTS)])


def _epochs_text(row: dict) -> str:
    if not row["num_runs"]:
        return "no run"
    if np.isfinite(row["epochs"]):
        return f"{row['epochs']:.3g}"
    return f"not by most runs ({row['reached']} of {row['num_runs']})"
