"""Layers of equal shape, whose matrices are stacked and worked on in one batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from optimizers.capture.record import Layer

Group = dict[str, Any]


@dataclass
class Bucket:
    """Layers of one parameter group whose matrices have one shape; their state is stacked.

    Attributes:
        key: of the state.
        index: number of the parameter group that holds the weights.
        layers: N of them.
        names: of the layers, for messages and spectra.
    """

    key: str
    index: int
    layers: list[Layer]
    names: list[str]

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n) of each matrix, biases included."""
        return self.layers[0].shape

    def gradients(self, dtype: torch.dtype) -> Tensor:
        """Matrices [W b] of gradients, shape (N, m, n); zeros where there is none."""
        m = self.shape[0]
        G = torch.stack([_grad(layer.weight, dtype).reshape(m, -1) for layer in self.layers])
        if self.layers[0].bias is None:
            return G
        biases = torch.stack([_grad(layer.bias, dtype) for layer in self.layers])
        return torch.cat([G, biases.unsqueeze(-1)], dim=2)

    def values(self, dtype: torch.dtype) -> Tensor:
        """Matrices [W b] of parameters, shape (N, m, n), a copy."""
        rows = [[p.reshape(len(p), -1) for p in layer.parameters] for layer in self.layers]
        return torch.stack([torch.cat(row, dim=1).to(dtype) for row in rows])

    def split(self, matrices: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield each parameter with its part of (N, m, n), in the parameter's shape."""
        for layer, matrix in zip(self.layers, matrices, strict=True):
            weight = layer.weight
            if layer.bias is None:
                yield weight, matrix.view_as(weight)
            else:
                yield weight, matrix[:, :-1].reshape(weight.shape)
                yield layer.bias, matrix[:, -1]

    def active(self) -> list[int]:
        """Numbers of the layers whose weight has a gradient."""
        return [i for i, layer in enumerate(self.layers) if layer.weight.grad is not None]


def add_to_buckets(
    buckets: list[Bucket], layers: Iterable[Layer], groups: list[Group], model: nn.Module
) -> None:
    """Put layers into the buckets that they fit in, or into new ones; `buckets` is changed."""
    where = {id(p): i for i, group in enumerate(groups) for p in group["params"]}
    names = names_of(groups, model)
    by_key = {bucket.key: bucket for bucket in buckets}
    for layer in layers:
        index, (m, n) = where[id(layer.weight)], layer.shape
        bias = "" if layer.bias is None else " with bias"
        dtype = str(layer.weight.dtype).removeprefix("torch.")
        key = f"group {index}, {m} x {n}{bias}, {dtype}"
        if key not in by_key:
            by_key[key] = Bucket(key, index, [], [])
            buckets.append(by_key[key])
        by_key[key].layers.append(layer)
        by_key[key].names.append(names[id(layer.weight)])


def names_of(groups: list[Group], model: nn.Module) -> dict[int, str]:
    """Names of all parameters by identity, in order: the group's, the model's, or a number."""
    known = {id(p): name for name, p in model.named_parameters()}
    names: dict[int, str] = {}
    for group in groups:
        given = group.get("param_names") or [None] * len(group["params"])
        for parameter, name in zip(group["params"], given, strict=True):
            names[id(parameter)] = name or known.get(id(parameter), f"parameter {len(names)}")
    return names


def _grad(parameter: Tensor, dtype: torch.dtype) -> Tensor:
    if parameter.grad is None:
        return torch.zeros_like(parameter, dtype=dtype)
    return parameter.grad.to(dtype)
