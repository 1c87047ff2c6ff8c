"""A ring buffer of the last r vectors and their Gram matrix, one row of which is renewed a step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from optimizers.linalg.eigh import eigh

# Columns whose products are summed in the working dtype; sums over chunks are added in float64.
# Shorter chunks are slower on CPUs, longer ones lose accuracy: on heavy-tailed vectors the error of
# the Gram matrix reaches 7e-7 of its largest eigenvalue with 8,192 columns and 2e-6 with 16,384.
CHUNK = 8_192
# Columns handled by one batched product; bounds the temporary copy of a second right-hand side.
BLOCK = 128 * CHUNK
# The same when the block must be converted to float32 first: 26 MB for 100 columns.
CONVERTED_BLOCK = 8 * CHUNK

# Eigenvalues of the Gram matrix below this share of the largest are round-off of the stored vectors
# and of the sums over a chunk. bfloat16 rounds an entry by up to 2^-8, which averages out in part.
RESOLUTION = {torch.float32: 1e-6, torch.bfloat16: 1e-3, torch.float64: 1e-13}


class LowRankWindow:
    """The last r vectors of length d, G = [g_1 ... g_n] with n <= r filled columns, and G^T G.

    `push` and `combine` read the r x d buffer once each; nothing else reads it. All small algebra
    is float64 on the CPU. Columns are in buffer order, not in order of age: see `ages`.

    Attributes:
        state: the whole state, for checkpoints: `rows` (r, d) in the window's dtype, column k of G
            is row k; `gram` (r, r) float64 on the CPU; `count`, the number of pushes so far.
            The window changes it in place; `LowRankWindow(state)` continues from it.
    """

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state

    @classmethod
    def create(
        cls,
        size: int,
        dim: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> LowRankWindow:
        """Make an empty window of `size` vectors of length `dim`.

        Raises:
            ValueError: if `size` or `dim` is below 1 or `dtype` has no known resolution.
        """
        if size < 1:
            raise ValueError(f"window must be >= 1, got {size}")
        if dim < 1:
            raise ValueError(f"dim must be >= 1, got {dim}")
        if dtype not in RESOLUTION:
            raise ValueError(f"window_dtype must be float32, float64 or bfloat16, got {dtype}")
        return cls(
            {
                "rows": torch.zeros(size, dim, dtype=dtype, device=device),
                "gram": torch.zeros(size, size, dtype=torch.float64),
                "count": 0,
            }
        )

    @property
    def num_filled(self) -> int:
        return min(self.state["count"], self.state["rows"].shape[0])

    @property
    def resolution(self) -> float:
        """Share of the largest eigenvalue of G^T G below which an eigenvalue is round-off."""
        return RESOLUTION[self.state["rows"].dtype]

    @property
    def working_dtype(self) -> torch.dtype:
        """dtype of the products: the window's own, float32 for a bfloat16 window."""
        return torch.promote_types(self.state["rows"].dtype, torch.float32)

    def gram(self) -> Tensor:
        """G^T G of the filled columns, shape (n, n), float64, a copy."""
        n = self.num_filled
        return self.state["gram"][:n, :n].clone()

    def eigenvalues(self) -> Tensor:
        """Eigenvalues of G^T G, shape (n,), float64, ascending. O(r^3)."""
        return eigh(self.gram())[0]

    def ages(self) -> Tensor:
        """Steps since each filled column was pushed, 0 for the newest, shape (n,), int64."""
        newest = self.state["count"] - 1
        return (newest - torch.arange(self.num_filled)) % self.state["rows"].shape[0]

    def push(self, vector: Tensor, *others: Tensor) -> Tensor:
        """Replace the oldest column by `vector` and renew its row of G^T G, in one pass over G.

        Args:
            vector: shape (d,), any real dtype; finite, with a squared norm the working dtype holds.
            others: further vectors of shape (d,) to multiply by the new G in the same pass.
        Returns:
            G^T [vector, *others] with the new G, shape (1 + len(others), n), float64. The first row
            is that of the vector as stored, hence exactly the new row of G^T G.
        """
        slot = self.state["count"] % self.state["rows"].shape[0]
        stored = self.state["rows"][slot]
        stored.copy_(vector)
        self.state["count"] += 1
        products = self._products((stored, *others))
        n = self.num_filled
        self.state["gram"][slot, :n] = products[0]
        self.state["gram"][:n, slot] = products[0]
        return products

    def combine(self, coefficients: Tensor, out: Tensor) -> Tensor:
        """Write G c into `out`, in one pass over G, and return it.

        Args:
            coefficients: c, shape (n,).
            out: shape (d,), any real dtype; must not overlap the window.
        """
        dtype = self.working_dtype
        coefficients = coefficients.to(device=out.device, dtype=dtype).unsqueeze(0)
        for columns, block in self._blocks():
            part = out[columns].unsqueeze(0)
            direct = part.dtype == dtype
            target = part if direct else torch.empty_like(part, dtype=dtype)
            whole = block.shape[1] - block.shape[1] % CHUNK
            if whole:
                chunks = block[:, :whole].unflatten(1, (-1, CHUNK)).transpose(0, 1)
                outs = target[:, :whole].unflatten(1, (-1, CHUNK)).transpose(0, 1)
                torch.bmm(coefficients.expand(len(chunks), 1, -1), chunks, out=outs)
            if whole < block.shape[1]:
                torch.mm(coefficients, block[:, whole:], out=target[:, whole:])
            if not direct:
                part.copy_(target)
        return out

    def _products(self, vectors: tuple[Tensor, ...]) -> Tensor:
        total = torch.zeros(len(vectors), self.num_filled, dtype=torch.float64)
        for columns, block in self._blocks():
            parts = [vector[columns].to(block.dtype) for vector in vectors]
            total += _chunked_products(
                block, parts[0].unsqueeze(0) if len(parts) == 1 else torch.stack(parts)
            )
        return total

    def _blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield column ranges and G^T restricted to them, shape (n, columns), working dtype."""
        rows = self.state["rows"][: self.num_filled]
        dtype, dim = self.working_dtype, rows.shape[1]
        if rows.dtype == dtype:
            for start in range(0, dim, BLOCK):
                columns = slice(start, min(start + BLOCK, dim))
                yield columns, rows[:, columns]
            return
        width = min(CONVERTED_BLOCK, dim)
        buffer = torch.empty(rows.shape[0], width, dtype=dtype, device=rows.device)
        for start in range(0, dim, width):
            columns = slice(start, min(start + width, dim))
            yield columns, buffer[:, : columns.stop - start].copy_(rows[:, columns])


def _chunked_products(rows: Tensor, vectors: Tensor) -> Tensor:
    """Inner products of (n, m) rows with (k, m) vectors, shape (k, n), float64 on the CPU.

    Sums run in the working dtype within a chunk of columns and in float64 over chunks. The batch is
    a strided view of the rows, which CPU BLAS reads at memory speed with all threads: a plain
    matrix-vector product of this shape takes nearly twice as long.
    """
    whole = rows.shape[1] - rows.shape[1] % CHUNK
    sums = []
    if whole:
        chunks = rows[:, :whole].unflatten(1, (-1, CHUNK)).permute(1, 2, 0)
        sides = vectors[:, :whole].unflatten(1, (-1, CHUNK)).transpose(0, 1)
        sums.append(torch.bmm(sides, chunks))
    if whole < rows.shape[1]:
        sums.append((vectors[:, whole:] @ rows[:, whole:].T).unsqueeze(0))
    return torch.cat(sums).cpu().double().sum(0)
