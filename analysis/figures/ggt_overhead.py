"""GGT sections 1.1, 2.1 and 3.4: what a step costs, as ratios and against its sizes.

Each ratio is of medians over turns that two computations took in one process [Agarwal et al. 2019].
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
MEASUREMENTS = ("ggt_iteration", "ggt_step_time", "ggt_svd", "ggt_telemetry")
TITLE = "GGT paper, sections 2.1 and 3: what a step costs"
COLUMNS = [
    "panel", "what", "size", "value", "low", "high", "num_turns", "published", "published_words",
    "note",
]  # fmt: skip


class Ratio(NamedTuple):
    """One ratio: rows of a measurement over others, and what the paper says of it."""

    what: str
    measurement: str
    above: dict[str, object]
    below: dict[str, object]
    published: float = np.nan
    words: str = ""


RATIOS = (
    Ratio("iteration, CNN\nGGT / SGD", "ggt_iteration", {"task": "cnn", "case": "ggt"},
          {"task": "cnn", "case": "sgd"}, 1.3, "about 1.3"),
    Ratio("iteration, LSTM\nGGT / SGD", "ggt_iteration", {"task": "rnn", "case": "ggt"},
          {"task": "rnn", "case": "sgd"}, 2.0, "about 2"),
    Ratio("SVD / Gram matrix\nr = 50", "ggt_svd", {"case": "svd", "r": 50},
          {"case": "gram", "r": 50}, 10.0, "more than 10, on a GPU"),
    Ratio("SVD / Gram matrix\nr = 100", "ggt_svd", {"case": "svd", "r": 100},
          {"case": "gram", "r": 100}, 10.0, "more than 10, on a GPU"),
    Ratio("write into the window\n/ Adam's step", "ggt_step_time", {"case": "write"},
          {"case": "adam"}, 1.0, "no more"),
    Ratio("with / without\nspectrum", "ggt_telemetry", {"case": "step and spectrum"},
          {"case": "step"}, 1.0, "no extra cost"),
    Ratio("dense, d = 2,000\n/ GGT, d = 10,000", "ggt_step_time", {"case": "dense"},
          {"case": "ggt", "d": 10_000}, np.nan, "prohibitive beyond d = 10,000"),
)  # fmt: skip


def table(records: Records) -> pd.DataFrame:
    """Return the ratios (panel "ratio") and GGT's step against d and r, with 95 % intervals.

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
            "panel": "ratio", "what": ratio.what.replace("\n", " "), "size": np.nan,
            "published": ratio.published, "published_words": ratio.words,
            "note": absent.get(ratio.measurement, ""),
        }  # fmt: skip
        if not row["note"]:
            row |= _ratio(frames[ratio.measurement], ratio)
        rows.append(row)
    if "ggt_step_time" in frames:
        rows += _growth(frames["ggt_step_time"])
    return pd.DataFrame(rows).reindex(columns=COLUMNS)


def _ratio(frame: pd.DataFrame, ratio: Ratio) -> dict[str, object]:
    above, below = _chosen(frame, ratio.above), _chosen(frame, ratio.below)
    turns = sorted(set(above.index) & set(below.index))
    value, low, high = measures.ratio_of_medians(above[turns].to_numpy(), below[turns].to_numpy())
    return {"value": float(value), "low": float(low), "high": float(high), "num_turns": len(turns)}


def _chosen(frame: pd.DataFrame, where: dict[str, object]) -> pd.Series:
    for column, value in where.items():
        frame = frame[frame[column] == value]
    return frame.set_index("seed")["value"]


def _growth(frame: pd.DataFrame) -> list[dict[str, object]]:
    """GGT's step in seconds against d at r = 50, and against r at d = 300,000."""
    steps = frame[frame["case"] == "ggt"]
    rows = []
    for panel, size, fixed in (("d", "d", ("r", 50)), ("r", "r", ("d", 300_000))):
        own = steps[steps[fixed[0]] == fixed[1]]
        for value, group in own.groupby(size):
            center, low, high = measures.bootstrap_interval(group["value"].to_numpy())
            rows.append({
                "panel": panel, "what": "GGT's step (s)", "size": value, "value": float(center),
                "low": float(low), "high": float(high), "num_turns": len(group), "note": "",
                "published_words": "",
            })  # fmt: skip
    return rows


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    from matplotlib.figure import Figure

    data = table(records) if data is None else data
    with style.context():
        figure = Figure(figsize=(style.PAGE_WIDTH, 3.6), layout="constrained")
        grid = figure.subplots(1, 3, width_ratios=[2.2, 1, 1])
        _draw_ratios(grid[0], data[data["panel"] == "ratio"])
        for axes, size in zip(grid[1:], ("d", "r"), strict=True):
            _draw_growth(axes, data[data["panel"] == size], size)
        figure.suptitle(TITLE, fontsize=9)
        style.footnote(figure, _caption(records, data))
    return figure


def _draw_ratios(axes: Axes, rows: pd.DataFrame) -> None:
    places = np.arange(len(rows))[::-1]
    for place, row in zip(places, rows.to_dict("records"), strict=True):
        if row["published"] == row["published"]:
            axes.plot(row["published"], place, "|", color="0.45", markersize=14)
        if row["value"] != row["value"]:
            axes.text(1.1, place, "not measured", va="center", fontsize=7)
            continue
        axes.plot([row["low"], row["high"]], [place, place], color=looks.VERMILLION, linewidth=2)
        axes.plot(row["value"], place, "o", color=looks.VERMILLION, markersize=4)
        axes.annotate(
            f"{row['value']:.3g}", (row["value"], place), xytext=(0, 6), fontsize=7, ha="center",
            textcoords="offset points",
        )  # fmt: skip
    names = [ratio.what for ratio in RATIOS]
    axes.set_yticks(places, names[: len(rows)], fontsize=7)
    axes.set(xscale="log", xlabel="ratio of medians", ylim=(-0.6, len(rows) - 0.3))
    axes.set_title("ratios; grey: the paper")
    axes.grid(True, axis="x")


def _draw_growth(axes: Axes, rows: pd.DataFrame, size: str) -> None:
    axes.set_title({"d": "r = 50", "r": "d = 300,000"}[size])
    axes.set(xlabel={"d": "parameters d", "r": "window r"}[size], ylabel="seconds a step")
    if rows.empty:
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes, fontsize=7)
        return
    x, y = rows["size"].to_numpy(dtype=float), rows["value"].to_numpy()
    axes.fill_between(x, rows["low"], rows["high"], color=looks.VERMILLION, alpha=0.2, linewidth=0)
    axes.plot(x, y, "o-", color=looks.VERMILLION, markersize=3)
    axes.plot(x, y[-1] * x / x[-1], ":", color="0.45", label="proportional")
    axes.set(xscale="log", yscale="log")
    if size == "r":
        axes.set_xticks(x, [f"{value:g}" for value in x])
        axes.minorticks_off()
    axes.legend(loc="upper left", fontsize=7)
    axes.grid(True)


def _caption(records: Records, data: pd.DataFrame) -> list[str]:
    said = [
        "Medians over turns within one process, 95 % bootstrap intervals; one thread, CPU, whole "
        "iterations at scale=small with r = 200.",
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
