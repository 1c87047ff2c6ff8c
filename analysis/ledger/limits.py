"""Bounds that a rule puts on numbers: at most, less than, at least, more than."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

UPPER, LOWER = ("at_most", "less_than"), ("at_least", "more_than")
KINDS = (*UPPER, *LOWER)

_KEEPS = {
    "at_most": operator.le,
    "less_than": operator.lt,
    "at_least": operator.ge,
    "more_than": operator.gt,
}


@dataclass(frozen=True)
class Limit:
    """One bound.

    Attributes:
        kind: one of `KINDS`.
        value: the number.
    """

    kind: str
    value: float

    @property
    def upper(self) -> bool:
        """Whether numbers must lie below it."""
        return self.kind in UPPER

    def keeps(self, values: Any) -> Any:
        """Whether a number keeps it, or which of an array do; nan never does."""
        return _KEEPS[self.kind](values, self.value)

    def moved_to(self, value: float) -> Limit:
        """The same bound at another number."""
        return replace(self, value=value)

    def __str__(self) -> str:
        return f"{self.kind.replace('_', ' ')} {self.value:.4g}"


def limits_of(bounds: Mapping[str, float]) -> list[Limit]:
    """The bounds among the keys of a rule, lower ones first."""
    return [Limit(kind, bounds[kind]) for kind in (*LOWER, *UPPER) if kind in bounds]
