"""Per-sample gradients of any module, by calling it again for each sample."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap

from optimizers.capture.call import Call, mapped, tensors_in

# Largest difference between the samples' sum and the batch's gradient, relative to the latter:
# more than round-off of float32 sums, less than what a module that mixes its samples makes.
SAME = 1e-3


def gradients_by_sample(module: nn.Module, names: tuple[str, ...], call: Call) -> list[Tensor]:
    """Gradient of each wanted sample's own loss by the named parameters, (B, *shape) each.

    Every tensor among the inputs with num_samples entries along the batch dimension is taken to
    hold samples there, every other is the same for all. vmap over the samples, or, for modules
    that vmap cannot take, a loop over them: as many passes through the module as samples.

    Raises:
        ValueError: if the sum over samples is not the gradient of the batch: the module mixes its
            samples, draws random numbers or has them along another dimension.
    """
    dim, start, count = call.batch_dim, call.start, call.stop - call.start
    given = (call.args, call.kwargs, call.grads)
    pull = _pull_back(module, names)
    if call.num_samples == 1:
        each = [g.unsqueeze(0) for g in pull(given)]
    else:

        def holds_samples(tensor: Tensor) -> bool:
            return -tensor.ndim <= dim < tensor.ndim and tensor.shape[dim] == call.num_samples

        def one(parts: list[Tensor]) -> list[Tensor]:
            rest = iter(parts)
            return pull(
                mapped(lambda t: next(rest).unsqueeze(dim) if holds_samples(t) else t, given)
            )

        parts = [
            t.movedim(dim, 0)[start : start + count] for t in tensors_in(given) if holds_samples(t)
        ]
        try:
            with warnings.catch_warnings():
                # Said of an operation that vmap gives one sample after the other.
                warnings.filterwarnings("ignore", "There is a performance drop")
                each = vmap(one)(parts)
        except RuntimeError:  # an operation without a batching rule
            alone = [one([part[i] for part in parts]) for i in range(count)]
            each = [torch.stack(gradients) for gradients in zip(*alone, strict=True)]
        whole = pull(
            mapped(lambda t: t.narrow(dim, start, count) if holds_samples(t) else t, given)
        )
        _verify(call, each, whole)
    scale = call.scale[start : start + count].to(call.dtype)
    return [g.to(call.dtype) * scale.view(-1, *[1] * (g.ndim - 1)) for g in each]


def _pull_back(module: nn.Module, names: tuple[str, ...]) -> Callable[[Any], list[Tensor]]:
    """A function of (args, kwargs, output gradients) that gives the parameters' gradients."""
    wanted = tuple(module.get_parameter(name).detach() for name in names)
    rest = {n: p.detach() for n, p in module.named_parameters() if n not in names}
    buffers = dict(module.named_buffers())

    def pull(given: tuple[Any, Any, Any]) -> list[Tensor]:
        args, kwargs, grads = given
        kept = [k for k, g in enumerate(grads) if g is not None]

        def outputs(*parameters: Tensor) -> tuple[Tensor, ...]:
            # Buffers as copies, since a call may write into them.
            values = {**rest, **{n: b.clone() for n, b in buffers.items()}}
            values.update(zip(names, parameters, strict=True))
            found = list(tensors_in(functional_call(module, values, args, kwargs)))
            return tuple(found[k] for k in kept)

        with torch.enable_grad():
            return list(vjp(outputs, *wanted)[1](tuple(grads[k] for k in kept)))

    return pull


def _verify(call: Call, each: list[Tensor], whole: list[Tensor]) -> None:
    for samples, batch in zip(each, whole, strict=True):
        error = (samples.sum(0) - batch).abs().max()
        if not error <= SAME * batch.abs().max():
            raise ValueError(
                f"{call.path} must treat samples along dimension {call.batch_dim} "
                f"one by one and draw no random numbers, got per-sample gradients whose sum is "
                f"not that of the batch"
            )
