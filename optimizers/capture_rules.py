"""How the per-sample gradients of each kind of module follow from what it was given and gave.

A new kind of module needs one `weights_of` and one `samples_of`, and nothing elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from optimizers.samples import DenseSamples, OuterSamples, Samples, bias_column


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
        memo: results that several weights of the module share.
    """

    path: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    grads: list[Tensor | None]
    batch_dim: int = 0
    num_samples: int = 1
    start: int = 0
    stop: int = 1
    scale: Tensor | None = None
    dtype: torch.dtype = torch.float32
    memo: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, path: str, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Call:
        count = sum(1 for _ in tensors_in(output))
        return cls(path, detached(args), detached(kwargs), [None] * count)

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
                f"{self.path or 'the model'} must be given its {self.num_samples} samples along "
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


def detached(value: Any) -> Any:
    """The same value with its tensors detached."""
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, dict):
        return {key: detached(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return tuple(detached(item) for item in value)
    return value


def first_input(call: Call) -> Tensor:
    """The tensor that a module of one input was given, by position or by name."""
    return next(iter(tensors_in((call.args, call.kwargs))))


# ---------------------------------------------------------------- which weights a module has


@singledispatch
def weights_of(module: nn.Module) -> list[tuple[str, ...]]:
    """Names of the module's own weights that form matrices, each with that of its bias."""
    return [
        (name,) for name, parameter in module.named_parameters(recurse=False) if parameter.ndim >= 2
    ]


@weights_of.register(nn.Linear)
@weights_of.register(nn.Conv1d)
@weights_of.register(nn.Conv2d)
@weights_of.register(nn.Conv3d)
def _(module: nn.Module) -> list[tuple[str, ...]]:
    return [("weight",) if module.bias is None else ("weight", "bias")]


@weights_of.register(nn.modules.batchnorm._NormBase)
@weights_of.register(nn.LayerNorm)
@weights_of.register(nn.GroupNorm)
@weights_of.register(nn.RMSNorm)
def _(module: nn.Module) -> list[tuple[str, ...]]:
    return []


# ---------------------------------------------------------------- what its samples are


@singledispatch
def samples_of(module: nn.Module, names: tuple[str, ...], call: Call) -> Samples:
    """Per-sample gradients of the matrix with these names, from one call of the module."""
    raise ValueError(f"{call.path} must be a module with a rule, got {type(module).__name__}")


@samples_of.register(nn.Linear)
def _(module: nn.Linear, names: tuple[str, ...], call: Call) -> Samples:
    dim = call.batch_dim
    x = call.batch_first(first_input(call), dim).to(call.dtype)
    return outer(x.flatten(1, -2) if x.ndim > 2 else x[:, None], call.deltas(0, dim), names)


@samples_of.register(nn.Conv2d)
def _(module: nn.Conv2d, names: tuple[str, ...], call: Call) -> Samples:
    x = call.batch_first(first_input(call), 0).to(call.dtype)
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    x = F.pad(x, module._reversed_padding_repeated_twice, mode=mode)
    patches = F.unfold(x, module.kernel_size, dilation=module.dilation, stride=module.stride)
    deltas = call.deltas(0, 0).flatten(2).mT
    if module.groups == 1:
        return outer(patches.mT, deltas, names)
    num_samples, kappa, m = deltas.shape
    by_group = deltas.reshape(num_samples, kappa, module.groups, -1).permute(0, 2, 3, 1)
    gradients = by_group @ patches.view(num_samples, module.groups, -1, kappa).mT
    gradients = gradients.reshape(num_samples, m, -1)
    if len(names) > 1:
        gradients = torch.cat([gradients, deltas.sum(1)[..., None]], dim=2)
    return DenseSamples(gradients)


def outer(activations: Tensor, deltas: Tensor, names: tuple[str, ...]) -> OuterSamples:
    """Samples of [W b] from activations (B, kappa, n) and deltas (B, ..., m)."""
    deltas = deltas.flatten(1, -2) if deltas.ndim > 2 else deltas[:, None]
    return OuterSamples(bias_column(activations) if len(names) > 1 else activations, deltas)
