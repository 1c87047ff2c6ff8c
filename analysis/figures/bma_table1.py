"""Tables 1 and 2 of the AdaGrad-BMA paper: the two models, counted on ours [Lu et al. 2018]."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from analysis.comparison import table_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = ()
MEASUREMENTS = ("bma_counts",)
TITLE = "AdaGrad-BMA paper, Tables 1 and 2"
# What can be read in the text of the tables; Table 3 belongs to another number of convolutions.
PRINTED = {
    ("small", "conv3x3"): 4, ("small", "maxpool2x2"): 4,
    ("large", "conv3x3"): 7, ("large", "maxpool2x2"): 4,
}  # fmt: skip
LAYERS = {"conv3x3": "convolutions 3 × 3", "maxpool2x2": "max-poolings 2 × 2"}


def table(records: Records) -> pd.DataFrame:
    """Return the number of layers of each kind, ours and as the text of the tables has them.

    Raises:
        MissingRecordsError: if it was not measured.
    """
    rows = records.measurement("bma_counts")
    rows = rows[rows["case"].isin(LAYERS) & (rows["data"] == "mnist")]
    return pd.DataFrame({
        "model": rows["model"], "layers": [LAYERS[case] for case in rows["case"]],
        "ours": rows["value"].astype(int),
        "rows in its text": [PRINTED[key] for key in zip(rows["model"], rows["case"], strict=True)],
    }).reset_index(drop=True)  # fmt: skip


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    data = table(records) if data is None else data
    return table_figure(data, TITLE, [_about_counts(records)], width=4.5)


def _about_counts(records: Records) -> str:
    rows = records.measurement("bma_counts")
    rows = rows[rows["case"] == "architecture"]
    found = ", ".join(
        f"{int(row['num_convs'])} convolutions and {int(row['num_pools'])} poolings"
        for row in rows[rows["fits"].astype(bool)].to_dict("records")
    )
    return (
        f"Of {len(rows)} plain networks of 32 channels, the parameters of the paper's Table 3 are "
        f"those of {found or 'none'} alone."
    )
