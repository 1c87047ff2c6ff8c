"""One call of a module inside a recorded pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor


@dataclass
class Call:
    """One call of a module: what it was given, and the loss's gradient by each tensor it gave.

    Attributes:
        path: of the module, for messages.
        args, kwargs: of the call, detached.
        grads: gradient by each tensor among the outputs; None where the loss ignores it.
        batch_dim: dimension of the samples, unless the module itself says where they are.
        start, stop: the samples wanted; `num_samples` in all.
        scale: factor of each sample's gradients that makes them those of its own loss.
        dtype: of the samples.
        output: of the call, detached.
        generator_state: before the call, of a module with dropout of its own.
        memo: results that several weights of the module share.
    """

    path: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    grads: list[Tensor | None]
    output: Any = None
    generator_state: Tensor | None = None
    batch_dim: int = 0
    num_samples: int = 1
    start: int = 0
    stop: int = 1
    scale: Tensor | None = None
    dtype: torch.dtype = torch.float32
    memo: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        path: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        output: Any,
        generator_state: Tensor | None,
    ) -> Call:
        grads: list[Tensor | None] = [None] * sum(1 for _ in tensors_in(output))
        kept = mapped(Tensor.detach, (args, kwargs, output))
        return cls(path, kept[0], kept[1], grads, kept[2], generator_state)

    @staticmethod
    def outputs_of(output: Any) -> list[Tensor]:
        return list(tensors_in(output))

    def note(self, index: int) -> Callable[[Tensor], None]:
        """A hook that keeps the gradient of output `index`."""

        def keep(grad: Tensor) -> None:
            self.grads[index] = grad.detach()

        return keep

    def counts(self) -> bool:
        """Whether the loss depends on what the call gave."""
        return any(grad is not None for grad in self.grads)

    def sliced(
        self, recording: Any, start: int, stop: int, scale: Tensor, dtype: torch.dtype
    ) -> Call:
        """The call with the samples that are wanted of it."""
        return replace(
            self,
            batch_dim=recording.batch_dim,
            num_samples=recording.num_samples,
            start=start,
            stop=stop,
            scale=scale,
            dtype=dtype,
            memo=self.memo,
        )

    def batch_first(self, tensor: Tensor, dim: int) -> Tensor:
        """The wanted samples of `tensor`, whose samples lie along `dim`, in front.

        Raises:
            ValueError: if there are not num_samples of them.
        """
        if not -tensor.ndim <= dim < tensor.ndim or tensor.shape[dim] != self.num_samples:
            raise ValueError(
                f"{self.path} must be given its {self.num_samples} samples along "
                f"dimension {dim}, got shape {tuple(tensor.shape)}"
            )
        return tensor.movedim(dim, 0)[self.start : self.stop]

    def deltas(self, index: int, dim: int) -> Tensor:
        """Gradient of each sample's own loss by output `index`, samples in front."""
        grad = self.batch_first(self.grads[index], dim).to(self.dtype)
        scale = self.scale[self.start : self.stop].to(grad)
        return grad * scale.view(-1, *[1] * (grad.ndim - 1))


def tensors_in(value: Any) -> Iterable[Tensor]:
    """Tensors of nested tuples, lists and dicts, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors_in(item)


def first_input(call: Call) -> Tensor:
    """The tensor that a module of one input was given, by position or by name."""
    return next(iter(tensors_in((call.args, call.kwargs))))


def mapped(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """The same nested tuples, lists and dicts with the function's values for the tensors."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return {key: mapped(function, item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return tuple(mapped(function, item) for item in value)
    return value
