"""Table 3 of the AdaGrad-BMA paper: parameters of its models, and blocks [Lu et al. 2018]."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from analysis.comparison import table_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = ()
MEASUREMENTS = ("bma_counts",)
TITLE = "AdaGrad-BMA paper, Table 3"
PUBLISHED = {
    ("small", "mnist"): 322, ("small", "cifar10"): 466,
    ("large", "mnist"): 139_370, ("large", "cifar10"): 140_906,
}  # fmt: skip
NAMES = {"mnist": "MNIST", "cifar10": "CIFAR-10"}


def table(records: Records) -> pd.DataFrame:
    """Return a row a model and set: parameters, published ones, blocks in the three partitions.

    Raises:
        MissingRecordsError: if it was not measured.
    """
    rows = records.measurement("bma_counts")
    found = []
    for (model, data), own in rows.groupby(["model", "data"], sort=False):
        blocks = own[own["case"] == "blocks"].set_index("partition")["value"].astype(int)
        found.append({
            "model": model, "images": NAMES[data],
            "parameters": int(own.loc[own["case"] == "parameters", "value"].iloc[0]),
            "published": PUBLISHED[model, data],
            "blocks: layer": blocks["layer"], "unit": blocks["unit"], "group": blocks["group"],
        })  # fmt: skip
    return pd.DataFrame(found)


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    data = table(records) if data is None else data
    said = [
        "Blocks: L of the partitions of Fig. 4. The paper trains with layers, L = 2 l of l layers, "
        "and says that its finest partition has 45 blocks (small model, MNIST)."
    ]
    return table_figure(data, TITLE, said)
