"""What a quantity takes from one run: a number, or a curve over the course of training.

A share of the budget or a step means the training so far: `at: .05` of 1000 steps is what the 50th
step leaves behind. Losses at a time are smoothed over the last 2 % of the budget's steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from analysis import measures
from analysis.ledger.samples import Curve, NotTested
from analysis.ledger.sources import Run

SMOOTHING = 0.02  # of the budget's steps, for losses read off at a time
MAX_POINTS = 2000  # of a loss curve: a hundred to each of the points that are compared

Options = Mapping[str, Any]


class Take(NamedTuple):
    """How a quantity is taken from a run.

    Attributes:
        function: (run, options) -> number or Curve.
        options: keys it knows.
        required: those that must be given.
        seconds: whether it is in seconds whatever the options.
        random: whether it varies with the seed, so that a verdict needs several.
        curve: whether it returns a Curve.
    """

    function: Callable[[Run, Options], Any]
    options: frozenset[str]
    required: frozenset[str] = frozenset()
    seconds: bool = False
    random: bool = True
    curve: bool = False


# ---------------------------------------------------------------- losses


def _losses(run: Run, options: Options) -> np.ndarray:
    """Training loss of every step made, less the optimum where asked for; not finite -> nan."""
    loss = run.steps["loss"]
    if options.get("suboptimality"):
        loss = loss - float(_fact(run, {"key": "task_facts.optimum"}))
    return np.where(np.isfinite(loss), loss, np.nan)


def _smooth(run: Run, losses: np.ndarray) -> np.ndarray:
    return measures.running_mean(losses, max(1, round(SMOOTHING * run.budget)))


def _final_loss(run: Run, options: Options) -> float:
    losses = _losses(run, options)
    if run.diverged or not len(losses):
        return math.nan
    return float(losses[-max(1, round(options.get("fraction", 0.1) * len(losses))) :].mean())


def _mean_loss(run: Run, options: Options) -> float:
    losses = _losses(run, options)
    return math.nan if run.diverged or not len(losses) else float(losses.mean())


def _least_loss(run: Run, options: Options) -> float:
    losses = _losses(run, options)
    return math.nan if run.diverged or np.isnan(losses).all() else float(np.nanmin(losses))


def _greatest_loss(run: Run, options: Options) -> float:
    losses = _losses(run, options)
    return math.nan if run.diverged or not len(losses) else float(losses.max())


def _loss_at(run: Run, options: Options) -> float:
    if ("at" in options) == ("step" in options):
        raise NotTested("loss_at needs one of at and step")
    losses = _smooth(run, _losses(run, options))
    step = options.get("step") or max(1, round(float(options["at"]) * run.budget))
    if step > run.budget:
        raise NotTested(f"step {step} is beyond the budget of {run.budget} steps")
    return float(losses[step - 1]) if step <= len(losses) else math.nan


def _noise(run: Run, options: Options) -> float:
    losses = _losses(run, options)
    low, high = options.get("share", (0, 1))
    losses = losses[round(low * len(losses)) : round(high * len(losses))]
    if run.diverged or len(losses) < 3:
        return math.nan
    return float(np.diff(losses).std(ddof=1))


# ---------------------------------------------------------------- metrics


def _metric(run: Run, options: Options) -> float:
    frame = run.evals(options["metric"], options["split"])
    at = options.get("at", "final")
    values = frame["value"].to_numpy(dtype=float)
    if at not in ("final", "best"):
        at = float(at) * run.budget
        return float(_metric_curve(run, {**options, "x": "step"}).at(np.array([at]))[0])
    if run.diverged:
        return math.nan
    if at == "final":
        return float(values[-1])
    finite = values[np.isfinite(values)]
    if not len(finite):
        return math.nan
    return float(finite.max() if direction_of(run, options) == "max" else finite.min())


# Names of metrics say their direction where the task's own target does not.
_MORE = ("accuracy", "bleu")
_LESS = (
    "loss", "nll", "perplexity", "bits", "excess", "error", "mae", "mse", "suboptimality", "regret",
)  # fmt: skip


def direction_of(run: Run, options: Options) -> str | None:
    """Whether less or more of a metric is better; None where nothing says."""
    metric = options.get("metric")
    if metric is None:
        return "min"
    if run.facts.get("target.metric") == metric:
        return run.facts["target.direction"]
    for direction, names in (("max", _MORE), ("min", _LESS)):
        if metric.startswith(names):
            return direction
    return None


# ---------------------------------------------------------------- curves


def _loss_curve(run: Run, options: Options) -> Curve:
    losses = _smooth(run, _losses(run, options))
    steps = run.steps["step"] + 1.0
    x = run.steps["train_seconds"] if options.get("x") == "seconds" else steps
    kept = measures.thinned(len(losses), MAX_POINTS) if len(losses) else slice(0)
    return Curve(np.asarray(x, dtype=float)[kept], losses[kept], run.diverged)


def _metric_curve(run: Run, options: Options) -> Curve:
    frame = run.evals(options["metric"], options["split"])
    column = "train_seconds" if options.get("x") == "seconds" else "step"
    values = frame["value"].to_numpy(dtype=float)
    values = np.where(np.isfinite(values), values, np.nan)
    return Curve(frame[column].to_numpy(dtype=float), values, run.diverged)


# ---------------------------------------------------------------- targets


def _to_target(run: Run, options: Options, x: str) -> float:
    """Where a run first reaches `target`; inf if it does not within its budget."""
    options = {**options, "x": x}
    if options.get("of", "loss") == "loss":
        curve, direction = _every_loss(run, options), "min"
    else:
        curve = _metric_curve(run, options)
        direction = options.get("direction") or direction_of(run, options)
        if direction is None:
            raise NotTested(f"say the direction of {options['metric']}")
    return measures.steps_to_target(curve.x, curve.y, float(options["target"]), direction)


def _every_loss(run: Run, options: Options) -> Curve:
    x = run.steps["train_seconds"] if options["x"] == "seconds" else run.steps["step"] + 1.0
    return Curve(x, _smooth(run, _losses(run, options)), run.diverged)


def _steps_to(run: Run, options: Options) -> float:
    return _to_target(run, options, "step")


def _seconds_to(run: Run, options: Options) -> float:
    return _to_target(run, options, "seconds")


# ---------------------------------------------------------------- spectra, seconds, facts


def _condition(run: Run, options: Options) -> float:
    """Median or maximum of the condition numbers of one kind of spectrum in a span of training."""
    frame = run.spectra
    frame = frame[frame["kind"] == options["kind"]] if "kind" in options else frame
    if "epochs" in options:
        unit = float(run.facts["steps_per_epoch"])
        low, high = (bound * unit for bound in options["epochs"])
    else:
        low, high = (bound * run.budget for bound in options.get("share", (0, 1)))
    inside = frame[(frame["step"] >= low) & (frame["step"] <= high)]["condition_number"].dropna()
    if inside.empty:
        raise NotTested(f"run {run.facts['run_id']} has no spectrum in the span asked for")
    return float(inside.max() if options.get("stat", "median") == "max" else inside.median())


def _step_seconds(run: Run, options: Options) -> float:
    seconds = run.steps["train_seconds"]
    if len(seconds) < 2:
        return math.nan
    return float(np.median(np.diff(seconds)))


def _fact(run: Run, options: Options) -> float:
    value = run.facts.get(options["key"])
    if not isinstance(value, (int, float)):
        raise NotTested(f"run {run.facts['run_id']} has no number {options['key']}")
    return float(value)


def _state_bytes(run: Run, options: Options) -> float:
    return _fact(run, {"key": "optimizer_state_bytes"})


def _take(function, *options: str, required: tuple[str, ...] = (), **more: bool) -> Take:
    return Take(function, frozenset((*options, *required)), frozenset(required), **more)


_METRIC = ("metric", "split")
_TARGET = ("of", "metric", "split", "direction", "suboptimality")

TAKES: Mapping[str, Take] = {
    "final_loss": _take(_final_loss, "fraction", "suboptimality"),
    "mean_loss": _take(_mean_loss, "suboptimality"),
    "least_loss": _take(_least_loss, "suboptimality"),
    "greatest_loss": _take(_greatest_loss, "suboptimality"),
    "loss_at": _take(_loss_at, "at", "step", "suboptimality"),
    "noise": _take(_noise, "share"),
    "metric": _take(_metric, "at", required=_METRIC),
    "loss_curve": _take(_loss_curve, "x", "suboptimality", curve=True),
    "metric_curve": _take(_metric_curve, "x", required=_METRIC, curve=True),
    "steps_to": _take(_steps_to, *_TARGET, required=("target",)),
    "seconds_to": _take(_seconds_to, *_TARGET, required=("target",), seconds=True),
    "condition": _take(_condition, "kind", "epochs", "share", "stat"),
    "step_seconds": _take(_step_seconds, seconds=True),
    "state_bytes": _take(_state_bytes, random=False),
    "fact": _take(_fact, required=("key",), random=False),
}
