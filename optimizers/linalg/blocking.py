"""Merging small dimensions of a tensor and cutting large ones into blocks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor


def merge_shape(shape: Sequence[int], block_size: int, merge: bool = True) -> tuple[int, ...]:
    """Shape in which a tensor is preconditioned: small neighbours multiplied, ones dropped.

    Consecutive dimensions are multiplied while the product is at most `block_size`:
    (16, 3, 3, 3) becomes (48, 9) for 128. Without `merge` only dimensions of size 1 are dropped.
    A tensor of one element, or without dimensions, becomes (1,).
    """
    merged: list[int] = []
    for size in shape:
        if size == 1:
            continue
        if merge and merged and merged[-1] * size <= block_size:
            merged[-1] *= size
        else:
            merged.append(size)
    return tuple(merged) or (1,)


class Region(NamedTuple):
    """A part of a tensor that a grid of equal blocks fills.

    Attributes:
        starts: first index in each dimension.
        counts: blocks along each dimension.
        sizes: shape of a block.
    """

    starts: tuple[int, ...]
    counts: tuple[int, ...]
    sizes: tuple[int, ...]

    @property
    def num_blocks(self) -> int:
        return math.prod(self.counts)

    def view(self, tensor: Tensor) -> Tensor:
        """The region as (*counts, *sizes), a single block as (*sizes); a view."""
        for dim, (start, count, size) in enumerate(zip(*self, strict=True)):
            if count * size != tensor.shape[dim]:
                tensor = tensor.narrow(dim, start, count * size)
        if self.num_blocks == 1:
            return tensor
        for dim in reversed(range(len(self.sizes))):
            tensor = tensor.unflatten(dim, (self.counts[dim], self.sizes[dim]))
        k = len(self.sizes)
        return tensor.permute(*range(0, 2 * k, 2), *range(1, 2 * k, 2))

    def stacked(self, blocks: Tensor) -> Tensor:
        """Blocks (num_blocks, *sizes) in the shape of `view`, a view."""
        return blocks.view(self.sizes if self.num_blocks == 1 else (*self.counts, *self.sizes))


def split_into_regions(shape: Sequence[int], block_size: int) -> list[Region]:
    """Cut a shape into blocks of `block_size`, the last along a dimension smaller.

    A k-mode tensor has at most 2^k regions of equal blocks, however many blocks there are: whole
    blocks and the rest in each dimension. They do not overlap and cover the tensor.
    """
    spans = []
    for size in shape:
        num_whole, rest = divmod(size, block_size)
        whole = [(0, num_whole, block_size)] if num_whole else []
        spans.append(whole + ([(num_whole * block_size, 1, rest)] if rest else []))
    return [
        Region(*(tuple(column) for column in zip(*parts, strict=True)))
        for parts in itertools.product(*spans)
    ]
