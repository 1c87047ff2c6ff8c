"""KrADagrad Table 1: seconds of an epoch beside Shampoo's [Mei et al. 2023]."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from analysis import comparison, measures
from analysis.tables import number_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = ()
MEASUREMENTS = ("kradagrad_epoch_times",)
TITLE = "KrADagrad paper, Table 1"
DATA = {"cifar10": "CIFAR-10, ResNet-32", "cifar100": "CIFAR-100, ResNet-56"}
METHODS = {"kradagrad": "KrADagrad", "kradagrad_star": "KrADagrad*"}
PUBLISHED = {  # seconds of an epoch on an A40 over Shampoo's
    ("cifar10", "kradagrad"): 29.50 / 35.62,
    ("cifar10", "kradagrad_star"): 45.76 / 35.62,
    ("cifar100", "kradagrad"): 54.71 / 66.45,
    ("cifar100", "kradagrad_star"): 76.12 / 66.45,
}


def table(records: Records) -> pd.DataFrame:
    """Return the ratios of medians to Shampoo: data, method, every, part, value, low, high.

    Raises:
        MissingRecordsError: if the times were not measured.
    """
    times = records.measurement(*MEASUREMENTS)
    rows = []
    for (data, every, part), group in times.groupby(["data", "every", "part"], sort=False):
        turns = group.pivot(index="seed", columns="case", values="value").dropna()
        for method in METHODS:
            ratios = (turns[method] / turns["shampoo"]).to_numpy()
            value, low, high = measures.bootstrap_interval(ratios)
            rows.append({
                "data": data, "method": method, "every": every, "part": part,
                "published": PUBLISHED[data, method], "value": float(value), "low": float(low),
                "high": float(high), "shampoo_seconds": float(turns["shampoo"].median()),
                "num_turns": len(ratios),
            })  # fmt: skip
    return pd.DataFrame(rows)


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    data = table(records) if data is None else data
    facts = records.measurement(*MEASUREMENTS).attrs
    lines = []
    for (name, method), rows in data.groupby(["data", "method"], sort=False):
        line = {"": DATA[name], "ratio": f"{METHODS[method]} / Shampoo"}
        line["published"] = number_text(rows["published"].iloc[0])
        for row in rows.sort_values(["part", "every"], ascending=[True, False]).itertuples():
            heading = f"{row.part}, T = {row.every}"
            line[heading] = number_text(row.value, row.low, row.high)
        lines.append(line)
    hardware = facts.get("hardware") or {}
    return comparison.table_figure(
        pd.DataFrame(lines),
        TITLE,
        [
            f"Times of an iteration (batches of 128, one of noise) and of the optimizer's step "
            f"alone over Shampoo's, all in float32: median of {data['num_turns'].max()} turns, "
            "95 % bootstrap interval. T: steps between roots; the paper does not say which it "
            f"had. {hardware.get('gpu') or hardware.get('cpu', '')}, {facts['num_threads']} "
            "thread(s); the paper: NVIDIA A40.",
        ],
    )
