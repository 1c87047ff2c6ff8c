"""Every task at scale=small with one optimizer: that it learns, and what its curves look like.

One panel a task: the training loss on the left axis, the target's metric on the right one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis import captions, curves, measures, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from analysis.load import Experiment, Records

EXPERIMENTS = ("tasks_small",)
TITLE = "Every task at scale=small"
MAX_POINTS = 300
NUM_COLUMNS = 3
# The training loss is averaged over this share of the run; one batch's loss is mostly noise.
SMOOTHED_SHARE = 0.02
TRAINING, TARGET = (style.BLUE, "-"), (style.VERMILLION, "-")
COLUMNS = [
    "task", "optimizer", "lr", "seed", "curve", "step", "epoch", "value", "direction", "trivial",
    "num_parameters", "data",
]  # fmt: skip


def table(records: Records) -> pd.DataFrame:
    """Return both curves of every task, tidy.

    curve: "loss" (mean training loss over the last 2 % of the steps), or "<metric>, <split>" of
    the task's target. direction: "min" or "max", what is better in the target's metric. trivial:
    that metric of a predictor that has learned nothing but frequencies or means (the task's fact
    `trivial`); nan where the task names none.

    Raises:
        MissingRecordsError: if the experiment is not finished.
    """
    experiment = records.experiment(*EXPERIMENTS)
    parts = []
    for case in experiment.cases():
        steps, evals = experiment.steps(case), experiment.evals(case)
        for run in experiment.runs(case).to_dict("records"):
            labels = {
                "task": run["task"],
                "optimizer": run["optimizer"],
                "lr": run["parameter_groups"][0]["options"].get("lr", np.nan),
                "seed": run["seed"],
                "direction": run["target.direction"],
                "trivial": run.get("task_facts.trivial", np.nan),
                "num_parameters": run["num_parameters"],
                "data": run["data"],
            }
            own = steps[steps["run_id"] == run["run_id"]].sort_values("step")
            training = _training(own, run["steps_per_epoch"])
            parts.append(training.assign(curve="loss", **labels))
            own = evals[evals["run_id"] == run["run_id"]]
            parts.append(_target(own, run).assign(**labels))
    return pd.concat(parts, ignore_index=True)[COLUMNS]


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    from matplotlib.figure import Figure

    data = table(records) if data is None else data
    tasks = list(dict.fromkeys(data["task"]))
    num_rows = -(-len(tasks) // NUM_COLUMNS)
    with style.context():
        size = (style.PAGE_WIDTH, 1.45 * num_rows + 0.8)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(num_rows, NUM_COLUMNS, squeeze=False).flat
        for task, axes in zip(tasks, panels, strict=False):
            _draw_panel(axes, data[data["task"] == task])
        for axes in panels:
            axes.set_axis_off()
        style.head_with(figure, TITLE, _legend())
        style.footnote(figure, _caption(records.experiment(*EXPERIMENTS)))
    return figure


# ---------------------------------------------------------------- the data


def _training(rows: pd.DataFrame, steps_per_epoch: float) -> pd.DataFrame:
    width = max(1, round(SMOOTHED_SHARE * len(rows)))
    kept = measures.thinned(len(rows), MAX_POINTS)
    smoothed = measures.running_mean(rows["loss"].to_numpy(), width)[kept]
    step = rows["step"].to_numpy()[kept]
    return pd.DataFrame({"step": step, "epoch": step / steps_per_epoch, "value": smoothed})


def _target(evals: pd.DataFrame, run: dict[str, Any]) -> pd.DataFrame:
    metric, split = run["target.metric"], run["target.split"]
    rows = evals[(evals["metric"] == metric) & (evals["split"] == split)]
    rows = rows.drop_duplicates("step", keep="last").sort_values("step")
    return rows[["step", "epoch", "value"]].assign(curve=f"{metric}, {split}")


# ---------------------------------------------------------------- the drawing


def _legend() -> list[Line2D]:
    """Entries of the one legend for all panels."""
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], color=TRAINING[0], label="training loss (left axis)"),
        Line2D(
            [], [], color=TARGET[0], marker="o", markersize=2.5, label="target metric (right axis)"
        ),
        Line2D([], [], color=TARGET[0], linestyle=":", label="trivial predictor (right axis)"),
    ]


def _draw_panel(axes: Axes, rows: pd.DataFrame) -> None:
    first = rows.iloc[0]
    training = rows[rows["curve"] == "loss"]
    target = rows[rows["curve"] != "loss"]
    # Many orders of magnitude between start and end: the end would be a flat line.
    wide = _is_wide(training["value"])
    axes.plot(training["epoch"], training["value"], color=TRAINING[0], linewidth=1)
    axes.set_yscale("log" if wide else "linear")
    axes.set_title(f"{first['task']}\n{first['optimizer']}, lr {first['lr']:g}", fontsize=7)
    axes.set_xlabel("epoch", fontsize=7, labelpad=1)
    axes.tick_params(labelsize=6)
    right = axes.twinx()
    right.spines["right"].set_visible(True)
    right.plot(target["epoch"], target["value"], color=TARGET[0], marker="o", markersize=2)
    if np.isfinite(first["trivial"]):
        right.axhline(first["trivial"], color=TARGET[0], linestyle=":", linewidth=1)
    # Of what grows, such as accuracy, the high values are what counts.
    wide = first["direction"] == "min" and _is_wide(target["value"])
    right.set_yscale("log" if wide else "linear")
    right.set_ylabel(", ".join(dict.fromkeys(target["curve"])), fontsize=7, labelpad=2)
    right.tick_params(labelsize=6)


def _is_wide(values: pd.Series) -> bool:
    finite = values[np.isfinite(values)]
    return len(finite) > 0 and finite.min() > 0 and finite.max() > 20 * finite.min()


def _caption(experiment: Experiment) -> list[str]:
    runs = experiment.runs()
    scales = "/".join(sorted(set(runs["scale"])))
    budgets = "/".join(sorted(set(runs["budget"])))
    num_diverged = int((runs["status"] == "diverged").sum())
    sentences = [
        f"One run a task, scale={scales}, budget={budgets}.",
        f"Training loss: mean over the last {SMOOTHED_SHARE * 100:g} % of the steps, with whatever "
        "regularisation the task trains with.",
        "Trivial predictor: knows class or symbol frequencies or the mean image, nothing else.",
        "Optimizers and rates were picked by a few short trials: the figure compares no methods.",
        f"{num_diverged} of {len(runs)} runs diverged." if num_diverged else "",
        curves.left_out(experiment, {c: list(runs["seed"]) for c in experiment.cases()}),
        captions.missing(experiment),
    ]
    return [*filter(None, sentences), curves.provenance(runs)]
