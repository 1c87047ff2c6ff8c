"""Gradients of a layer's weight for each sample, in the form in which they are cheapest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor


class Samples(ABC):
    """Per-sample gradients G_i of one weight matrix, shape (m, n), i = 1..B.

    G_i belongs to the sample's own loss, not to its share of the batch's mean. A bias is the
    matrix's last column.

    Attributes:
        area: positions of an image over which G_i is a sum; 1 where there is no image.
    """

    area: int = 1

    @abstractmethod
    def __len__(self) -> int:
        """B."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """(m, n)."""

    @abstractmethod
    def gradients(self) -> Tensor:
        """All G_i, shape (B, m, n)."""

    def left(self) -> Tensor:
        """sum_i G_i G_i^T, shape (m, m)."""
        G = self.gradients().transpose(0, 1).flatten(1)
        return G @ G.T

    def right(self) -> Tensor:
        """sum_i G_i^T G_i, shape (n, n)."""
        G = self.gradients().flatten(0, 1)
        return G.T @ G

    def by_position(self) -> Samples:
        """The same with each position of a sequence as a sample, where there are such."""
        return self

    def rank_one(self) -> tuple[Tensor, Tensor] | None:
        """(activations (B, n), deltas (B, m)) with G_i = delta_i activation_i^T, if kappa = 1."""
        return None

    @classmethod
    def total(cls, parts: Sequence[Samples]) -> Samples:
        """Sums over parts of this class: one for each call of a module used several times."""
        return DenseSamples(sum(part.gradients() for part in parts))

    def rows(self, indices: Tensor, scale: float = 1.0) -> Samples:
        """The samples of `scale` times the given rows of every G_i."""
        return DenseSamples(scale * self.gradients()[:, indices])

    def columns(self, indices: Tensor, scale: float = 1.0) -> Samples:
        """The samples of `scale` times the given columns of every G_i."""
        return DenseSamples(scale * self.gradients()[:, :, indices])


class DenseSamples(Samples):
    """Gradients as they are, shape (B, m, n)."""

    def __init__(self, gradients: Tensor, area: int = 1) -> None:
        self._gradients = gradients
        self.area = area

    def __len__(self) -> int:
        return len(self._gradients)

    @property
    def shape(self) -> tuple[int, int]:
        return self._gradients.shape[1], self._gradients.shape[2]

    def gradients(self) -> Tensor:
        return self._gradients


class OuterSamples(Samples):
    """G_i = D_i^T A_i with A_i (kappa, n) and D_i (kappa, m)    [Yang et al. 2021, eq. 8].

    Args:
        activations: A, shape (B, kappa, n): what the layer was given at each position.
        deltas: D, shape (B, kappa, m): gradient of the sample's loss by what the layer gave.
        sequential: positions are those of a sequence, and not of an image.
    """

    def __init__(self, activations: Tensor, deltas: Tensor, sequential: bool = True) -> None:
        self.activations = activations
        self.deltas = deltas
        self.sequential = sequential
        self.area = 1 if sequential else deltas.shape[1]

    def __len__(self) -> int:
        return len(self.deltas)

    @property
    def shape(self) -> tuple[int, int]:
        return self.deltas.shape[2], self.activations.shape[2]

    def gradients(self) -> Tensor:
        return self.deltas.mT @ self.activations

    def left(self) -> Tensor:
        return _gram(self.deltas, self.activations)

    def right(self) -> Tensor:
        return _gram(self.activations, self.deltas)

    def rank_one(self) -> tuple[Tensor, Tensor] | None:
        if self.deltas.shape[1] != 1:
            return None
        return self.activations[:, 0], self.deltas[:, 0]

    def rows(self, indices: Tensor, scale: float = 1.0) -> Samples:
        return OuterSamples(self.activations, scale * self.deltas[..., indices])

    def columns(self, indices: Tensor, scale: float = 1.0) -> Samples:
        return OuterSamples(scale * self.activations[..., indices], self.deltas)

    @classmethod
    def total(cls, parts: Sequence[OuterSamples]) -> OuterSamples:
        activations = torch.cat([part.activations for part in parts], dim=1)
        deltas = torch.cat([part.deltas for part in parts], dim=1)
        return cls(activations, deltas, parts[0].sequential)

    def by_position(self) -> OuterSamples:
        if not self.sequential:
            return self
        return OuterSamples(
            self.activations.flatten(0, 1)[:, None], self.deltas.flatten(0, 1)[:, None]
        )


class LookupSamples(Samples):
    """Gradients of an embedding table: row r of G_i is the sum of D_i's rows that looked up r.

    The table's height m enters no product; only `left` and `gradients` have its size.

    Args:
        indices: rows looked up, shape (B, kappa), int64; negative: none (padding).
        deltas: D, shape (B, kappa, n).
        num_rows: m.
    """

    def __init__(self, indices: Tensor, deltas: Tensor, num_rows: int) -> None:
        self.indices = indices
        self.deltas = deltas * (indices >= 0).unsqueeze(-1)
        self.num_rows = num_rows

    def __len__(self) -> int:
        return len(self.deltas)

    @property
    def shape(self) -> tuple[int, int]:
        return self.num_rows, self.deltas.shape[2]

    def gradients(self) -> Tensor:
        num_samples, kappa, n = self.deltas.shape
        index = self.indices.clamp(min=0).unsqueeze(-1).expand(num_samples, kappa, n)
        table = self.deltas.new_zeros(num_samples, self.num_rows, n)
        return table.scatter_add_(1, index, self.deltas)

    def left(self) -> Tensor:
        # Entry (r, s) sums d_p . d_q over the positions p, q of one sample that looked up r and s.
        products = self.deltas @ self.deltas.mT
        at = self.indices.clamp(min=0)
        where = at.unsqueeze(-1) * self.num_rows + at.unsqueeze(-2)
        flat = products.new_zeros(self.num_rows**2)
        flat.index_add_(0, where.flatten(), products.flatten())
        return flat.view(self.num_rows, self.num_rows)

    def right(self) -> Tensor:
        if self.indices.shape[1] == 1:
            return self.deltas[:, 0].T @ self.deltas[:, 0]
        same = (self.indices.unsqueeze(-1) == self.indices.unsqueeze(-2)).to(self.deltas.dtype)
        return self.deltas.flatten(0, 1).T @ (same @ self.deltas).flatten(0, 1)

    def rows(self, indices: Tensor, scale: float = 1.0) -> Samples:
        wanted = indices.to(self.indices.device)[:, None]
        hits = (wanted == self.indices[:, None]).to(self.deltas.dtype)
        return DenseSamples(scale * (hits @ self.deltas))

    def columns(self, indices: Tensor, scale: float = 1.0) -> Samples:
        return LookupSamples(self.indices, scale * self.deltas[..., indices], self.num_rows)

    @classmethod
    def total(cls, parts: Sequence[LookupSamples]) -> LookupSamples:
        indices = torch.cat([part.indices for part in parts], dim=1)
        deltas = torch.cat([part.deltas for part in parts], dim=1)
        return cls(indices, deltas, parts[0].num_rows)

    def by_position(self) -> LookupSamples:
        deltas = self.deltas.flatten(0, 1)[:, None]
        return LookupSamples(self.indices.flatten()[:, None], deltas, self.num_rows)


def bias_column(inputs: Tensor) -> Tensor:
    """Append ones to the last dimension: [W b] [x; 1] = W x + b."""
    return torch.cat([inputs, torch.ones_like(inputs[..., :1])], dim=-1)


def _gram(X: Tensor, Y: Tensor) -> Tensor:
    """sum_i X_i^T Y_i Y_i^T X_i of X (B, kappa, p) and Y (B, kappa, q), shape (p, p).

    kappa = 1 needs no product of the two: sum_i |y_i|^2 x_i x_i^T. Otherwise through Y Y^T
    (kappa, kappa) or X^T Y (p, q), whichever takes fewer multiplications.
    """
    kappa, p, q = *X.shape[1:], Y.shape[2]
    if kappa == 1:
        scaled = X[:, 0] * torch.linalg.vector_norm(Y[:, 0], dim=1, keepdim=True)
        return scaled.T @ scaled
    if kappa * (kappa * (p + q) + p * p) < p * q * (kappa + p):
        return X.flatten(0, 1).T @ ((Y @ Y.mT) @ X).flatten(0, 1)
    products = (X.mT @ Y).transpose(0, 1).flatten(1)
    return products @ products.T
