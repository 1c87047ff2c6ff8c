"""The contract shared by our own optimizers: validation, closures, exact restoring of state."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, ClassVar

import torch
from torch import Tensor

from optimizers.telemetry import Spectrum

# The names under which YAML and checkpoints know the working dtypes.
DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}


def require(condition: bool, name: str, expectation: str, value: object) -> None:
    """Raise ValueError "{name} must be {expectation}, got {value}" unless `condition` holds."""
    if not condition:
        raise ValueError(f"{name} must be {expectation}, got {value}")


def require_common(options: dict[str, Any]) -> None:
    """Check the options whose names all optimizers share, those that `options` has.

    They are lr, momentum, beta2, damping, weight_decay, and the counts update_freq, start_step and
    block_size.

    Raises:
        ValueError: naming the option, its range and the value.
    """
    intervals: dict[str, tuple[float, float, str]] = {
        "lr": (0, math.inf, "[)"),
        "weight_decay": (0, math.inf, "[)"),
        "momentum": (0, 1, "[)"),
        "beta2": (0, 1, "(]"),
        "damping": (0, math.inf, "()"),
    }
    for name, (low, high, ends) in intervals.items():
        if name in options:
            require_number(options[name], name, low, high, ends, tensor=name == "lr")
    for name, least in (("update_freq", 1), ("start_step", 0), ("block_size", 1)):
        if name in options:
            require_count(options[name], name, least)


def is_number(value: Any, low: float, high: float, ends: str = "[)") -> bool:
    """Whether `value` is a finite real number, no boolean, in an interval with these brackets."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        number = float(value)
    except OverflowError:
        return False
    above = low < number or (ends[0] == "[" and number == low)
    below = number < high or (ends[1] == "]" and number == high)
    return above and below and math.isfinite(number)


def require_number(
    value: Any,
    name: str,
    low: float = 0.0,
    high: float = math.inf,
    ends: str = "[)",
    *,
    optional: bool = False,
    tensor: bool = False,
) -> None:
    """Raise ValueError unless `value` is a finite real number, no boolean, in an interval.

    Args:
        value: of the option `name`.
        low, high: ends of the interval; `high` may be inf.
        ends: its brackets, "[)" for low <= value < high.
        optional: None is allowed, too.
        tensor: so is a real tensor of one element.
    """
    if optional and value is None:
        return
    number = value
    if tensor and isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex():
        number = value.item()
    if high == math.inf:
        bound = f"{'>=' if ends[0] == '[' else '>'} {low:g}"
        infinite = isinstance(number, float) and math.isinf(number)
        expectation = f"finite and {bound}" if infinite else bound
    else:
        expectation = f"in {ends[0]}{low:g}, {high:g}{ends[1]}"
    if optional:
        expectation = f"None or {expectation}"
    require(is_number(number, low, high, ends), name, expectation, number)


def require_flag(value: Any, name: str) -> None:
    """Raise ValueError unless `value` is a boolean."""
    require(isinstance(value, bool), name, "true or false", value)


def require_choice(value: Any, name: str, allowed: Iterable[str]) -> None:
    """Raise ValueError unless `value` is one of a few words."""
    words = tuple(allowed)
    known = isinstance(value, str) and value in words
    require(known, name, "one of " + ", ".join(words), value)


def require_count(value: Any, name: str, least: int = 1) -> None:
    """Raise ValueError unless `value` is an integer (no boolean) of at least `least`."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    require(whole and value >= least, name, f"an integer >= {least}", value)


def dtype_name(dtype: torch.dtype | str, name: str, allowed: Iterable[str] = DTYPES) -> str:
    """Return the name of `dtype`, given as a torch dtype or already as a name.

    Raises:
        ValueError: if it is not among `allowed`; `name` is the option it came from.
    """
    text = str(dtype).removeprefix("torch.")
    require(text in allowed, name, "one of " + ", ".join(allowed), dtype)
    return text


def constructor_options(arguments: dict[str, Any]) -> dict[str, Any]:
    """Options of a constructor from its `locals()`: all but self, the parameters and the model."""
    others = ("self", "__class__", "params", "model")
    return {name: value for name, value in arguments.items() if name not in others}


class PreconditionedOptimizer(torch.optim.Optimizer, ABC):
    """Abstract base of our optimizers: a `torch.optim.Optimizer` with the full contract.

    Subclasses give `_update` (one step from the gradients in place, under no_grad), `_check`
    (ValueError on bad options of one group) and `spectra`. State of one parameter lives in
    `state[parameter]`, state of the whole model in `state["<name>"]`: a dict of tensors, numbers
    and strings, so that `torch.load(weights_only=True)` reads a checkpoint.

    Attributes:
        numerics_version: raised whenever the optimizer's numbers change; enters a run's identity.
        cpu_state: names of state tensors that stay on the CPU whatever the parameters' device.
        needs_model: the class takes a keyword `model`, the module whose parameters it trains.
        needs_closure: `step` must be given `closure(backward=True)`: it fills `.grad` anew and
            returns the loss; with backward=False it returns the loss with its graph instead.
        takes_names: `build` gives parameters by name, so that every group has `param_names`.
    """

    numerics_version: ClassVar[int]
    needs_model: ClassVar[bool] = False
    needs_closure: ClassVar[bool] = False
    takes_names: ClassVar[bool] = True
    cpu_state: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def _update(self) -> None: ...

    @abstractmethod
    def _check(self, options: dict[str, Any]) -> None: ...

    @abstractmethod
    def spectra(self) -> list[Spectrum]: ...

    @property
    def num_fallbacks(self) -> int:
        """Steps skipped so far, and roots that had to be computed another way."""
        own = [value for key, value in self.state.items() if isinstance(key, str)]
        return sum(value.get("fallbacks", 0) for value in own)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters in place and return the closure's loss, if there is one.

        Gradients are read and never modified.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._update()
        return loss

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters, with options of their own; among named ones, unnamed get a number."""
        self._check({**self.defaults, **param_group})
        if any("param_names" in group for group in self.param_groups):
            param_group = _named(param_group, sum(len(g["params"]) for g in self.param_groups))
        super().add_param_group(param_group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a checkpoint: every tensor is cloned with the dtype it was saved in.

        torch's own version casts state to the parameter's dtype, which would cut the float64
        statistics of a float32 model.
        """
        super().load_state_dict(state_dict)
        own = list(chain.from_iterable(group["params"] for group in self.param_groups))
        saved_keys = chain.from_iterable(group["params"] for group in state_dict["param_groups"])
        by_key = dict(zip(saved_keys, own, strict=True))
        for key, saved in state_dict["state"].items():
            device = by_key.get(key, own[0]).device
            self.state[by_key.get(key, key)] = self._restored("", saved, device)

    def _restored(self, name: str, value: Any, device: torch.device) -> Any:
        if isinstance(value, Tensor):
            target = torch.device("cpu") if name in self.cpu_state else device
            return value.detach().to(target, copy=True)
        if isinstance(value, dict):
            return {key: self._restored(key, item, device) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self._restored(name, item, device) for item in value)
        return value


def _named(param_group: dict[str, Any], start: int) -> dict[str, Any]:
    """The group with a name for each parameter; torch refuses named beside unnamed groups."""
    given = param_group["params"]
    params = [given] if isinstance(given, Tensor) else list(given)
    if "param_names" in param_group or any(isinstance(item, tuple) for item in params):
        return {**param_group, "params": params}
    names = [f"parameter {start + i}" for i in range(len(params))]
    return {**param_group, "params": list(zip(names, params, strict=True))}
