"""NG+'s curvature of one side of a matrix: how it is gathered, blocked and applied."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from optimizers.base import require
from optimizers.capture.samples import Samples
from optimizers.linalg.sketch import draw_rows, sketch_scale

SIDES = ("smaller", "left", "right")
# Rows of a block of a Gram matrix, which then takes a gibibyte in float32. The smaller side of a
# table of millions of rows is its other one.
MAX_SIZE = 2**14


@dataclass(frozen=True)
class Side:
    """Which Gram matrix of an m x n matrix G is taken, and in which blocks    [eqs. 4, 5, 18].

    Attributes:
        left: G G^T (m, m); else G^T G (n, n).
        size: k, m or n.
        block_size: p; the last of the ceil(k / p) blocks is padded with zeros, which adds
            eigenvalues 0 that touch nothing else.
    """

    left: bool
    size: int
    block_size: int

    @classmethod
    def of(cls, shape: tuple[int, int], side: str, block_size: int | None) -> Side:
        """The side that an option names; "smaller" is left for m <= n.

        Raises:
            ValueError: if a block would have more than 16,384 rows.
        """
        m, n = shape
        left = m <= n if side == "smaller" else side == "left"
        size = m if left else n
        rows = size if block_size is None else min(block_size, size)
        blocks = f"in blocks of <= {MAX_SIZE}"
        require(rows <= MAX_SIZE, f"side of a {m} x {n} matrix", blocks, rows)
        return cls(left, size, rows)

    @property
    def num_blocks(self) -> int:
        return -(-self.size // self.block_size)

    def turn(self, matrices: Tensor) -> Tensor:
        """G, or G^T for the right side: the Gram matrix is then X X^T. Its own inverse."""
        return matrices if self.left else matrices.mT

    def cut(self, X: Tensor) -> Tensor:
        """Rows of X (N, k, c) in blocks, shape (N, s, p, c)."""
        padded = self.num_blocks * self.block_size
        if padded != self.size:
            X = F.pad(X, (0, 0, 0, padded - self.size))
        return X.reshape(len(X), self.num_blocks, self.block_size, X.shape[-1])

    def join(self, blocks: Tensor) -> Tensor:
        """Undo `cut`."""
        return blocks.flatten(1, 2)[:, : self.size]

    def gram(self, X: Tensor) -> Tensor:
        """Diagonal blocks of X X^T, shape (N, s, p, p), of X (N, k, c)."""
        blocks = self.cut(X)
        return blocks @ blocks.mT

    def sample_gram(self, samples: Samples) -> Tensor:
        """Diagonal blocks of sum_i X_i X_i^T, shape (s, p, p)."""
        if self.num_blocks == 1:
            return (samples.left() if self.left else samples.right())[None]
        blocks = []
        for start in range(0, self.size, self.block_size):
            stop = min(start + self.block_size, self.size)
            indices = torch.arange(start, stop)
            part = samples.rows(indices) if self.left else samples.columns(indices)
            block = part.left() if self.left else part.right()
            missing = self.block_size - len(block)
            blocks.append(F.pad(block, (0, missing, 0, missing)))
        return torch.stack(blocks)

    def sketched(self, samples: Samples, indices: Tensor, scale: float) -> Samples:
        """Samples with q of the columns that the Gram matrix sums over    [eq. 17]."""
        if self.left:
            return samples.columns(indices, scale)
        return samples.rows(indices, scale)


def draw_columns(count: int, size: int | None, *counters: int) -> tuple[Tensor, float] | None:
    """Columns to sum over and their factor    [eq. 17]; None to take all `count` of them."""
    if size is None or size >= count:
        return None
    return draw_rows(count, size, *counters), sketch_scale(count, size)


@dataclass
class Gathered:
    """What the recorded passes of a step have told of one layer.

    Attributes:
        num_seen: samples taken, as the task counts them.
        count: samples summed; more where each position is one.
        total: blocks of the sum of their Gram matrices, shape (s, p, p); None: none yet.
        pairs: (activations (B, n), deltas (B, m)) of samples of rank one, instead of the total.
        area: positions of an image that a sample sums over, 1 without one.
    """

    area: int = 1
    num_seen: int = 0
    count: int = 0
    total: Tensor | None = None
    pairs: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def add(
        self,
        chunks: Iterable[Samples],
        side: Side,
        *,
        by_position: bool = False,
        keep_pairs: bool = False,
        columns: tuple[Tensor, float] | None = None,
    ) -> None:
        """Take chunks of samples in.

        Args:
            by_position: each position of a sequence is a sample.
            keep_pairs: keep samples of rank one as they are, for `basis`.
            columns: what `draw_columns` gave.
        """
        for samples in chunks:
            self.num_seen, self.area = self.num_seen + len(samples), samples.area
            taken = samples.by_position() if by_position else samples
            self.count += len(taken)
            pair = taken.rank_one() if keep_pairs else None
            if pair is not None:
                self.pairs.append(pair)
                continue
            if columns is not None:
                taken = side.sketched(taken, *columns)
            gram = side.sample_gram(taken)
            self.total = gram if self.total is None else self.total + gram

    def is_low_rank(self, side: Side) -> bool:
        """Whether the mean is U U^T with fewer columns than rows."""
        return self.total is None and 0 < self.count < side.size

    def basis(self, side: Side) -> Tensor:
        """U (k, B) with U U^T the mean of the pairs' Gram matrices    [eq. 14]."""
        activations = torch.cat([pair[0] for pair in self.pairs])
        deltas = torch.cat([pair[1] for pair in self.pairs])
        ours, others = (deltas, activations) if side.left else (activations, deltas)
        norms = torch.linalg.vector_norm(others, dim=1, keepdim=True)
        return (ours * norms / self.count**0.5).T

    def mean(self, side: Side) -> Tensor:
        """Blocks of the mean of the Gram matrices, shape (s, p, p)."""
        mean = 0.0 if self.total is None else self.total / self.count
        return mean + side.gram(self.basis(side)[None])[0] if self.pairs else mean
