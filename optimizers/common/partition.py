"""Partitions of a model's parameters into blocks, and the flat vector in which they lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import groupby
from math import prod

import torch
from torch import Tensor

# Leading dimensions that number the blocks of a tensor, at most, and how many dimensions the tensor
# must have: a bias, a norm's weight and a scalar are one block in all but "element".
LEADING_DIMS = {"layer": 0, "unit": 1, "group": 2}
PARTITIONS = (*LEADING_DIMS, "element")


def num_blocks(shape: Sequence[int], partition: str) -> int:
    """Number of equal, contiguous blocks into which `partition` divides a tensor.

    - layer: one block a tensor, hence a layer's weights and biases apart.
    - unit: one a slice along the first dimension (an output unit's incoming weights, an output
      channel's kernels, an embedding's row) where there are two dimensions or more, else one.
    - group: one an output and input channel (one convolution kernel) where there are three
      dimensions or more, else as in "unit".
    - element: each value alone.
    """
    if prod(shape) == 0:
        return 0
    if partition == "element":
        return prod(shape)
    leading = min(LEADING_DIMS[partition], len(shape) - 1)
    return prod(shape[: max(leading, 0)])


@dataclass(frozen=True)
class Layout:
    """Order of the parameters in the flat vector: by length of their blocks.

    Blocks of one length then lie side by side, and a sum over each of them, or a number added to
    each, is one operation on an (n, length) view for all parameters that have such blocks.

    Attributes:
        order: positions of the parameters, in the order in which the vector holds them.
        lengths: their numbers of values, in that order.
        runs: (n, length) for each length of block.
    """

    order: tuple[int, ...]
    lengths: tuple[int, ...]
    runs: tuple[tuple[int, int], ...]

    @property
    def num_blocks(self) -> int:
        return sum(count for count, _ in self.runs)

    @cached_property
    def sizes(self) -> Tensor:
        """Length of each block, shape (L,), float64."""
        return torch.tensor([m for n, m in self.runs for _ in range(n)], dtype=torch.float64)

    @cached_property
    def root_sizes(self) -> Tensor:
        """Square root of the length of each block, shape (L,), float64."""
        return self.sizes.sqrt()

    def block_sums(self, vectors: Tensor) -> Tensor:
        """Sum over each block of vectors (..., d), shape (..., L)."""
        return torch.cat([part.sum(-1) for part in self._parts(vectors)], dim=-1)

    def add_to_blocks(self, vector: Tensor, values: Tensor) -> None:
        """Add number i of `values` (L,) to each entry of block i of `vector` (d,), in place."""
        counts = [count for count, _ in self.runs]
        for part, added in zip(self._parts(vector), values.split(counts), strict=True):
            part.add_(added.unsqueeze(1))

    def gather(self, tensors: Sequence[Tensor | None], out: Tensor) -> None:
        """Write the parameters' tensors, zeros for None, into `out` (d,)."""
        parts = []
        for i, length in zip(self.order, self.lengths, strict=True):
            tensor = tensors[i]
            if tensor is None:
                parts.append(out.new_zeros(length))
            else:
                parts.append(tensor if tensor.dim() == 1 else tensor.reshape(-1))
        torch.cat(parts, out=out)

    def scatter(self, vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
        """Views into `vector` (d,) in the parameters' own order and shapes."""
        views = list(like)
        for i, part in zip(self.order, vector.split(self.lengths), strict=True):
            views[i] = part if like[i].dim() == 1 else part.view_as(like[i])
        return views

    def _parts(self, vectors: Tensor) -> Iterator[Tensor]:
        parts = vectors.split([count * length for count, length in self.runs], dim=-1)
        for part, run in zip(parts, self.runs, strict=True):
            yield part.view(*vectors.shape[:-1], *run)


@lru_cache(maxsize=64)
def layout(shapes: tuple[torch.Size, ...], partition: str) -> Layout:
    """Layout of parameters of these shapes; blocks keep the parameters' order within a length."""
    counts = [num_blocks(shape, partition) for shape in shapes]
    lengths = [prod(shape) // max(n, 1) for shape, n in zip(shapes, counts, strict=True)]
    order = sorted(range(len(shapes)), key=lambda i: lengths[i])
    runs = [
        (sum(counts[i] for i in members), length)
        for length, members in groupby(order, key=lambda i: lengths[i])
    ]
    return Layout(
        tuple(order),
        tuple(prod(shapes[i]) for i in order),
        tuple((count, length) for count, length in runs if count),
    )
