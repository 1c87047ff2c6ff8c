"""NG+ transcribed from its equations, slowly: autograd on one sample at a time, dense matrices."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

# Names of the parameters of a matrix [W b]: the weight's and, perhaps, the bias's.
Names = tuple[str, ...]
# Columns or rows of a sketch: (step, matrix, count) -> numbers drawn.
Draw = Callable[[int, int, int], Tensor]


def sample_gradients(model: nn.Module, losses: Callable[[Any], Tensor], batch: Tensor) -> list:
    """Gradients of each sample's own loss by name; `losses` gives the loss of each, (B,)."""
    parameters = dict(model.named_parameters())
    found = []
    for i in range(len(batch)):
        (loss,) = losses(batch[i : i + 1])
        grads = torch.autograd.grad(loss, list(parameters.values()))
        found.append(dict(zip(parameters, grads, strict=True)))
    return found


def matrix(names: Names, values: dict[str, Tensor]) -> Tensor:
    """[W b] of values by name."""
    weight = values[names[0]]
    columns = [weight.reshape(weight.shape[0], -1)]
    columns += [values[name].reshape(-1, 1) for name in names[1:]]
    return torch.cat(columns, dim=1)


def block_diagonal(L: Tensor, p: int) -> Tensor:
    """L with zeros outside its diagonal blocks of p rows    (18)."""
    block = torch.arange(len(L)) // p
    return L * (block[:, None] == block[None, :])


def basis(Gs: list[Tensor]) -> Tensor:
    """U with U U^T = mean G_i G_i^T, of G_i with rank one: their left singular vectors    (14)."""
    columns = [torch.linalg.svd(G)[0][:, 0] * G.norm() for G in Gs]
    return torch.stack(columns, dim=1) / len(Gs) ** 0.5


def sketched(U: Tensor, drawn: Tensor, G: Tensor, damping: float) -> Tensor:
    """(G - U Y) / damping, Y the least-squares solution from the drawn rows of U and G    (16)."""
    scale, b = (len(U) / len(drawn)) ** 0.5, U.shape[1]
    A = torch.cat([scale * U[drawn], damping**0.5 * torch.eye(b, dtype=U.dtype)])
    target = torch.cat([scale * G[drawn], torch.zeros(b, G.shape[1], dtype=U.dtype)])
    return (G - U @ torch.linalg.lstsq(A, target).solution) / damping


def ng_plus(
    model: nn.Module,
    losses: Callable[[Any], Tensor],
    batches: Iterable[Tensor],
    matrices: list[Names],
    *,
    lr: float,
    momentum: float,
    damping: float,
    update_freq: int,
    weight_decay: float = 0.0,
    statistic: str = "samples",
    beta2: float = 0.0,
    gamma: float = 1.0,
    initial: float = 0.0,
    radius: float | None = None,
    side: str = "smaller",
    block_size: int | None = None,
    curvature_samples: int | None = None,
    columns: Draw | None = None,
    rows: Draw | None = None,
) -> None:
    """Algorithm 1 with (4)-(7), (11), (12), (16)-(19); changes the model in place."""
    parameters = dict(model.named_parameters())
    buffers = {name: torch.zeros_like(p) for name, p in parameters.items()}
    curvature: dict[Names, Tensor] = {}
    inverses: dict[Names, Tensor] = {}
    bases: dict[Names, tuple[Tensor, Tensor]] = {}
    for step, batch in enumerate(batches):
        samples = sample_gradients(model, losses, batch)
        mean = {name: sum(s[name] for s in samples) / len(samples) for name in parameters}
        directions = dict(mean)
        for number, names in enumerate(matrices):
            G = matrix(names, mean)
            left = G.shape[0] <= G.shape[1] if side == "smaller" else side == "left"

            def gram(A: Tensor, left: bool = left, number: int = number, step: int = step):
                A = A if left else A.T
                if columns is not None:
                    drawn = columns(step, number, A.shape[1])
                    A = A[:, drawn] * (A.shape[1] / len(drawn)) ** 0.5
                return A @ A.T

            eye = torch.eye(G.shape[0] if left else G.shape[1], dtype=G.dtype)
            if statistic == "minibatch":
                old = curvature.get(names, initial * eye)
                curvature[names] = beta2 * old + gamma * gram(G)
            elif step % update_freq == 0:
                grams = [gram(matrix(names, s)) for s in samples[:curvature_samples]]
                L = sum(grams) / len(grams)
                old = curvature.get(names, L)
                curvature[names] = beta2 * old + (1 - beta2) * L
            if step % update_freq == 0:
                L = curvature[names]
                L = L if block_size is None else block_diagonal(L, block_size)
                inverses[names] = torch.linalg.inv(L + damping * eye)
            D = inverses[names] @ G if left else G @ inverses[names]
            if rows is not None:
                if step % update_freq == 0:
                    Gs = [matrix(names, s) for s in samples]
                    U = basis([A if left else A.T for A in Gs])
                    bases[names] = U, rows(step, number, len(U))
                U, drawn = bases[names]
                D = sketched(U, drawn, G if left else G.T, damping)
                D = D if left else D.T
            start = 0
            for name in names:
                width = parameters[name].numel() // len(D)
                directions[name] = D[:, start : start + width].reshape(parameters[name].shape)
                start += width
        with torch.no_grad():
            for name, parameter in parameters.items():
                buffers[name] = momentum * buffers[name] + directions[name]
                parameter *= 1 - lr * weight_decay
                parameter -= lr * buffers[name]
            if radius is not None:
                for names in matrices:
                    project(names, parameters, curvature[names], radius, side)


