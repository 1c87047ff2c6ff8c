"""What the rules and quantities of a claim look like: checked, and completed from `from`.

A description that does not fit is refused with the place and what is known there, so that a typing
mistake never becomes a verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from analysis.ledger.quantities import DERIVED_KEYS, MEASUREMENT_KEYS, RUN_KEYS
from analysis.ledger.takes import TAKES

Spec = dict[str, Any]


class FormError(ValueError):
    """A rule or a quantity that is not described as it must be."""


class Form(NamedTuple):
    """The keys of a rule.

    Attributes:
        quantities: keys whose value is one quantity.
        lists: keys whose value is a list of quantities.
        numbers: keys whose value is a number, or a quantity that gives one.
        options: keys whose value is plain.
        required: keys that must be there.
        one_of: keys of which at least one must be there.
    """

    quantities: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    one_of: tuple[str, ...] = ()

    @property
    def keys(self) -> frozenset[str]:
        """Everything the rule knows."""
        return frozenset((*self.quantities, *self.lists, *self.numbers, *self.options))


_AB = ("a", "b")
_BOUNDS = ("at_most", "at_least", "partly")

# `fails`, `all` and `most` hold other rules, and `same_order` lists of lists: see `_complete_rule`.
RULES: Mapping[str, Form] = {
    "better": Form(quantities=_AB, options=("direction",), required=_AB),
    "throughout": Form(
        quantities=_AB, options=("direction", "share", "partly", "margin"), required=_AB
    ),
    "equal": Form(quantities=_AB, options=("margin",), required=(*_AB, "margin")),
    "order": Form(lists=("quantities",), options=("direction",), required=("quantities",)),
    "ratio": Form(quantities=_AB, numbers=_BOUNDS, required=_AB, one_of=("at_most", "at_least")),
    "near": Form(
        quantities=("a",),
        numbers=("value",),
        options=("tolerance", "side_of"),
        required=("a", "value", "tolerance"),
    ),
    "bound": Form(
        quantities=("a",),
        numbers=_BOUNDS,
        options=("share",),
        required=("a",),
        one_of=("at_most", "at_least"),
    ),
    "identity": Form(quantities=("a",), options=("tolerance",), required=("a",)),
    "count": Form(
        quantities=("a",), numbers=("equals",), options=("relative",), required=("a", "equals")
    ),
    "slope": Form(
        quantities=("a",),
        numbers=(*_BOUNDS, "near"),
        options=("tolerance",),
        required=("a",),
        one_of=("at_most", "at_least", "near"),
    ),
    "mean": Form(
        quantities=("a",),
        numbers=(*_BOUNDS, "near"),
        options=("tolerance",),
        required=("a",),
        one_of=("at_most", "at_least", "near"),
    ),
    "positive": Form(quantities=("a",), required=("a",)),
    "correlation": Form(lists=_AB, options=("at_least_pairs",), required=_AB),
    "same_order": Form(options=("groups", "tau", "partly"), required=("groups",)),
    "fails": Form(options=("rule",), required=("rule",)),
    "all": Form(options=("parts",), required=("parts",)),
    "most": Form(options=("parts", "at_least", "partly"), required=("parts", "at_least")),
}


def complete_rule(entry: Mapping[str, Any], extra: frozenset[str], where: str) -> tuple[str, Spec]:
    """The one rule of an entry, with `from` merged into its quantities.

    Args:
        entry: a mapping with one rule among its keys.
        extra: further keys that the entry may have.
        where: for messages.
    Returns:
        The rule's name, and its keys complete.
    Raises:
        FormError: if there is no rule or more than one, or a key is unknown or missing.
    """
    _must_map(entry, where)
    names = [key for key in entry if key in RULES]
    unknown = sorted(set(entry) - set(RULES) - extra)
    if unknown:
        raise FormError(f"{where}: unknown rule or key {unknown[0]!r}; rules: {_listed(RULES)}")
    if len(names) != 1:
        found = "none" if not names else ", ".join(names)
        raise FormError(f"{where}: exactly one rule is needed, got {found}")
    return names[0], _complete(names[0], entry[names[0]], {}, f"{where}, {names[0]}")


def _complete(name: str, given: Any, outer: Spec, where: str) -> Spec:
    if name == "fails" and isinstance(given, Mapping) and "rule" not in given:
        given = {
            "rule": {k: v for k, v in given.items() if k != "from"},
            **({"from": given["from"]} if "from" in given else {}),
        }
    _must_map(given, where)
    form = RULES[name]
    _check_keys(given, form.keys | {"from"}, form.required, where)
    if form.one_of and not any(key in given for key in form.one_of):
        raise FormError(f"{where}: needs {' or '.join(form.one_of)}")
    if name in ("ratio", "slope", "mean") and sum(key in given for key in form.one_of) > 1:
        raise FormError(f"{where}: needs only one of {', '.join(form.one_of)}")
    if name == "bound" and "partly" in given and {"at_most", "at_least"} <= set(given):
        raise FormError(f"{where}: partly goes with one bound, not with both")
    defaults = _defaults(outer, given.get("from") or {}, where)
    spec: Spec = {key: value for key, value in given.items() if key != "from"}
    used: set[str] = set()
    for key in form.quantities:
        if key in spec:
            spec[key] = _quantity(spec[key], defaults, used, f"{where}, {key}")
    for key in form.lists:
        spec[key] = _quantities(spec[key], defaults, used, f"{where}, {key}")
    for key in form.numbers:
        if key in spec:
            spec[key] = _number(spec[key], defaults, used, f"{where}, {key}")
    for key in ("margin", "tolerance"):
        if key in spec:
            spec[key] = _margin(spec[key], defaults, used, f"{where}, {key}")
    if spec.get("direction") not in (None, "min", "max"):
        raise FormError(f"{where}: direction must be min or max, got {spec['direction']!r}")
    if name == "same_order":
        groups = spec["groups"]
        if not isinstance(groups, list) or len(groups) < 2:
            raise FormError(f"{where}: groups must be a list of two or more lists of quantities")
        spec["groups"] = [
            _quantities(group, defaults, used, f"{where}, group {number}")
            for number, group in enumerate(groups, 1)
        ]
        if len({len(group) for group in spec["groups"]}) > 1:
            raise FormError(f"{where}: groups must be of one length")
    if name in ("fails", "all", "most"):
        return _compound(name, spec, defaults, where)
    unused = sorted(set(given.get("from") or {}) - used)
    if unused:
        raise FormError(f"{where}: no quantity has a use for {unused[0]!r} of from")
    return spec


def _compound(name: str, spec: Spec, defaults: Spec, where: str) -> Spec:
    if name == "fails":
        inner = dict(_must_map(spec["rule"], where))
        spec["rule"] = _inner(inner, frozenset(), defaults, where)
        return spec
    if not isinstance(spec["parts"], list) or not spec["parts"]:
        raise FormError(f"{where}: parts must be a list of rules")
    spec["parts"] = [
        {
            "what": str(_must_map(part, where).get("what") or f"part {number}"),
            **_inner(part, frozenset({"what"}), defaults, f"{where}, part {number}"),
        }
        for number, part in enumerate(spec["parts"], 1)
    ]
    return spec


def _inner(entry: Mapping[str, Any], extra: frozenset[str], defaults: Spec, where: str) -> Spec:
    """A rule within a rule, as {name: keys}, with the outer one's defaults."""
    names = [key for key in entry if key in RULES]
    unknown = sorted(set(entry) - set(RULES) - extra)
    if unknown or len(names) != 1:
        raise FormError(
            f"{where}: exactly one rule is needed, got {', '.join(map(str, entry)) or 'none'}; "
            f"rules: {_listed(RULES)}"
        )
    return {names[0]: _complete(names[0], entry[names[0]], defaults, f"{where}, {names[0]}")}


