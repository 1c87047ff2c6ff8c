"""Record, in the pass whose gradients count, what per-sample gradients are made of.

Hooks exist only inside `record`: a model stays as it was, and other passes cost nothing. The
gradients of the pass come out bit for bit as without it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from optimizers.base import require
from optimizers.capture.lstm import rng_state
from optimizers.capture.rules import Call, samples_of, weights_of
from optimizers.capture.samples import DenseSamples, Samples

# Elements of activations, deltas and gradients that are expanded at once: 128 MiB in float32.
MAX_ELEMENTS = 2**25


@runtime_checkable
class RecordsSamples(Protocol):
    """An optimizer that, at some steps, needs to see the pass that makes its gradients.

        if optimizer.wants_samples():
            weights = torch.full((len(x),), 1 / len(x))
            with optimizer.record(num_samples=len(x), batch_dim=0, weights=weights):
                loss = criterion(model(x), y)
                loss.backward()

    With several passes a step, each is recorded; all their samples count.
    """

    def wants_samples(self) -> bool:
        """Whether the coming step renews the curvature."""
        ...

    def record(
        self, num_samples: int, batch_dim: int, weights: Tensor
    ) -> contextlib.AbstractContextManager[None]:
        """Context of a forward and backward pass whose samples are recorded.

        Args:
            num_samples: B.
            batch_dim: dimension of activations along which samples lie.
            weights: weight of each sample's own loss in the loss that is differentiated, (B,).
        """
        ...


@dataclass(frozen=True)
class Layer:
    """One weight matrix of a module, [W b] where the module adds a bias to W x.

    Attributes:
        path: of the module.
        module: the owner.
        names: of the weight within the module and, where there is one, of the bias.
        parameters: these themselves.
        shape: (m, n) of the matrix: the weight's first dimension, and all others with the bias.
    """

    path: str
    module: nn.Module
    names: tuple[str, ...]
    parameters: tuple[nn.Parameter, ...]
    shape: tuple[int, int]

    @classmethod
    def of(cls, path: str, module: nn.Module, names: tuple[str, ...]) -> Layer:
        parameters = tuple(module.get_parameter(name) for name in names)
        m = parameters[0].shape[0]
        shape = m, parameters[0].numel() // m + len(names) - 1
        return cls(path, module, names, parameters, shape)

    @property
    def weight(self) -> nn.Parameter:
        return self.parameters[0]

    @property
    def bias(self) -> nn.Parameter | None:
        return self.parameters[1] if len(self.parameters) > 1 else None


def find_layers(model: nn.Module, parameters: Sequence[Tensor]) -> list[Layer]:
    """Weight matrices of `model` among `parameters`, in the model's order.

    A bias that is not among them is left out of its matrix. Left out altogether are norms, weights
    with fewer than two dimensions or no element, weights that two modules share, and what a
    parametrization makes weights from.
    """
    wanted = {id(parameter) for parameter in parameters}
    owners: dict[int, int] = {}
    for _, parameter in model.named_parameters(remove_duplicate=False):
        owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    layers: dict[int, Layer] = {}
    for path, module in model.named_modules():
        known = dict(module.named_parameters())
        for names in weights_of(module):
            own = tuple(name for name in names if id(known.get(name)) in wanted)
            if names[0] not in own:
                continue
            weight = known[names[0]]
            # A module that uses its children's weights itself comes before them.
            if owners[id(weight)] == 1 and weight.numel() > 0 and id(weight) not in layers:
                layers[id(weight)] = Layer.of(path, module, own)
    return list(layers.values())


@dataclass
class Recording:
    """What the modules of some layers were given and handed back in one pass.

    Attributes:
        num_samples, batch_dim, weights: as in `RecordsSamples.record`.
        calls: of each module, by identity.
        before: gradients of the layers' parameters when the pass began, if it is of one sample.
    """

    num_samples: int
    batch_dim: int
    weights: Tensor
    calls: dict[int, list[Call]] = field(default_factory=dict)
    before: dict[int, Tensor | None] = field(default_factory=dict)

    def has(self, layer: Layer) -> bool:
        """Whether the layer's module took part in the loss."""
        return any(call.counts() for call in self.calls.get(id(layer.module), []))

    def of(
        self, layer: Layer, limit: int | None = None, dtype: torch.dtype = torch.float32
    ) -> Iterable[Samples] | None:
        """`samples`, or else the `only_sample`; None where the layer took no part."""
        if self.has(layer):
            return self.samples(layer, limit, dtype)
        sample = self.only_sample(layer, dtype)
        return None if sample is None else [sample][:limit]

    def only_sample(self, layer: Layer, dtype: torch.dtype = torch.float32) -> Samples | None:
        """From the gradient itself, of a pass of one sample, however the weight was used.

        None if the pass has several samples or has not reached the weight.
        """
        after = layer.weight.grad
        if self.num_samples > 1 or after is None or id(layer.weight) not in self.before:
            return None
        m, parts = layer.shape[0], []
        for parameter in layer.parameters:
            old, new = self.before[id(parameter)], parameter.grad
            change = torch.zeros_like(parameter) if new is None else new.detach()
            parts.append((change if old is None else change - old).reshape(m, -1).to(dtype))
        return DenseSamples(torch.cat(parts, dim=1)[None] * _own_loss(self.weights).to(dtype))

    def samples(
        self, layer: Layer, limit: int | None = None, dtype: torch.dtype = torch.float32
    ) -> Iterator[Samples]:
        """Yield the per-sample gradients of a layer, in chunks that bound the memory.

        Args:
            limit: take only so many samples, the first ones; None: all.
            dtype: of what is yielded.
        Raises:
            ValueError: if an activation does not have the samples along the batch dimension, or
                the module cannot be recorded; names the module.
        """
        calls = [call for call in self.calls[id(layer.module)] if call.counts()]
        num_samples = self.num_samples if limit is None else min(limit, self.num_samples)
        m, n = layer.shape
        outputs = sum(grad.numel() for call in calls for grad in call.grads if grad is not None)
        positions = max(1, outputs // (self.num_samples * m))
        chunk = max(1, MAX_ELEMENTS // (m * n + positions * (m + n)))
        scale = _own_loss(self.weights)
        for start in range(0, num_samples, chunk):
            stop = min(start + chunk, num_samples)
            parts = [
                samples_of(layer.module, layer.names, call.sliced(self, start, stop, scale, dtype))
                for call in calls
            ]
            yield parts[0] if len(parts) == 1 else type(parts[0]).total(parts)


@contextlib.contextmanager
def record_calls(
    layers: Sequence[Layer], num_samples: int, batch_dim: int, weights: Tensor
) -> Iterator[Recording]:
    """Record every call of the layers' modules inside the context.

    A compiled model runs uncompiled there, as compiled code calls no hooks.

    Raises:
        ValueError: if num_samples < 1 or `weights` has not one number a sample.
    """
    require(num_samples >= 1, "num_samples", ">= 1", num_samples)
    shape = tuple(weights.shape)
    require(shape == (num_samples,), "weights", f"of shape ({num_samples},)", f"shape {shape}")
    recording = Recording(num_samples, batch_dim, weights.detach())
    if num_samples == 1:
        parameters = [p for layer in layers for p in layer.parameters]
        grads = {id(p): None if p.grad is None else p.grad.clone() for p in parameters}
        recording.before = grads
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        for module, path in {layer.module: layer.path for layer in layers}.items():
            calls = recording.calls.setdefault(id(module), [])
            watch = _Watch(path, calls)
            handles = [module.register_forward_hook(watch, with_kwargs=True)]
            if getattr(module, "dropout", 0.0):
                handles.append(module.register_forward_pre_hook(watch.note_generator))
            for handle in handles:
                stack.callback(handle.remove)
        yield recording


def _own_loss(weights: Tensor) -> Tensor:
    """Factors that make a sample's gradient that of its own loss; 0 where it has no part in it."""
    return torch.where(weights == 0, 0, 1 / weights)


class _Watch:
    """Forward hook of one module: notes a call, and the gradients of its outputs as they come."""

    def __init__(self, path: str, calls: list[Call]) -> None:
        self.path = path
        self.calls = calls
        self.generator_state: Tensor | None = None

    def note_generator(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Keep the state of the generator that the call will draw its dropout from."""
        self.generator_state = rng_state(next(module.parameters()).device)

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        if not torch.is_grad_enabled():
            return
        call = Call.of(self.path or "the model", args, kwargs, output, self.generator_state)
        self.calls.append(call)
        for index, tensor in enumerate(call.outputs_of(output)):
            if tensor.requires_grad:
                tensor.register_hook(call.note(index))
