"""Schedules: drive any number in an optimizer's parameter groups by step or by epoch.

A rule's time is the step, the `epoch` (whole ones, which most published code counts), or the
`continuous_epoch`, step / steps_per_epoch.

A rule multiplies the value that each group began with (its base) by a factor, so groups that
differ in `lr` or `damping` keep their proportions. A shape says what the factor is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from optimizers.routing import members_of
from runners.shapes import (
    Constant,
    Cosine,
    Exponential,
    InverseSqrt,
    Plateau,
    PowerAfter,
    Shape,
    StepDecay,
    WarmupPolynomial,
    check,
)

__all__ = [
    "Constant",
    "Cosine",
    "Exponential",
    "InverseSqrt",
    "Plateau",
    "PowerAfter",
    "Rule",
    "Schedule",
    "Shape",
    "StepDecay",
    "WarmupPolynomial",
]


UNITS = ("step", "epoch", "continuous_epoch")


@dataclass(frozen=True)
class Rule:
    """One key of the parameter groups, the unit of its time, and the shape of its factor."""

    key: str
    by: Literal["step", "epoch", "continuous_epoch"]
    shape: Shape

    def __post_init__(self):
        check(self.by in UNITS, "by", f"one of {', '.join(UNITS)}", self.by)


class Schedule:
    """Drives keys of an optimizer's parameter groups, each by its own rule.

    Call `attach` once, `set(step)` before each step, `observe` after each evaluation of the
    target metric. On resuming: `attach`, then `load_state_dict`, then `set`; the state holds the
    base values, since the optimizer's own state holds the driven ones.

    Args:
        rules: {key: {"by": one of `UNITS`, "shape": Shape}}; empty drives nothing.
    Raises:
        ValueError: for an unknown `by`.
    """

    def __init__(self, rules: Mapping[str, Mapping[str, Any]]):
        self.rules = tuple(Rule(key, rule["by"], rule["shape"]) for key, rule in rules.items())
        self._optimizer: Any = None
        self._bases: dict[str, list[float | None]] = {}
        self._num_groups, self._max_steps, self._steps_per_epoch = 0, 1, 1

    def attach(self, optimizer: Any, max_steps: int, steps_per_epoch: int) -> None:
        """Remember every group's base values; nothing is changed before `set`.

        Args:
            optimizer: anything with `param_groups`; groups added later are not driven. Of several
                optimizers in one (`Routed`) a rule drives those that have its key.
            max_steps: the run's length in steps; an epoch is `steps_per_epoch` of them.
        Raises:
            ValueError: if a group lacks a rule's key or holds no number there, or a count is < 1.
        """
        check(max_steps >= 1, "max_steps", ">= 1", max_steps)
        check(steps_per_epoch >= 1, "steps_per_epoch", ">= 1", steps_per_epoch)
        self._max_steps, self._steps_per_epoch = max_steps, steps_per_epoch
        # Not its groups: an optimizer that loads its state puts new ones in their place.
        self._optimizer = optimizer
        self._num_groups = len(optimizer.param_groups)
        self._bases = {rule.key: _base_values(optimizer, rule.key) for rule in self.rules}

    def set(self, step: int) -> None:
        """Write the values that step `step` (from 0) is to use into the parameter groups."""
        for rule in self.rules:
            factor = rule.shape.factor(*self._time(rule.by, step))
            groups = self._optimizer.param_groups[: self._num_groups]
            for group, base in zip(groups, self._bases[rule.key], strict=True):
                if base is not None:
                    group[rule.key] = base * factor

    def _time(self, unit: str, step: int) -> tuple[float, float]:
        """Step `step` and the run's length, both in a unit."""
        if unit == "step":
            return step, self._max_steps
        length = self._steps_per_epoch
        time = step // length if unit == "epoch" else step / length
        return time, self._max_steps / length

    def observe(self, value: float, direction: Literal["min", "max"]) -> None:
        """Tell the shapes the target metric; `direction` says which way is better."""
        for rule in self.rules:
            rule.shape.observe(value, direction)

    def state_dict(self) -> dict[str, dict[str, Any]]:
        """Base values of each group and each shape's state, by key; plain numbers."""
        return {
            rule.key: {"bases": list(self._bases[rule.key]), "shape": rule.shape.state_dict()}
            for rule in self.rules
        }

    def load_state_dict(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Restore what `state_dict` gave.

        Raises:
            ValueError: if keys or the number of parameter groups differ.
        """
        keys = [rule.key for rule in self.rules]
        check(sorted(state) == sorted(keys), "schedule state", f"of {keys}", sorted(state))
        for rule in self.rules:
            bases = list(state[rule.key]["bases"])
            expected = f"of {self._num_groups} parameter groups"
            check(len(bases) == self._num_groups, "schedule state", expected, len(bases))
            self._bases[rule.key] = bases
            rule.shape.load_state_dict(state[rule.key]["shape"])


def _base_values(optimizer: Any, key: str) -> list[float | None]:
    """The number under `key` in each group; None in groups of a member that has no such option."""
    members = members_of(optimizer)
    known = [any(key in _numbers(group) for group in m.param_groups) for m in members]
    values: list[float | None] = []
    for member, has_key in zip(members, known, strict=True):
        for group in member.param_groups:
            driven = has_key or not any(known)  # known to none: refused, with the group's numbers
            values.append(_number(group, len(values), key) if driven else None)
    return values


def _numbers(group: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in group.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _number(group: Mapping[str, Any], index: int, key: str) -> float:
    numbers = _numbers(group)
    if key not in numbers:
        raise ValueError(
            f"schedule rules.{key} must name a number of every parameter group, "
            f"got group {index} with {', '.join(numbers) or 'no numbers'}"
        )
    return float(numbers[key])