# ---------------------------------------------------------------- quantities


def _quantities(value: Any, defaults: Spec, used: set[str], where: str) -> list[Spec]:
    if not isinstance(value, list) or not value:
        raise FormError(f"{where}: must be a list of quantities, got {value!r}")
    return [_quantity(item, defaults, used, f"{where} {i}") for i, item in enumerate(value, 1)]


def _quantity(given: Any, defaults: Spec, used: set[str], where: str) -> Spec:
    _must_map(given, where)
    derived = [key for key in given if key in DERIVED_KEYS]
    if derived:
        (key,) = derived if len(derived) == 1 else (None,)
        if key is None:
            raise FormError(f"{where}: one of {', '.join(derived)} at a time")
        _check_keys(given, {key, "direction"}, (key,), where)
        inner = f"{where}, {key}"
        if key == "log10":
            return {**given, key: _quantity(given[key], defaults, used, inner)}
        parts = _quantities(given[key], defaults, used, inner)
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
    _check_keys(spec, MEASUREMENT_KEYS, ("measurement",), where)
    return spec


def _of_runs(given: Any, defaults: Spec, used: set[str], where: str) -> Spec:
    name = given.get("take", defaults.get("take"))
    if name not in TAKES:
        raise FormError(f"{where}: take must be one of {_listed(TAKES)}, got {name!r}")
    take = TAKES[name]
    known = RUN_KEYS | take.options
    base = {key: value for key, value in defaults.items() if key in known}
    used |= set(base)
    spec = {**base, **given}
    required = (*sorted(RUN_KEYS), *sorted(take.required))
    _check_keys(spec, known, required, where)
    if "target" in spec:
        outer = {key: value for key, value in defaults.items() if key != "target"}
        spec["target"] = _number(spec["target"], outer, used, f"{where}, target")
    if spec.get("of", "loss") != "loss" and not {"metric", "split"} <= set(spec):
        raise FormError(f"{where}: of: metric needs metric and split")
    return spec


