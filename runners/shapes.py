"""Shapes of schedules: a factor as a function of time, one small class each."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Literal


class Shape(ABC):
    """A factor as a function of time; only `Plateau` also carries state.

    Time t counts steps or epochs from 0, as the rule says; `total` is the run's length in the
    same unit. Time stays below `total` during a run.
    """

    @abstractmethod
    def factor(self, t: float, total: float) -> float:
        """The factor at time t."""

    def observe(self, value: float, direction: Literal["min", "max"]) -> None:
        """Take note of the target metric after an evaluation."""
        return

    def state_dict(self) -> dict[str, float]:
        """What a resumed run needs, as plain numbers."""
        return {}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Restore what `state_dict` gave."""
        return


class Constant(Shape):
    """factor = 1."""

    def factor(self, t: float, total: float) -> float:
        return 1.0


class Cosine(Shape):
    """Linear rise from `start` to 1 until `warmup`, then half a cosine down to `floor` at the end.

    factor = start + (1 - start) t / warmup                          for t < warmup
             floor + (1 - floor)(1 + cos(pi s)) / 2                  after it
    with s = (t - warmup) / (total - warmup)                         [Loshchilov & Hutter 2017].

    Args:
        floor: fraction of the base at the end of the run.
        warmup: length of the rise; 0 for none.
        start: fraction of the base at t = 0.
    Raises:
        ValueError: unless 0 <= floor <= 1, warmup >= 0 and 0 <= start <= 1.
    """

    def __init__(self, floor: float = 0.0, warmup: float = 0.0, start: float = 0.0):
        check(0 <= floor <= 1, "floor", "in [0, 1]", floor)
        check(warmup >= 0, "warmup", ">= 0", warmup)
        check(0 <= start <= 1, "start", "in [0, 1]", start)
        self.floor, self.warmup, self.start = floor, warmup, start

    def factor(self, t: float, total: float) -> float:
        if t < self.warmup:
            return _rise(t, self.warmup, self.start)
        # A run may be as short as its warm-up: then there is no fall to speak of.
        fall = total - self.warmup
        share = min((t - self.warmup) / fall, 1.0) if fall > 0 else 0.0
        return self.floor + (1.0 - self.floor) * (1.0 + math.cos(math.pi * share)) / 2.0


class WarmupPolynomial(Shape):
    """Linear rise from `start` to 1 until `warmup`, then a polynomial fall to 0 at `end`.

    factor = start + (1 - start) t / warmup                  for t < warmup
             (1 - (t - warmup) / (end - warmup))^power       after it

    NG+ [Yang et al. 2021] calls the fall its exponential strategy, (1 - t / E)^power with no word
    of the warm-up; its published code has 1 - (t - warmup) / E, which is `end = E + warmup`.

    Args:
        warmup: length of the rise; 0 for none.
        power: exponent of the fall.
        start: fraction of the base at t = 0. By epoch, 0 would waste the whole first epoch.
        end: time at which the factor is 0; None for the end of the run.
    Raises:
        ValueError: if warmup < 0, power < 0, start is not in [0, 1] or end <= warmup.
    """

    def __init__(self, warmup: float, power: float, start: float = 0.0, end: float | None = None):
        check(warmup >= 0, "warmup", ">= 0", warmup)
        check(power >= 0, "power", ">= 0", power)
        check(0 <= start <= 1, "start", "in [0, 1]", start)
        check(end is None or end > warmup, "end", f"> warmup ({warmup})", end)
        self.warmup, self.power, self.start, self.end = warmup, power, start, end

    def factor(self, t: float, total: float) -> float:
        if t < self.warmup:
            return _rise(t, self.warmup, self.start)
        end = total if self.end is None else self.end
        # A run may be as short as its warm-up: then there is no fall to speak of.
        share = (t - self.warmup) / (end - self.warmup) if end > self.warmup else 0.0
        return max(1.0 - share, 0.0) ** self.power


