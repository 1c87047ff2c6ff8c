"""NG+ sections 2.4-2.5, 3.2-3.3 and Table 1: its parts' cost beside others' [Yang et al. 2021].

Each ratio is of medians over turns that two computations took in one process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from analysis import looks, measures, style
from analysis.frames import MissingRecordsError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = ()
MEASUREMENTS = (
    "ngplus_step_times", "ngplus_layer_times", "ngplus_block_times", "ngplus_sketch_times",
)  # fmt: skip
TITLE = "NG+ paper, sections 2.4, 2.5 and 3: costs"
COLUMNS = ["what", "value", "low", "high", "num_turns", "published", "words", "note"]


class Ratio(NamedTuple):
    """One ratio: rows of a measurement over others, and what the paper says of it."""

    what: str
    measurement: str
    above: dict[str, object]
    below: dict[str, object]
    published: float = np.nan
    words: str = ""


def _step(method: str, network: str, published: float = np.nan) -> Ratio:
    name = looks.line(method)["label"]
    where = {"network": network}
    above, below = {"case": method, **where}, {"case": "sgd", **where}
    words = f"{published:.3g}" if published == published else ""
    return Ratio(
        f"step of {network}: {name} / SGD", MEASUREMENTS[0], above, below, published, words
    )


def _layers(part: str, method: str, published: float = np.nan, words: str = "") -> Ratio:
    name = looks.line(method)["label"]
    where = {"of": "network", "part": part}
    above, below = {"case": method, **where}, {"case": "ng_plus", **where}
    what = f"ResNet-32's layers, {part}: {name} / NG+"
    return Ratio(what, MEASUREMENTS[1], above, below, published, words)


RATIOS = (
    _step("lars", "ResNet-50 of width 16", 521 / 517),
    _step("kfac", "ResNet-50 of width 16", 686 / 517),
    _step("ng_plus", "ResNet-50 of width 16", 600 / 517),
    _step("lars", "ResNet-32"),
    _step("kfac", "ResNet-32"),
    _step("ng_plus", "ResNet-32"),
    _layers("all", "kfac", 2.0, "more than 2"),
    _layers("construction", "kfac"),
    _layers("roots", "kfac"),
    _layers("roots", "shampoo", np.nan, "much more"),
    Ratio("inverse of 1024: whole / 8 blocks of 128", MEASUREMENTS[2],
          {"case": "whole", "shape": "8 of 128"}, {"case": "batched", "shape": "8 of 128"},
          64.0, "64"),
    *(Ratio(f"inverses, {shape}: one by one / in a batch", MEASUREMENTS[2],
            {"case": "loop", "shape": shape}, {"case": "batched", "shape": shape}, np.nan,
            "more") for shape in ("8 of 128", "64 of 32", "256 of 16")),
    Ratio("drawing 1024 of 4096 columns / their product", MEASUREMENTS[3],
          {"case": "sketch", "q": 1024}, {"case": "product", "q": 1024}, np.nan, "none"),
    Ratio("drawing 1024 of 4096 columns / whole product", MEASUREMENTS[3],
          {"case": "sketch", "q": 1024}, {"case": "whole", "q": 1024}, np.nan, "none"),
)  # fmt: skip


def table(records: Records) -> pd.DataFrame:
    """Return the ratios with 95 % intervals, beside the paper's numbers or words.

    note: why there is no number.

    Raises:
        MissingRecordsError: if no measurement was made.
    """
    frames, absent = {}, {}
    for name in MEASUREMENTS:
        try:
            frames[name] = records.measurement(name)
        except MissingRecordsError as error:
            absent[name] = str(error)
    if not frames:
        raise MissingRecordsError("; ".join(absent.values()))
    rows = []
    for ratio in RATIOS:
        row = {
            "what": ratio.what, "published": ratio.published, "words": ratio.words,
            "note": absent.get(ratio.measurement, ""),
        }  # fmt: skip
        if not row["note"]:
            row |= _measured(frames[ratio.measurement], ratio)
        rows.append(row)
    return pd.DataFrame(rows).reindex(columns=COLUMNS)


def _measured(frame: pd.DataFrame, ratio: Ratio) -> dict[str, object]:
    above, below = _chosen(frame, ratio.above), _chosen(frame, ratio.below)
    turns = sorted(set(above.index) & set(below.index))
    value, low, high = measures.ratio_of_medians(above[turns].to_numpy(), below[turns].to_numpy())
    return {"value": float(value), "low": float(low), "high": float(high), "num_turns": len(turns)}


def _chosen(frame: pd.DataFrame, where: dict[str, object]) -> pd.Series:
    for column, value in where.items():
        frame = frame[frame[column] == value]
    return frame.set_index("seed")["value"]


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    from matplotlib.figure import Figure

    data = table(records) if data is None else data
    with style.context():
        figure = Figure(figsize=(style.PAGE_WIDTH, 0.24 * len(data) + 1.2), layout="constrained")
        _draw_ratios(figure.subplots(), data)
        style.head(figure, TITLE)
        style.footnote(figure, _caption(records, data))
    return figure


def _draw_ratios(axes: Axes, rows: pd.DataFrame) -> None:
    places = np.arange(len(rows))[::-1]
    for place, row in zip(places, rows.to_dict("records"), strict=True):
        if row["published"] == row["published"]:
            axes.plot(row["published"], place, "|", color="0.45", markersize=11, markeredgewidth=2)
        if row["words"]:
            axes.text(
                1.01, place, row["words"], va="center", fontsize=6, color="0.45",
                transform=axes.get_yaxis_transform(),
            )  # fmt: skip
        if row["value"] != row["value"]:
            axes.text(2, place, "not measured", va="center", fontsize=7)
            continue
        axes.plot([row["low"], row["high"]], [place, place], color=looks.WINE, linewidth=2)
        axes.plot(row["value"], place, "o", color=looks.WINE, markersize=4)
        axes.annotate(
            f"{row['value']:.3g}", (row["high"], place), xytext=(5, 0), fontsize=7, va="center",
            textcoords="offset points",
        )  # fmt: skip
    axes.axvline(1, color="0.6", linestyle=":", linewidth=0.8)
    axes.set_yticks(places, list(rows["what"]), fontsize=7)
    axes.set(xscale="log", xlabel="ratio of medians", ylim=(-0.6, len(rows) - 0.4))
    low, high = axes.get_xlim()
    axes.set_xlim(low, high * (high / low) ** 0.08)  # room for the number beside the last mark
    axes.grid(True, axis="x")


def _caption(records: Records, data: pd.DataFrame) -> list[str]:
    said = [
        "Medians over turns within one process, 95 % bootstrap intervals; grey, and on the right: "
        "the paper (64: of operations). Steps with curvature every 500 steps, batches of 16, one "
        "thread; layers with every part once.",
        *dict.fromkeys(f"Not measured: {note}." for note in data["note"] if note),
    ]
    for name in MEASUREMENTS:
        try:
            facts = records.measurement(name).attrs
        except MissingRecordsError:
            continue
        hardware = facts.get("hardware") or {}
        torch = (facts.get("packages") or {}).get("torch", "?")
        machine = f"{hardware.get('cpu')}, {hardware.get('cores')} cores; torch {torch}"
        said.append(f"{machine}; commit {str(facts.get('commit'))[:10]}.")
    return list(dict.fromkeys(said))
