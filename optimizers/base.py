"""The contract shared by our own optimizers: validation, closures, exact restoring of state."""

from __future__ import annotations

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
    """Check lr, momentum, beta2, damping and weight_decay, those that `options` has.

    NaN fails every check.

    Raises:
        ValueError: naming the option, its range and the value.
    """
    checks: dict[str, tuple[Callable[[Any], bool], str]] = {
        "lr": (lambda x: x >= 0, ">= 0"),
        "weight_decay": (lambda x: x >= 0, ">= 0"),
        "momentum": (lambda x: 0 <= x < 1, "in [0, 1)"),
        "beta2": (lambda x: 0 < x <= 1, "in (0, 1]"),
        "damping": (lambda x: x > 0, "> 0"),
    }
    for name, (holds, expectation) in checks.items():
        if name in options:
            value = options[name]
            number = isinstance(value, int | float | Tensor) and not isinstance(value, bool)
            require(number and holds(value), name, expectation, value)


def dtype_name(dtype: torch.dtype | str, name: str, allowed: Iterable[str] = DTYPES) -> str:
    """Return the name of `dtype`, given as a torch dtype or already as a name.

    Raises:
        ValueError: if it is not among `allowed`; `name` is the option it came from.
    """
    text = str(dtype).removeprefix("torch.")
    require(text in allowed, name, "one of " + ", ".join(allowed), dtype)
    return text


class PreconditionedOptimizer(torch.optim.Optimizer, ABC):
    """Abstract base of our optimizers: a `torch.optim.Optimizer` with the full contract.

    Subclasses give `_update` (one step from the gradients in place, under no_grad), `_check`
    (ValueError on bad options of one group) and `spectra`. State of one parameter lives in
    `state[parameter]`, state of the whole model in `state["<name>"]`: a dict of tensors, numbers
    and strings, so that `torch.load(weights_only=True)` reads a checkpoint.

    Attributes:
        numerics_version: raised whenever the optimizer's numbers change; enters a run's identity.
        cpu_state: names of state tensors that stay on the CPU whatever the parameters' device.
    """

    numerics_version: ClassVar[int]
    cpu_state: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def _update(self) -> None: ...

    @abstractmethod
    def _check(self, options: dict[str, Any]) -> None: ...

    @abstractmethod
    def spectra(self) -> list[Spectrum]: ...

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
        self._check({**self.defaults, **param_group})
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
