"""Slow and obvious transcriptions of the papers' formulas; they share no code with ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

Gradient = Callable[[Tensor, int], Tensor]


def root_and_basis(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Singular values (d,) of a d x r matrix, zeros included, and all d left singular vectors.

    From the matrix itself and not from its square: exact to round-off where the root of the
    eigenvalues of G G^T would only be good to the square root of it.
    """
    U, s, _ = torch.linalg.svd(matrix, full_matrices=True)
    return torch.cat([s, s.new_zeros(len(U) - len(s))]), U


def algorithm_1(
    x: Tensor, gradient: Gradient, num_steps: int, *, lr: float, r: int, beta2: float, eps: float
) -> Tensor:
    """GGT, Algorithm 1 as printed: x <- x - lr [(G G^T)^{1/2} + eps I]^{-1} g, dense."""
    grads: list[Tensor] = []
    for t in range(num_steps):
        grads.append(gradient(x, t))
        G = torch.stack([beta2**k * grads[t - k] for k in range(min(r, t + 1))], dim=1)
        s, U = root_and_basis(G)
        matrix = U @ torch.diag(s) @ U.T + eps * torch.eye(len(x), dtype=x.dtype)
        x = x - lr * torch.linalg.solve(matrix, grads[t])
    return x


def section_2_1(
    x: Tensor,
    gradient: Gradient,
    num_steps: int,
    *,
    lr: float,
    r: int,
    beta2: float,
    eps: float,
    momentum: float,
    source: str,
    outside: float | None,
    sgd_mix: float = 0.0,
    ridge: float = 0.0,
) -> Tensor:
    """GGT, section 2.1 with the tweaks of 2.2, on the thin singular value decomposition of G.

    x <- x - lr { outside (v - U U^T v) + U (S + eps I)^{-1} U^T v + sgd_mix v }, `outside` None for
    1/eps; with a ridge, U = G V S^{-1} and S^2 = eigenvalues of G^T G + ridge I.
    """
    v, columns = torch.zeros_like(x), []
    for t in range(num_steps):
        g = gradient(x, t)
        v = momentum * v + g
        columns = [v if source == "momentum" else g, *columns][:r]
        G = torch.stack([beta2**k * column for k, column in enumerate(columns)], dim=1)
        _, s, Vh = torch.linalg.svd(G, full_matrices=False)
        s = (s**2 + ridge).sqrt()
        U = G @ Vh.T / s
        scale = 1 / eps if outside is None else outside
        inside = U @ ((U.T @ v) / (s + eps))
        x = x - lr * (scale * (v - U @ (U.T @ v)) + inside + sgd_mix * v)
    return x


def full_adagrad(
    x: Tensor,
    gradient: Gradient,
    num_steps: int,
    *,
    lr: float,
    eps: float,
    beta2: float,
    momentum: float,
) -> Tensor:
    """x <- x - lr (H^{1/2} + eps I)^{-1} v; H is kept as a tall matrix A with H = A A^T."""
    A, v = torch.zeros(len(x), 0, dtype=x.dtype), torch.zeros_like(x)
    for t in range(num_steps):
        g = gradient(x, t)
        v = momentum * v + g
        weight = 1.0 if beta2 == 1 else 1 - beta2
        A = torch.cat([beta2**0.5 * A, weight**0.5 * g[:, None]], dim=1)
        s, U = root_and_basis(A)
        x = x - lr * (U @ ((U.T @ v) / (s + eps)))
    return x


def tensorflow_reading(
    x: Tensor,
    grads: Iterable[Tensor],
    *,
    lr: float,
    window: int,
    beta1: float = 0.9,
    eps: float = 1e-4,
    svd_eps: float = 1e-6,
    sigma_eps: float = 1e-2,
) -> list[Tensor]:
    """GGT as TensorFlow contrib describes it, with the zero columns; x after each step."""
    buffer = torch.zeros(window, len(x), dtype=x.dtype)
    m, path = torch.zeros_like(x), []
    for t, g in enumerate(grads, start=1):
        m = beta1 * m + (1 - beta1) * g
        buffer[(t - 1) % window] = m
        M = buffer.T / min(t, window) ** 0.5
        U, sigma, _ = torch.linalg.svd(M.T @ M + svd_eps * torch.eye(window, dtype=x.dtype))
        step = M @ U @ torch.diag((sigma.sqrt() + sigma_eps) ** -3) @ U.T @ M.T @ m
        if sigma.sqrt().min() > eps:
            tail = m - M @ U @ torch.diag(1 / sigma) @ U.T @ M.T @ m
            step = step + tail / sigma.sqrt().min()
        x = x - lr * step
        path.append(x)
    return path


def noisy_quadratic(d: int, seed: int) -> Gradient:
    """Gradient A x + noise_t of a dense quadratic: columns of G stay in general position."""
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(d, d, generator=generator, dtype=torch.float64)
    A = root @ root.T / d
    noise = torch.randn(1000, d, generator=generator, dtype=torch.float64)
    return lambda x, t: A @ x + noise[t]


def split(x: Tensor, sizes: tuple[tuple[int, ...], ...]) -> list[Tensor]:
    """Cut x, shape (d,), into leaf tensors of the given shapes that require gradients."""
    parts, start = [], 0
    for shape in sizes:
        size = torch.Size(shape).numel()
        parts.append(x[start : start + size].clone().view(shape).requires_grad_())
        start += size
    return parts


def join(parts: list[Tensor]) -> Tensor:
    """The flat vector of the parts, detached."""
    return torch.cat([part.detach().reshape(-1) for part in parts])


def run_on_parts(
    optimizer: torch.optim.Optimizer, parts: list[Tensor], gradient: Gradient, num_steps: int
) -> Tensor:
    """Step `optimizer` with gradients of the flat vector dealt out to the parts."""
    for t in range(num_steps):
        flat, start = gradient(join(parts).double(), t), 0
        for part in parts:
            piece = flat[start : start + part.numel()].view(part.shape)
            part.grad = piece.to(part.dtype)
            start += part.numel()
        optimizer.step()
    return join(parts)
