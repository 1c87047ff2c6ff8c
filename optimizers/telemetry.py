"""What an optimizer reports about itself, at no pass over its data beyond those of a step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues of one matrix that an optimizer keeps, as of its last step.

    Attributes:
        name: which matrix, unique within the optimizer ("window", "model", a parameter's name).
        kind: what it is: "gram", "second_moment", "factor" (one of several whose product
            preconditions), "inverse_factor" (the same, kept inverted), "block_means".
        eigenvalues: shape (n,), float64, ascending, on the CPU.
        resolution: absolute value below which an eigenvalue is round-off; same units.
        root_residual: relative error of the inverse root applied, NaN where it is not known.
        fallbacks: steps skipped so far because a statistic was not finite, and roots that had
            to be computed another way.
        staleness: steps since the root in use was computed; 0 if in the last one.
    """

    name: str
    kind: str
    eigenvalues: Tensor
    resolution: float
    root_residual: float = float("nan")
    fallbacks: int = 0
    staleness: int = 0


@runtime_checkable
class ReportsSpectra(Protocol):
    """An optimizer with spectra; ask with `isinstance(optimizer, ReportsSpectra)`."""

    def spectra(self) -> list[Spectrum]: ...


@runtime_checkable
class DescribesLayers(Protocol):
    """An optimizer that preconditions layers of some kinds alone.

    Attributes:
        layer_kinds: which they are, in words.
    """

    layer_kinds: ClassVar[str]

    def describe(self) -> dict[str, list[str]]:
        """Names of the "preconditioned" layers, and of the "plain" parameters."""
        ...


@runtime_checkable
class ReportsMatrices(Protocol):
    """An optimizer whose state does not say by itself what belongs to which parameter."""

    def matrices(self) -> Iterator[tuple[str, str, Tensor]]:
        """Yield (name, quantity, tensor) of what is kept between steps, for comparisons.

        The names are those of the spectra; the quantity is "statistic", "root" or "momentum".
        """
        ...


def parameter_names(groups: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of all parameters, in order: those that the groups know, else "parameter 3"."""
    names: list[str] = []
    for group in groups:
        first = len(names)
        numbers = [f"parameter {first + i}" for i in range(len(group["params"]))]
        names += group.get("param_names") or numbers
    return names


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of all tensors in `optimizer.state`, nested ones too; shared storage counts once."""
    storages = {
        (tensor.device, tensor.untyped_storage().data_ptr()): tensor.untyped_storage().nbytes()
        for tensor in _tensors(list(optimizer.state.values()))
    }
    return sum(storages.values())


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
