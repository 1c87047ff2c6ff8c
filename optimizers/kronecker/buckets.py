"""Blocks of equal shape over all parameters of a group, stacked so that one product serves all."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from optimizers.base import DTYPES
from optimizers.linalg.blocking import Region, merge_shape, split_into_regions


class Piece(NamedTuple):
    """Blocks of one region of one parameter: `num_blocks` rows of a bucket from `start` on."""

    position: int
    region: Region
    start: int

    @property
    def stop(self) -> int:
        return self.start + self.region.num_blocks


@dataclass(frozen=True)
class Bucket:
    """Rows of one stack: all blocks of shape `shape` in a parameter group.

    Attributes:
        shape: of a block, (n_1, ..., n_k).
        pieces: which rows belong to which parameter, in the order of the group.
        numbers: for each row the number of its block in the parameter, row-major over the grid.
    """

    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]
    numbers: tuple[int, ...]

    @property
    def key(self) -> str:
        return "x".join(str(size) for size in self.shape)

    @property
    def num_blocks(self) -> int:
        return len(self.numbers)

    @property
    def num_modes(self) -> int:
        return len(self.shape)

    @property
    def positions(self) -> tuple[int, ...]:
        """For each row the position of its parameter in the group."""
        return tuple(
            piece.position for piece in self.pieces for _ in range(piece.region.num_blocks)
        )

    def rows(self, positions: Iterable[int]) -> list[int]:
        """Rows that belong to the parameters at these positions of the group."""
        wanted = set(positions)
        return [row for row, position in enumerate(self.positions) if position in wanted]


def fill_buckets(
    shapes: Sequence[Sequence[int]], block_size: int, merge_dims: bool
) -> tuple[list[tuple[int, ...]], list[Bucket]]:
    """Cut parameters of these shapes into blocks and sort the blocks by shape.

    Returns:
        The merged shape of each parameter and the buckets, in order of first appearance.
    """
    merged = [merge_shape(shape, block_size, merge_dims) for shape in shapes]
    pieces: dict[tuple[int, ...], list[Piece]] = {}
    numbers: dict[tuple[int, ...], list[int]] = {}
    for position, shape in enumerate(merged):
        grid = [-(-size // block_size) for size in shape]
        for region in split_into_regions(shape, block_size):
            rows = numbers.setdefault(region.sizes, [])
            pieces.setdefault(region.sizes, []).append(Piece(position, region, len(rows)))
            rows += _block_numbers(region, grid, block_size)
    buckets = [Bucket(shape, tuple(pieces[shape]), tuple(numbers[shape])) for shape in pieces]
    return merged, buckets


def _block_numbers(region: Region, grid: Sequence[int], block_size: int) -> list[int]:
    first = [start // block_size for start in region.starts]
    numbers = []
    for offsets in itertools.product(*(range(count) for count in region.counts)):
        number = 0
        for start, offset, count in zip(first, offsets, grid, strict=True):
            number = number * count + start + offset
        numbers.append(number)
    return numbers


def new_state(
    bucket: Bucket, options: Mapping[str, Any], device: torch.device
) -> dict[str, Tensor]:
    """Factors `initial_scale` I, roots I and eigenvalues not known, hence 0, of each mode."""
    state = {}
    for mode, n in enumerate(bucket.shape):
        for name, dtype, scale in (
            ("factor", "statistics_dtype", options["initial_scale"]),
            ("root", "apply_dtype", 1.0),
        ):
            identity = scale * torch.eye(n, dtype=DTYPES[options[dtype]], device=device)
            state[f"{name}_{mode}"] = identity.repeat(bucket.num_blocks, 1, 1)
        state[f"eigenvalues_{mode}"] = torch.zeros(
            bucket.num_blocks, n, dtype=DTYPES[options["root_dtype"]], device=device
        )
    return state


class Batch:
    """The blocks of one bucket that take part in a step.

    Attributes:
        bucket: where they come from.
        rows: their rows in the bucket, None for all of them, which is the rule.
        grads: blocks of the gradient, shape (N, *shape); workspace, may be overwritten.
        spare: workspace of the same size.
        state: tensors of the bucket's state for these rows (leading dimension N) and its numbers.
    """

    def __init__(self, bucket: Bucket, active: Sequence[int], like: Mapping[str, Any]) -> None:
        rows = bucket.rows(active)
        whole = len(rows) == bucket.num_blocks
        self.bucket = bucket
        self.rows = None if whole else torch.tensor(rows, device=like["device"])
        self.grads = torch.empty(len(rows), *bucket.shape, **like)
        self.spare = torch.empty_like(self.grads)
        self.state: dict[str, Any] = {}
        self.pieces, start = [], 0
        for piece in bucket.pieces:
            if piece.position in active:
                self.pieces.append(Piece(piece.position, piece.region, start))
                start += piece.region.num_blocks

    def load(self, state: dict[str, Any]) -> None:
        """Take over the bucket's state: the dict itself where all rows take part."""
        self.state = state
        if self.rows is not None:
            self.state = {
                name: value[self.rows] if isinstance(value, Tensor) else value
                for name, value in state.items()
            }

    def store(self, state: dict[str, Any]) -> None:
        """Write back what `load` took over and was changed in place, or replaced."""
        if self.rows is None:
            return
        for name, value in self.state.items():
            if isinstance(value, Tensor):
                state[name].index_copy_(0, self.rows, value)
            else:
                state[name] = value

    def blocks(self, stacked: Tensor, piece: Piece) -> Tensor:
        """A piece of a stack of all rows in the shape of its region's view, a view."""
        return piece.region.stacked(stacked[piece.start : piece.stop])


