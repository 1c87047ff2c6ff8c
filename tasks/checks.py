"""Checks of options: each refuses in one line, by name, what cannot be."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def check_at_least(name: str, value: int, least: int) -> None:
    """Refuse an option that is no integer, or too small.

    Raises:
        ValueError: unless value is an integer >= least.
    """
    if not _is_integer(value):
        raise ValueError(f"{name} must be an integer, got {value}")
    if value < least:
        raise ValueError(f"{name} must be >= {least}, got {value}")


def check_sizes(sizes: Mapping[str, int], optional: Mapping[str, int | None] | None = None) -> None:
    """Refuse sizes, by name, that are no integers >= 1; `optional` ones may be None.

    Raises:
        ValueError: by the name of the first.
    """
    given = {name: value for name, value in (optional or {}).items() if value is not None}
    for name, value in (dict(sizes) | given).items():
        check_at_least(name, value, 1)


def check_number(
    name: str,
    value: float | None,
    *,
    optional: bool = False,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
) -> None:
    """Refuse an option that is no finite number, or out of range.

    Args:
        optional: whether the value may be None.
        least, most: bounds that the value may reach; None: there is none.
        above, below: bounds that it may not reach.
    Raises:
        ValueError: unless value is a number within the bounds.
    """
    bounds = ((">=", least), (">", above), ("<=", most), ("<", below))
    wanted = " and ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None)
    if optional:
        if value is None:
            return
        wanted += " or null"
    if not _is_number(value):
        raise ValueError(f"{name} must be a number {wanted}".rstrip() + f", got {value}")
    inside = (
        (least is None or value >= least)
        and (above is None or value > above)
        and (most is None or value <= most)
        and (below is None or value < below)
    )
    if not inside:
        raise ValueError(f"{name} must be {wanted}, got {value}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")


def check_flag(name: str, value: bool) -> None:
    """Refuse an option that is neither true nor false.

    Raises:
        ValueError: unless value is a bool.
    """
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, got {value}")


def check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    """Refuse an option that is not one of a few.

    Raises:
        ValueError: if value is not in allowed.
    """
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value}")


def check_list(name: str, values: Sequence[Any], wanted: str) -> None:
    """Refuse an option that is no list; a text is none.

    Args:
        wanted: what the option must do, for the message: "be a list of splits".
    Raises:
        ValueError: unless values is a list.
    """
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise ValueError(f"{name} must {wanted}, got {values}")


def check_numbers(name: str, values: Sequence[float], count: int, wanted: str) -> None:
    """Refuse an option that is no list of `count` finite numbers.

    Args:
        wanted: as in `check_list`.
    Raises:
        ValueError: unless values is such a list.
    """
    check_list(name, values, wanted)
    if len(values) != count or not all(_is_number(v) and math.isfinite(v) for v in values):
        raise ValueError(f"{name} must {wanted}, got {list(values)}")


def check_integers(
    name: str, values: Sequence[int], wanted: str, *, least: int, most: int | None = None
) -> None:
    """Refuse an option that is no list of integers >= 1.

    Args:
        wanted: as in `check_list`.
        least, most: how many there are; None: there is no most.
    Raises:
        ValueError: unless values is such a list.
    """
    check_list(name, values, wanted)
    enough = len(values) >= least and (most is None or len(values) <= most)
    if not enough or not all(_is_integer(value) and value >= 1 for value in values):
        raise ValueError(f"{name} must {wanted}, got {list(values)}")


def check_depth(depth: int, step: int) -> None:
    """Refuse a residual network whose depth makes no three stages of equally many blocks.

    Args:
        step: layers that one block more in each stage adds to the stem and the read-out.
    Raises:
        ValueError: unless depth is step * k + 2 for an integer k >= 1.
    """
    if not _is_integer(depth) or depth < step + 2 or (depth - 2) % step:
        raise ValueError(f"depth must be {step} k + 2 with k >= 1, got {depth}")


def check_channels(mean: Sequence[float], std: Sequence[float], count: int, where: str) -> None:
    """Refuse a normalisation that has not a number for each channel.

    Args:
        count: of channels.
        where: whose they are, for the message: " of mnist".
    Raises:
        ValueError: unless both are lists of as many numbers, those of std positive.
    """
    for name, values in {"mean": mean, "std": std}.items():
        check_numbers(name, values, count, f"have a number for each of the {count} channels{where}")
    if not min(std) > 0:
        raise ValueError(f"std must be > 0, got {list(std)}")


def check_callable(name: str, value: Callable[..., Any]) -> None:
    """Refuse what cannot be called, such as a section of the configuration that is null.

    Raises:
        ValueError: unless value can be called.
    """
    if not callable(value):
        raise ValueError(f"{name} must have a _target_ that makes it, got {value}")


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
