"""Table 4 of the AdaGrad-BMA paper: time of an iteration on MNIST [Lu et al. 2018]."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis import measures
from analysis.comparison import table_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = ()
MEASUREMENTS = ("bma_iteration",)
TITLE = "AdaGrad-BMA paper, Table 4"
LABELS = {
    "diag": "AdaGrad-diag",
    "full": "AdaGrad-full",
    "bma_every_10": "AdaGrad-BMA, root every 10",
}
PUBLISHED = {
    ("small", "full"): 16.85, ("small", "diag"): 5.70, ("small", "bma"): 10.07,
    ("large", "diag"): 7.55, ("large", "bma"): 19.12,
}  # fmt: skip


def table(records: Records) -> pd.DataFrame:
    """Return a row a model and method: milliseconds an iteration, and over AdaGrad-diag.

    ms: median over the turns; ratio: of the medians, with its 95 % interval paired by turn.

    Raises:
        MissingRecordsError: if it was not measured.
    """
    rows = records.measurement("bma_iteration")
    rows = rows[rows["part"] == "iteration"]
    found = []
    for model, own in rows.groupby("model", sort=False):
        wide = own.pivot(index="seed", columns="case", values="value")
        for method in dict.fromkeys(own["case"]):
            published = PUBLISHED.get((model, method), np.nan)
            ratio = (wide[method] / wide["diag"]).to_numpy()
            value, low, high = (float(v) for v in measures.bootstrap_interval(ratio, "median"))
            found.append({
                "model": model, "method": method, "num_turns": len(wide),
                "ms": 1e3 * wide[method].median(), "published": published,
                "ratio": value, "low": low, "high": high,
                "published_ratio": published / PUBLISHED[model, "diag"],
            })  # fmt: skip
    return pd.DataFrame(found)


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    from analysis.tables import number_text

    data = table(records) if data is None else data
    shown = pd.DataFrame({
        "model": data["model"], "method": data["method"], "ms": data["ms"],
        "paper, ms": data["published"],
        "over diag": [
            number_text(*row) for row in data[["ratio", "low", "high"]].itertuples(index=False)
        ],
        "paper, over diag": data["published_ratio"],
    })  # fmt: skip
    facts = records.measurement("bma_iteration").attrs
    hardware = facts.get("hardware") or {}
    said = [
        "Forward pass, backward pass and step on a batch of 128 MNIST images (the paper does not "
        "give its batch, nor its machine). Median over turns in which each method is timed once, "
        "and the median ratio to AdaGrad-diag of the same turn with its 95 % interval.",
        f"{hardware.get('cpu', '')}, {facts.get('num_threads', '')} thread(s).",
    ]
    return table_figure(shown, TITLE, said, labels=LABELS)
