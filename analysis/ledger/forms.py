"""What the rules and quantities of a claim look like: checked, and completed from `from`.

A description that does not fit is refused with the place and what is known there, so that a typing
mistake never becomes a verdict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from analysis.ledger.limits import KINDS, LOWER, UPPER
from analysis.ledger.quantity_forms import (
    FormError,
    Spec,
    check_keys,
    defaults_of,
    listed,
    margin,
    must_map,
    number,
    plain_number,
    quantities,
    quantity,
)


class Form(NamedTuple):
    """The keys of a rule.

    Attributes:
        quantities: keys whose value is one quantity.
        lists: keys whose value is a list of quantities.
        numbers: keys whose value is a number, or a quantity that gives one.
        margins: keys whose value is a margin: see `margin`.
        groups: keys whose value is a list of lists of quantities.
        bounded: keys whose value is a list of quantities with bounds: see `_bounded`.
        options: keys whose value is a plain number, a direction, or other rules.
        required: keys that must be there.
        one_of: keys of which at least one must be there.
    """

    quantities: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    margins: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    bounded: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    one_of: tuple[str, ...] = ()

    @property
    def keys(self) -> frozenset[str]:
        """Everything the rule knows."""
        kinds = (
            self.quantities, self.lists, self.numbers, self.margins, self.groups, self.bounded
        )  # fmt: skip
        return frozenset((*sum(kinds, ()), *self.options))


_AB = ("a", "b")
_BOUNDS = (*KINDS, "partly")

# `fails`, `all` and `most` hold other rules: see `_compound`.
RULES: Mapping[str, Form] = {
    "better": Form(quantities=_AB, options=("direction",), required=_AB),
    "not_better": Form(quantities=_AB, options=("direction",), required=_AB),
    "throughout": Form(
        quantities=_AB, margins=("margin",), options=("direction", "share", "partly"), required=_AB
    ),
    "equal": Form(quantities=_AB, margins=("margin",), required=(*_AB, "margin")),
    "order": Form(lists=("quantities",), options=("direction",), required=("quantities",)),
    "ratio": Form(quantities=_AB, numbers=_BOUNDS, required=_AB, one_of=KINDS),
    "near": Form(
        quantities=("a",),
        numbers=("value",),
        margins=("tolerance",),
        options=("side_of",),
        required=("a", "value", "tolerance"),
    ),
    "bound": Form(
        quantities=("a",),
        numbers=_BOUNDS,
        options=("share",),
        required=("a",),
        one_of=KINDS,
    ),
    "within": Form(bounded=("parts",), options=("share", "partly"), required=("parts",)),
    "identity": Form(quantities=("a",), options=("tolerance",), required=("a",)),
    "count": Form(
        quantities=("a",), numbers=("equals",), options=("relative",), required=("a", "equals")
    ),
    "slope": Form(
        quantities=("a",),
        numbers=(*_BOUNDS, "near"),
        options=("tolerance",),
        required=("a",),
        one_of=(*KINDS, "near"),
    ),
    "mean": Form(
        quantities=("a",),
        numbers=(*_BOUNDS, "near"),
        options=("tolerance",),
        required=("a",),
        one_of=(*KINDS, "near"),
    ),
    "positive": Form(quantities=("a",), required=("a",)),
    "correlation": Form(lists=_AB, options=("at_least_pairs",), required=_AB),
    "same_order": Form(groups=("groups",), options=("tau", "partly"), required=("groups",)),
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
    must_map(entry, where)
    names = [key for key in entry if key in RULES]
    unknown = sorted(set(entry) - set(RULES) - extra)
    if unknown:
        raise FormError(f"{where}: unknown rule or key {unknown[0]!r}; rules: {listed(RULES)}")
    if len(names) != 1:
        found = "none" if not names else ", ".join(names)
        raise FormError(f"{where}: exactly one rule is needed, got {found}")
    return names[0], _complete(names[0], entry[names[0]], {}, f"{where}, {names[0]}")


def _complete(name: str, given: Any, outer: Spec, where: str) -> Spec:
    if name == "fails" and isinstance(given, Mapping) and "rule" not in given:
        inner = {key: value for key, value in given.items() if key != "from"}
        given = {"rule": inner, "from": given.get("from") or {}}
    form = RULES[name]
    _check_form(name, form, must_map(given, where), where)
    defaults = defaults_of(outer, given.get("from") or {}, where)
    spec: Spec = {key: value for key, value in given.items() if key != "from"}
    used: set[str] = set()
    kinds = (
        (form.quantities, quantity),
        (form.lists, quantities),
        (form.numbers, number),
        (form.margins, margin),
        (form.groups, _groups),
        (form.bounded, _bounded),
    )
    for keys, complete in kinds:
        for key in keys:
            if key in spec:
                spec[key] = complete(spec[key], defaults, used, f"{where}, {key}")
    if name in ("fails", "all", "most"):
        return _compound(name, spec, defaults, where)
    unused = sorted(set(given.get("from") or {}) - used)
    if unused:
        raise FormError(f"{where}: no quantity has a use for {unused[0]!r} of from")
    return spec


def _check_form(name: str, form: Form, given: Mapping[str, Any], where: str) -> None:
    """Refuse keys that a rule does not know or lacks, and options that are not plain numbers."""
    check_keys(given, form.keys | {"from"}, form.required, where)
    found = [key for key in form.one_of if key in given]
    if form.one_of and not found:
        raise FormError(f"{where}: needs {' or '.join(form.one_of)}")
    # Two bounds are an interval for values, each by itself; a mean has one.
    if len(found) > 1 and (name != "bound" or len(found) > 2 or not _is_interval(found)):
        raise FormError(f"{where}: needs only one of {', '.join(form.one_of)}")
    if len(found) > 1 and "partly" in given:
        raise FormError(f"{where}: partly goes with one bound, not with both")
    if given.get("direction") not in (None, "min", "max"):
        raise FormError(f"{where}: direction must be min or max, got {given['direction']!r}")
    for key in form.options:
        if key in given and key not in ("direction", "rule", "parts"):
            plain_number(given[key], f"{where}, {key}")


def _is_interval(bounds: Sequence[str]) -> bool:
    return [sum(key in side for key in bounds) for side in (LOWER, UPPER)] == [1, 1]


def _bounded(value: Any, defaults: Spec, used: set[str], where: str) -> list[Spec]:
    """Quantities with their bounds: a list of `{a: quantity, at_most: number, ...}`."""
    if not isinstance(value, list) or not value:
        raise FormError(f"{where}: must be a list of quantities with bounds, got {value!r}")
    found = []
    for index, part in enumerate(value, 1):
        place = f"{where} {index}"
        check_keys(must_map(part, place), {"a", *KINDS}, ("a",), place)
        bounds = [key for key in part if key in KINDS]
        if len(bounds) != 1 and not _is_interval(bounds):
            raise FormError(f"{place}: needs one of {', '.join(KINDS)}, or one of each side")
        spec = {"a": quantity(part["a"], defaults, used, f"{place}, a")}
        spec |= {key: number(part[key], defaults, used, f"{place}, {key}") for key in bounds}
        found.append(spec)
    return found


def _groups(value: Any, defaults: Spec, used: set[str], where: str) -> list[list[Spec]]:
    """Lists of quantities, two or more and of one length."""
    if not isinstance(value, list) or len(value) < 2:
        raise FormError(f"{where}: must be a list of two or more lists of quantities")
    found = [quantities(v, defaults, used, f"{where} {i}") for i, v in enumerate(value, 1)]
    if len({len(group) for group in found}) > 1:
        raise FormError(f"{where}: must be lists of one length")
    return found


def _compound(name: str, spec: Spec, defaults: Spec, where: str) -> Spec:
    if name == "fails":
        inner = dict(must_map(spec["rule"], where))
        spec["rule"] = _inner(inner, frozenset(), defaults, where)
        return spec
    if not isinstance(spec["parts"], list) or not spec["parts"]:
        raise FormError(f"{where}: parts must be a list of rules")
    spec["parts"] = [
        {
            "what": str(must_map(part, where).get("what") or f"part {index}"),
            **_inner(part, frozenset({"what"}), defaults, f"{where}, part {index}"),
        }
        for index, part in enumerate(spec["parts"], 1)
    ]
    return spec


def _inner(entry: Mapping[str, Any], extra: frozenset[str], defaults: Spec, where: str) -> Spec:
    """A rule within a rule, as {name: keys}, with the outer one's defaults."""
    names = [key for key in entry if key in RULES]
    unknown = sorted(set(entry) - set(RULES) - extra)
    if unknown or len(names) != 1:
        raise FormError(
            f"{where}: exactly one rule is needed, got {', '.join(map(str, entry)) or 'none'}; "
            f"rules: {listed(RULES)}"
        )
    return {names[0]: _complete(names[0], entry[names[0]], defaults, f"{where}, {names[0]}")}
