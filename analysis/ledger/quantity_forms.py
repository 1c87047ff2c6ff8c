"""What the quantities and numbers of a rule look like: checked, and completed from `from`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.ledger.quantities import DERIVED_KEYS, MEASUREMENT_KEYS, RUN_KEYS
from analysis.ledger.takes import TAKES

Spec = dict[str, Any]


class FormError(ValueError):
    """A rule or a quantity that is not described as it must be."""


def quantities(value: Any, defaults: Spec, used: set[str], where: str) -> list[Spec]:
    """A list of quantities, each completed as by `quantity`."""
    if not isinstance(value, list) or not value:
        raise FormError(f"{where}: must be a list of quantities, got {value!r}")
    return [quantity(item, defaults, used, f"{where} {i}") for i, item in enumerate(value, 1)]


def quantity(given: Any, defaults: Spec, used: set[str], where: str) -> Spec:
    """A quantity, checked and completed.

    Args:
        given: as it stands in the claim.
        defaults: keys of the rule's `from`; those that do not apply to it are passed over.
        used: names of the defaults that some quantity took; added to.
        where: for messages.
    Raises:
        FormError: if a key is unknown or missing; names it.
    """
    must_map(given, where)
    derived = [key for key in given if key in DERIVED_KEYS]
    if derived:
        if len(derived) > 1:
            raise FormError(f"{where}: one of {', '.join(derived)} at a time")
        (key,) = derived
        check_keys(given, {key, "direction"}, (key,), where)
        inner = f"{where}, {key}"
        if key == "log10":
            return {**given, key: quantity(given[key], defaults, used, inner)}
        parts = quantities(given[key], defaults, used, inner)
        if key in ("ratio", "minus", "crossing") and len(parts) != 2:
            raise FormError(f"{inner}: needs two quantities, got {len(parts)}")
        return {**given, key: parts}
    explicit = set(given)
    measured = bool(explicit & MEASUREMENT_KEYS) or (
        "measurement" in defaults and not explicit & RUN_KEYS
    )
    return (_measured if measured else _of_runs)(given, defaults, used, where)


def _measured(given: Any, defaults: Spec, used: set[str], where: str) -> Spec:
    base = {key: value for key, value in defaults.items() if key in MEASUREMENT_KEYS}
    used |= set(base)
    spec = {**base, **given}
    if "where" in base or "where" in given:
        spec["where"] = {**(base.get("where") or {}), **(given.get("where") or {})}
    check_keys(spec, MEASUREMENT_KEYS, ("measurement",), where)
    return spec


def _of_runs(given: Any, defaults: Spec, used: set[str], where: str) -> Spec:
    name = given.get("take", defaults.get("take"))
    if name not in TAKES:
        raise FormError(f"{where}: take must be one of {listed(TAKES)}, got {name!r}")
    take = TAKES[name]
    known = RUN_KEYS | take.options
    base = {key: value for key, value in defaults.items() if key in known}
    used |= set(base)
    spec = {**base, **given}
    required = (*sorted(RUN_KEYS), *sorted(take.required))
    check_keys(spec, known, required, where)
    if "target" in spec:
        outer = {key: value for key, value in defaults.items() if key != "target"}
        spec["target"] = number(spec["target"], outer, used, f"{where}, target")
    if spec.get("of", "loss") != "loss" and not {"metric", "split"} <= set(spec):
        raise FormError(f"{where}: of: metric needs metric and split")
    return spec


def number(value: Any, defaults: Spec, used: set[str], where: str) -> Any:
    """A number, or a quantity that gives one: bare, or within `mean_of` or `median_of`."""
    if isinstance(value, Mapping):
        for key in ("mean_of", "median_of"):
            if key in value:
                check_keys(value, {key}, (key,), where)
                return {key: quantity(value[key], defaults, used, f"{where}, {key}")}
        return quantity(value, defaults, used, where)
    return plain_number(value, where)


def margin(value: Any, defaults: Spec, used: set[str], where: str) -> Any:
    """A margin: a number, or one of {relative: x}, {half_gap: [q, ...]}, {sd: q}."""
    if not isinstance(value, Mapping):
        return plain_number(value, where)
    check_keys(value, {"relative", "half_gap", "sd"}, (), where)
    if len(value) != 1:
        raise FormError(f"{where}: needs one of relative, half_gap and sd")
    if "relative" in value:
        return {"relative": plain_number(value["relative"], where)}
    if "sd" in value:
        return {"sd": quantity(value["sd"], defaults, used, f"{where}, sd")}
    parts = quantities(value["half_gap"], defaults, used, f"{where}, half_gap")
    if len(parts) < 2:
        raise FormError(f"{where}: half_gap needs two quantities or more")
    return {"half_gap": parts}


# ---------------------------------------------------------------- checks


def defaults_of(outer: Spec, given: Any, where: str) -> Spec:
    """The defaults of a rule: those of the rule around it, and its own `from`."""
    must_map(given, f"{where}, from")
    joined = {**outer, **given}
    known = RUN_KEYS | MEASUREMENT_KEYS | frozenset().union(*(t.options for t in TAKES.values()))
    check_keys(joined, known, (), f"{where}, from")
    return joined


def check_keys(given: Mapping[str, Any], known, required, where: str) -> None:
    """Refuse unknown and missing keys.

    Raises:
        FormError: names the first of them.
    """
    unknown = sorted(set(map(str, given)) - set(known))
    if unknown:
        raise FormError(f"{where}: unknown key {unknown[0]!r}; known: {listed(known)}")
    missing = [key for key in required if key not in given]
    if missing:
        raise FormError(f"{where}: {missing[0]} is missing")


def must_map(value: Any, where: str) -> Mapping[str, Any]:
    """The value, refused if it is no mapping."""
    if not isinstance(value, Mapping):
        raise FormError(f"{where}: must be a mapping, got {value!r}")
    return value


def plain_number(value: Any, where: str) -> Any:
    """The value, refused if it is no number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise FormError(f"{where}: must be a number, got {value!r}")
    return value


def listed(names) -> str:
    """Names in order, for messages."""
    return ", ".join(sorted(names))
