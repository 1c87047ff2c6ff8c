"""Make any `torch.optim.Optimizer` for a model, with parameter groups from rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from optimizers.base import require_number
from optimizers.routing import members_of, route
from optimizers.sparse import require_dense_tables

Named = list[tuple[str, nn.Parameter]]

MATCHERS = ("names", "ndim", "modules")

# Keys of a group rule that are no options of an optimizer.
RULE_KEYS = (*MATCHERS, "optional", "cls")

# What a parameter group holds beside its options.
LISTS = ("params", "param_names")


def build(
    model: nn.Module,
    cls: type[torch.optim.Optimizer],
    groups: Sequence[Mapping[str, Any]] = (),
    **options: Any,
) -> torch.optim.Optimizer:
    """Make `cls` for the parameters of `model` that require gradients.

    Each rule in `groups` says which parameters it takes, by any of

        names: patterns of the qualified name ("bias", "encoder.*.weight")
        ndim: numbers of dimensions ([1] takes biases and norms)
        modules: patterns of the owning module's path or lower-cased class name ("*norm*")

    all of which must hold, and which options it overrides (`weight_decay: 0.0`). A pattern without
    any of * ? [ matches as a substring. The first rule that matches a parameter takes it; the rest
    form a group with the given options. A rule must take something unless it says `optional: true`.

    A rule with a `cls` of its own sends what it takes to an optimizer of that class, whose options
    are the rule's alone; the optimizers then step together as a `Routed`.

    Our own optimizers learn the parameters' names (`group["param_names"]`), and a class that says
    `needs_model` gets the model.

    Raises:
        ValueError: if lr is no finite number >= 0, if a rule has no matcher, an unknown option or
            no parameter, if the model has nothing to train, or tables with sparse gradients that
            their optimizer does not take. What a class itself raises passes.
    """
    options = {name: _plain(value) for name, value in options.items()}
    rules = [_plain(rule) for rule in groups]
    for settings in (options, *rules):
        require_number(settings.get("lr", 0.0), "lr", tensor=True)
    rest, *taken = _assign(model, rules)
    if not rules and not rest:
        raise ValueError("model must have parameters that require gradients, got none")
    own: list[tuple[dict[str, Any], Named]] = [({}, rest)]
    members = []
    for rule, parameters in zip(rules, taken, strict=True):
        settings = {name: value for name, value in rule.items() if name not in RULE_KEYS}
        if "cls" not in rule:
            own.append((settings, parameters))
        elif parameters:
            members.append(_make(model, rule["cls"], [({}, parameters)], settings))
    if any(parameters for _, parameters in own):
        members.insert(0, _make(model, cls, own, options))
    optimizer = route(members)
    require_dense_tables(optimizer, model)
    return optimizer


def _make(
    model: nn.Module,
    cls: type[torch.optim.Optimizer],
    groups: list[tuple[dict[str, Any], Named]],
    options: dict[str, Any],
) -> torch.optim.Optimizer:
    """Make one optimizer for (overrides, named parameters) of each group."""
    if getattr(cls, "needs_model", False):
        options = {**options, "model": model}
    named = getattr(cls, "takes_names", False)
    param_groups = [
        {"params": list(pairs) if named else [parameter for _, parameter in pairs], **overrides}
        for overrides, pairs in groups
        if pairs
    ]
    optimizer = cls(param_groups, **options)
    for overrides, _ in groups:
        unknown = sorted(set(overrides) - set(optimizer.defaults))
        if unknown:
            known = ", ".join((*MATCHERS, "optional", "cls", *optimizer.defaults))
            raise ValueError(f"keys of a group rule must be among {known}, got {unknown[0]}")
    return optimizer


def describe_groups(optimizer: torch.optim.Optimizer, model: nn.Module) -> list[dict[str, Any]]:
    """List each group's `names`, `num_parameters`, `optimizer` (its class) and `options`.

    Plain values fit for JSON.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [
        {
            "names": [names[id(parameter)] for parameter in group["params"]],
            "num_parameters": sum(parameter.numel() for parameter in group["params"]),
            "optimizer": type(member).__name__,
            "options": {k: _json_value(v) for k, v in group.items() if k not in LISTS},
        }
        for member in members_of(optimizer)
        for group in member.param_groups
    ]


def numerics_versions(
    cls: type[torch.optim.Optimizer], groups: Sequence[Mapping[str, Any]] = (), **_: Any
) -> dict[str, int]:
    """The `numerics_version` of everything that `build`, given the same, would make.

    Returns:
        {"optimizer": version}, and "optimizer.groups.<i>" for each rule with a `cls`; 0 for
        classes of others, which have none.
    """
    classes = {"optimizer": cls}
    for index, rule in enumerate(groups):
        if "cls" in rule:
            classes[f"optimizer.groups.{index}"] = rule["cls"]
    return {name: getattr(found, "numerics_version", 0) for name, found in classes.items()}


def _assign(model: nn.Module, rules: list[dict[str, Any]]) -> list[list[tuple[str, nn.Parameter]]]:
    """Return (name, parameter) of those that no rule takes, followed by those of each rule."""
    taken: list[list[tuple[str, nn.Parameter]]] = [[] for _ in range(len(rules) + 1)]
    for rule in rules:
        if not any(name in rule for name in MATCHERS):
            raise ValueError(f"a group rule must have one of {', '.join(MATCHERS)}, got {rule}")
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            hits = (k for k, rule in enumerate(rules, 1) if _matches(rule, model, name, parameter))
            taken[next(hits, 0)].append((name, parameter))
    for rule, parameters in zip(rules, taken[1:], strict=True):
        if not parameters and not rule.get("optional", False):
            raise ValueError(f"a group rule must match a parameter not taken before it, got {rule}")
    return taken


def _matches(rule: dict[str, Any], model: nn.Module, name: str, parameter: Tensor) -> bool:
    path = name.rpartition(".")[0]
    class_name = type(model.get_submodule(path)).__name__.lower()
    if "names" in rule and not _fits(rule["names"], name):
        return False
    if "ndim" in rule and parameter.ndim not in _listed(rule["ndim"]):
        return False
    return "modules" not in rule or any(_fits(rule["modules"], x) for x in (path, class_name))


def _fits(patterns: Any, text: str) -> bool:
    return any(
        fnmatchcase(text, pattern) if any(mark in pattern for mark in "*?[") else pattern in text
        for pattern in _listed(patterns)
    )


def _listed(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _plain(value: Any) -> Any:
    """Turn configuration containers into dicts and tuples, which checkpoints can hold."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(_plain(item) for item in value)
    return value


def _json_value(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [_json_value(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