class Workspace:
    """Stacks for one group and one set of parameters with gradients; kept while that set stays.

    Its memory: two copies of the gradient and one of each parameter of more than one block.

    Args:
        shapes: of all parameters of the group.
        merged: their merged shapes.
        buckets: of the group.
        active: positions of the parameters that have a gradient.
        like: `dtype` and `device` of the stacks.
    """

    def __init__(
        self,
        shapes: Sequence[Sequence[int]],
        merged: Sequence[tuple[int, ...]],
        buckets: Sequence[Bucket],
        active: tuple[int, ...],
        like: Mapping[str, Any],
    ) -> None:
        self.shapes, self.merged, self.active = shapes, merged, active
        batches = (Batch(bucket, active, like) for bucket in buckets)
        self.batches = [batch for batch in batches if len(batch.grads)]
        pieces = [(batch, piece) for batch in self.batches for piece in batch.pieces]
        self._targets = [batch.blocks(batch.grads, piece) for batch, piece in pieces]
        self._pieces = [piece for _, piece in pieces]
        # A parameter that is one block is read and written as it lies; others by region.
        single = {p.position for p in self._pieces if p.region.sizes == merged[p.position]}
        self._single = single
        self._assembled = {
            position: torch.empty(merged[position], **like)
            for position in active
            if position not in single
        }

    def gather(self, grads: Mapping[int, Tensor]) -> None:
        """Copy gradients, given by position, into the stacks."""
        flat = {position: grads[position].reshape(self.merged[position]) for position in grads}
        torch._foreach_copy_(self._targets, [p.region.view(flat[p.position]) for p in self._pieces])

    def scatter(self, outputs: Sequence[Tensor]) -> list[Tensor]:
        """Per-parameter tensors from stacks, one a batch, in the order of `active`.

        A parameter of a single block is a view of its row; the others are put together in
        workspace. Both are overwritten in the next step.
        """
        whole: dict[int, Tensor] = dict(self._assembled)
        targets, sources = [], []
        for batch, output in zip(self.batches, outputs, strict=True):
            for piece in batch.pieces:
                if piece.position in self._single:
                    whole[piece.position] = output[piece.start]
                else:
                    targets.append(piece.region.view(self._assembled[piece.position]))
                    sources.append(batch.blocks(output, piece))
        if targets:
            torch._foreach_copy_(targets, sources)
        return [whole[position].view(self.shapes[position]) for position in self.active]