def project(
    names: Names, parameters: dict[str, Tensor], L: Tensor, radius: float, side: str
) -> None:
    """Pi_K of (19) in the norm of L, by bisection on the multiplier of |X| <= radius."""
    Y = matrix(names, parameters)
    left = Y.shape[0] <= Y.shape[1] if side == "smaller" else side == "left"
    Y = Y if left else Y.T
    if Y.norm() <= radius:
        return
    eye = torch.eye(len(L), dtype=L.dtype)
    low, high = 0.0, 1e12
    for _ in range(200):
        middle = (low + high) / 2
        X = torch.linalg.solve(L + middle * eye, L @ Y)
        low, high = (middle, high) if X.norm() > radius else (low, middle)
    X = X if left else X.T
    start = 0
    for name in names:
        width = parameters[name].numel() // len(X)
        parameters[name].copy_(X[:, start : start + width].reshape(parameters[name].shape))
        start += width


def authors(
    model: nn.Module,
    losses: Callable[[Any], Tensor],
    batches: Iterable[Tensor],
    matrices: list[Names],
    areas: list[int],
    *,
    lr: float,
    momentum: float,
    damping: float,
    update_freq: int,
    weight_decay: float,
    alpha: float,
) -> None:
    """Their first code: left factors / sqrt(area), sqrt(damping), decay of weights by L2."""
    parameters = dict(model.named_parameters())
    buffers: dict[str, Tensor] = {}
    curvature: dict[Names, Tensor] = {}
    inverses: dict[Names, Tensor] = {}
    for step, batch in enumerate(batches):
        samples = sample_gradients(model, losses, batch)
        grads = {name: sum(s[name] for s in samples) / len(samples) for name in parameters}
        for names, area in zip(matrices, areas, strict=True):
            G = matrix(names, grads)
            if step % update_freq == 0:
                dw = torch.cat([matrix(names, s) for s in samples], dim=1)
                L = dw @ dw.T / (len(samples) * area**0.5)
                old = curvature.get(names)
                curvature[names] = L if old is None else (1 - alpha) * old + alpha * L
                eye = torch.eye(len(L), dtype=L.dtype)
                inverses[names] = torch.linalg.inv(curvature[names] + damping**0.5 * eye)
            D = inverses[names] @ G
            weight = parameters[names[0]]
            width = weight.numel() // len(D)
            grads[names[0]] = D[:, :width].reshape(weight.shape) + weight_decay * weight
            if len(names) > 1:
                grads[names[1]] = D[:, -1]
        with torch.no_grad():
            for name, parameter in parameters.items():
                old = buffers.get(name)
                buffers[name] = grads[name] if old is None else momentum * old + grads[name]
                parameter -= lr * buffers[name]


def authors_online(
    parameters: list[Tensor],
    gradients: Callable[[list[Tensor], int], list[Tensor]],
    num_steps: int,
    *,
    lr: float,
    momentum: float,
    damping: float,
    weight_decay: float,
    alpha: float,
    epsilon: float,
    cov_freq: int,
    update_freq: int,
) -> list[Tensor]:
    """Their "online" code, by parameter; returns the parameters after the steps."""
    states: list[dict[str, Tensor]] = [{} for _ in parameters]
    for step in range(num_steps):
        grads = gradients(parameters, step)
        new = []
        for p, g, state in zip(parameters, grads, states, strict=True):
            eye = torch.eye(p.shape[0] if p.ndim else 1, dtype=p.dtype)
            if not state:
                state.update(M=g.clone(), L=epsilon * eye)
            state["M"] = momentum * state["M"] + (g + weight_decay * p)
            M = state["M"].reshape(len(eye), -1)
            if step % cov_freq == 0:
                state["L"] = alpha * state["L"] + (1 - alpha) * M @ M.T
            if step % update_freq == 0:
                cut = min(damping, max(float(state["L"].abs().max()), 1e-3))
                state["inverse"] = torch.linalg.inv(state["L"] + cut**0.5 * eye)
            new.append(p - lr * (state["inverse"] @ M).reshape(p.shape))
        parameters = new
    return parameters