class InverseSqrt(Shape):
    """Linear rise until `warmup`, then sqrt(warmup / t)    [Vaswani et al. 2017, section 5.3].

    Raises:
        ValueError: if warmup <= 0 or start is not in [0, 1] (fraction of the base at t = 0).
    """

    def __init__(self, warmup: float, start: float = 0.0):
        check(warmup > 0, "warmup", "> 0", warmup)
        check(0 <= start <= 1, "start", "in [0, 1]", start)
        self.warmup, self.start = warmup, start

    def factor(self, t: float, total: float) -> float:
        if t < self.warmup:
            return _rise(t, self.warmup, self.start)
        return math.sqrt(self.warmup / t)


class Exponential(Shape):
    """factor = rate^(t / period); NG+'s damping has period 10 epochs [Yang et al. 2021].

    Raises:
        ValueError: if rate <= 0 or period <= 0.
    """

    def __init__(self, rate: float, period: float = 10.0):
        check(rate > 0, "rate", "> 0", rate)
        check(period > 0, "period", "> 0", period)
        self.rate, self.period = rate, period

    def factor(self, t: float, total: float) -> float:
        return self.rate ** (t / self.period)


class StepDecay(Shape):
    """factor = rate^floor(t / period): the rate falls in steps.

    torchvision's recipe for ImageNet, with which NG+ [Yang et al. 2021, appendix A] compares a
    cosine, has rate 0.1 and three periods a run.

    Raises:
        ValueError: if rate <= 0 or period <= 0.
    """

    def __init__(self, rate: float, period: float):
        check(rate > 0, "rate", "> 0", rate)
        check(period > 0, "period", "> 0", period)
        self.rate, self.period = rate, period

    def factor(self, t: float, total: float) -> float:
        return self.rate ** (t // self.period)


class PowerAfter(Shape):
    """factor = max(t - offset, 1)^power    [Yang et al. 2021, SchNet experiments].

    Raises:
        ValueError: if offset < 0.
    """

    def __init__(self, offset: float = 10.0, power: float = -0.5):
        check(offset >= 0, "offset", ">= 0", offset)
        self.offset, self.power = offset, power

    def factor(self, t: float, total: float) -> float:
        return max(t - self.offset, 1.0) ** self.power


class Plateau(Shape):
    """Multiplies by `factor` when the target metric has stopped improving.

    An evaluation improves if it betters the best one by more than threshold * |best|; nan never
    does. After more than `patience` evaluations in a row without improvement the multiplier is
    reduced and the count starts again.

    Args:
        factor: what the multiplier is multiplied by, in (0, 1).
        patience: evaluations without improvement that are borne.
        threshold: relative improvement that counts.
        minimum: the multiplier's lower bound, a fraction of the base.
    Raises:
        ValueError: for a value outside these ranges, or an unknown direction.
    """

    def __init__(self, factor: float, patience: int, threshold: float, minimum: float):
        check(0 < factor < 1, "factor", "in (0, 1)", factor)
        check(patience >= 0, "patience", ">= 0", patience)
        check(threshold >= 0, "threshold", ">= 0", threshold)
        check(0 <= minimum <= 1, "minimum", "in [0, 1]", minimum)
        self.reduction, self.patience = factor, patience
        self.threshold, self.minimum = threshold, minimum
        self._multiplier, self._best, self._num_bad = 1.0, math.nan, 0

    def factor(self, t: float, total: float) -> float:
        return self._multiplier

    def observe(self, value: float, direction: Literal["min", "max"]) -> None:
        check(direction in ("min", "max"), "direction", "'min' or 'max'", direction)
        gain = self._best - value if direction == "min" else value - self._best
        first = math.isnan(self._best) and not math.isnan(value)
        if first or gain > self.threshold * abs(self._best):
            self._best, self._num_bad = value, 0
            return
        self._num_bad += 1
        if self._num_bad > self.patience:
            self._multiplier = max(self._multiplier * self.reduction, self.minimum)
            self._num_bad = 0

    def state_dict(self) -> dict[str, float]:
        return {"multiplier": self._multiplier, "best": self._best, "num_bad": self._num_bad}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        self._multiplier, self._best = state["multiplier"], state["best"]
        self._num_bad = state["num_bad"]


def _rise(t: float, warmup: float, start: float) -> float:
    return start + (1.0 - start) * t / warmup


def check(holds: bool, name: str, expectation: str, value: Any) -> None:
    """Raise the project's ValueError unless `holds`."""
    if not holds:
        raise ValueError(f"{name} must be {expectation}, got {value!r}")