def _number(value: Any, defaults: Spec, used: set[str], where: str) -> Any:
    """A number, or a quantity that gives one: bare, or within `mean_of` or `median_of`."""
    if isinstance(value, Mapping):
        for key in ("mean_of", "median_of"):
            if key in value:
                _check_keys(value, {key}, (key,), where)
                return {key: _quantity(value[key], defaults, used, f"{where}, {key}")}
        return _quantity(value, defaults, used, where)
    return _plain_number(value, where)


def _margin(value: Any, defaults: Spec, used: set[str], where: str) -> Any:
    if not isinstance(value, Mapping):
        return _plain_number(value, where)
    _check_keys(value, {"relative", "half_gap", "sd"}, (), where)
    if len(value) != 1:
        raise FormError(f"{where}: needs one of relative, half_gap and sd")
    if "relative" in value:
        return {"relative": _plain_number(value["relative"], where)}
    if "sd" in value:
        return {"sd": _quantity(value["sd"], defaults, used, f"{where}, sd")}
    parts = _quantities(value["half_gap"], defaults, used, f"{where}, half_gap")
    if len(parts) < 2:
        raise FormError(f"{where}: half_gap needs two quantities or more")
    return {"half_gap": parts}


# ---------------------------------------------------------------- checks


def _defaults(outer: Spec, given: Any, where: str) -> Spec:
    _must_map(given, f"{where}, from")
    joined = {**outer, **given}
    known = RUN_KEYS | MEASUREMENT_KEYS | frozenset().union(*(t.options for t in TAKES.values()))
    _check_keys(joined, known, (), f"{where}, from")
    return joined


def _check_keys(given: Mapping[str, Any], known, required, where: str) -> None:
    unknown = sorted(set(map(str, given)) - set(known))
    if unknown:
        raise FormError(f"{where}: unknown key {unknown[0]!r}; known: {_listed(known)}")
    missing = [key for key in required if key not in given]
    if missing:
        raise FormError(f"{where}: {missing[0]} is missing")


def _must_map(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise FormError(f"{where}: must be a mapping, got {value!r}")
    return value


def _plain_number(value: Any, where: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise FormError(f"{where}: must be a number, got {value!r}")
    return value


def _listed(names) -> str:
    return ", ".join(sorted(names))
