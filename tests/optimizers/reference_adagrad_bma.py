"""AdaGrad-BMA [Lu et al. 2018], dense and slow; shares no code with ours."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

from tests.optimizers.reference import Gradient


def blocks_of(shapes: tuple[tuple[int, ...], ...], partition: str) -> list[list[int]]:
    """Positions of each block's values in the concatenation of tensors of these shapes."""
    blocks: dict[tuple, list[int]] = {}
    position = 0
    for tensor, shape in enumerate(shapes):
        for index in product(*(range(size) for size in shape)):
            key: tuple = (tensor,)
            if partition == "element":
                key = (tensor, *index)
            elif partition in ("unit", "group") and len(shape) >= 2:
                key = (tensor, index[0])
                if partition == "group" and len(shape) >= 3:
                    key = (tensor, index[0], index[1])
            blocks.setdefault(key, []).append(position)
            position += 1
    return list(blocks.values())


def inverse_root(matrix: Tensor, floor: float) -> Tensor:
    """M^{-1/2} with eigenvalues raised to the floor."""
    values, Q = torch.linalg.eigh(matrix)
    return Q @ torch.diag(values.clamp(min=floor) ** -0.5) @ Q.T


def corrected(
    x: Tensor,
    gradient: Gradient,
    num_steps: int,
    *,
    lr: float,
    blocks: list[list[int]],
    eps: float,
    floor: float,
    update_freq: int = 1,
) -> Tensor:
    """x <- x - lr Z^{-1/2} F^{-1/2} Z^{-1/2} g, with the d x d matrix F of eqs. 24 and 26.

    F^{-1/2} is renewed every `update_freq` steps. Its eigenvalues are 1 and those of the L x L
    matrix of eq. 27, so that a floor below 1 acts on the latter only.
    """
    E = torch.zeros(len(x), len(blocks), dtype=x.dtype)
    for i, block in enumerate(blocks):
        E[block, i] = 1.0
    s = torch.tensor([float(len(block)) for block in blocks], dtype=x.dtype)
    H, r = torch.zeros(len(x), len(x), dtype=x.dtype), torch.zeros_like(x)
    for t in range(num_steps):
        g = gradient(x, t)
        r, H = r + g**2, H + torch.outer(g, g)
        z = (r + eps) ** 0.5
        if t % update_freq == 0:
            U, v = E.T @ H @ E, E.T @ z
            B = (U - torch.diag(torch.diag(U))) / torch.outer(v, v) / torch.outer(s, s) ** 0.5
            root = inverse_root(torch.eye(len(x), dtype=x.dtype) + E @ B @ E.T, floor)
        Z = torch.diag(z**-0.5)
        x = x - lr * (Z @ root @ Z @ g)
    return x


def printed(
    x: Tensor,
    gradient: Gradient,
    num_steps: int,
    *,
    lr: float,
    blocks: list[list[int]],
    eps: float,
    floor: float,
    update_freq: int = 1,
) -> Tensor:
    """Algorithm 1 line by line, with the raw u in line 18."""
    L = len(blocks)
    s = torch.tensor([float(len(block)) for block in blocks], dtype=x.dtype)
    U, v, r = torch.zeros(L, L, dtype=x.dtype), torch.zeros(L, dtype=x.dtype), torch.zeros_like(x)
    for t in range(num_steps):
        g = gradient(x, t)
        r = r + g**2
        z = torch.sqrt(r + eps)
        u = torch.stack([sum(g[m] for m in block) for block in blocks])
        v = torch.stack([sum(z[m] for m in block) for block in blocks])
        U = U + torch.outer(u, u)
        if t % update_freq == 0:
            W = torch.eye(L, dtype=x.dtype)
            for i, j in product(range(L), range(L)):
                if i != j:
                    W[i, j] = U[i, j] / (v[i] * v[j])
            D = inverse_root(W, floor) - torch.eye(L, dtype=x.dtype)
            for i, j in product(range(L), range(L)):
                D[i, j] = D[i, j] / (s[i] * s[j]) ** 0.5
        g = z**-0.5 * g
        for i, block in enumerate(blocks):
            g[block] = g[block] + sum(D[i, j] * u[j] for j in range(L))
        x = x - lr * z**-0.5 * g
    return x
