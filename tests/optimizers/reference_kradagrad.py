"""KrADagrad and KrADagrad* block by block in float64, as the equations read; no code of ours."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Steps = Sequence[Sequence[Tensor]]


def merged(shape: Sequence[int], limit: int) -> list[int]:
    """Multiply neighbours while the product is at most `limit`; sizes of 1 vanish."""
    out, product = [], 1
    for size in shape:
        if product * size <= limit:
            product *= size
        else:
            out += [product] if product > 1 else []
            product = size
    out += [product] if product > 1 else []
    return out or [1]


def cuts(shape: Sequence[int], limit: int) -> list[tuple[slice, ...]]:
    """Index of each block of at most `limit` a side, in row-major order."""
    spans = [[slice(a, min(a + limit, n)) for a in range(0, n, limit)] for n in shape]
    return list(itertools.product(*spans))


def unfolded(G: Tensor, i: int) -> Tensor:
    """The matrix (n_i, rest) whose columns are the fibres along mode i."""
    return G.movedim(i, 0).reshape(G.shape[i], -1)


def times(G: Tensor, P: Tensor, i: int) -> Tensor:
    """G x_i P."""
    return torch.tensordot(P, G, dims=([1], [i])).movedim(0, i)


def power(A: Tensor, exponent: float, shift: float = 0.0) -> Tensor:
    """(A + shift I)^exponent with negative eigenvalues taken for 0."""
    A = (A + A.T) / 2
    eigenvalues, V = torch.linalg.eigh(A + shift * torch.eye(len(A), dtype=A.dtype))
    return V @ torch.diag(eigenvalues.clamp(min=0) ** exponent) @ V.T


def lowered(L: Tensor, ceiling: float) -> Tensor:
    """L with the eigenvalues above `ceiling` lowered to it."""
    eigenvalues, V = torch.linalg.eigh((L + L.T) / 2)
    return V @ torch.diag(eigenvalues.clamp(max=ceiling)) @ V.T


def bound(A: Tensor, L: Tensor, rule: str) -> float:
    """t of the four rules, for the increment A and the factor L."""
    if rule == "spectral":
        return 1 + float(torch.linalg.matrix_norm(A @ L, 2))
    if rule == "frobenius":
        return 1 + float(torch.linalg.matrix_norm(A @ L, "fro"))
    trace = 1 + float(torch.trace(A @ L))
    return trace * len(L) if rule == "trace_dim" else trace


def shrunk(L: Tensor, A: Tensor, rule: str, damping: float, woodbury: bool = False) -> Tensor:
    """Eq. 13 after the damping; or eq. 12, of which it is the lower bound."""
    L = L - damping * L @ L.T
    t = bound(A, L, rule)
    if woodbury:
        return torch.linalg.inv(torch.linalg.inv(L) + A / t)
    return L - L @ A @ L / t


class Momentum:
    """Weight decay, momentum and the step itself, by the three rules."""

    def __init__(self, starts: Sequence[Tensor], lr: float, mu: float, rule: str, wd: float):
        self.x = [x.double().clone() for x in starts]
        self.m = [torch.zeros_like(x) for x in self.x]
        self.lr, self.mu, self.rule, self.wd = lr, mu, rule, wd

    def step(self, p: int, update: Tensor) -> None:
        if self.rule == "in_place_nesterov":  # the authors': L2, and the buffer is overwritten
            update = update + self.wd * self.x[p]
            self.m[p] = self.mu * (self.mu * self.m[p] + update) + update
            self.x[p] = self.x[p] - self.lr * self.m[p]
            return
        self.m[p] = self.mu * self.m[p] + update
        step = self.m[p] if self.rule == "heavy_ball" else update + self.mu * self.m[p]
        self.x[p] = (1 - self.lr * self.wd) * self.x[p] - self.lr * step


def kradagrad_star(
    starts: Sequence[Tensor],
    grads: Steps,
    *,
    lr: float,
    rule: str,
    block_size: int,
    due: Callable[[int], bool],
    initial: float = 1.0,
    damping: float = 0.0,
    beta2: float = 1.0,
    ceiling: float = math.inf,
    start_step: int = 1,
    exponent: Callable[[int], float] = lambda k: 1 / (2 * k),
    shift: float = 0.0,
    graft: bool = False,
    swap: bool = False,
    momentum: float = 0.0,
    momentum_rule: str = "heavy_ball",
    weight_decay: float = 0.0,
) -> list[Tensor]:
    """KrADagrad* over the steps t = 1, 2, ...; roots are renewed where due(t) holds.

    Before that eigenvalues are cut at `ceiling`.
    Before `start_step` the update is the gradient. `graft` rescales the update of a tensor to the
    gradient's norm. `swap` is Algorithm 1 as printed: (L, R) <- (R', L') where m = n.
    """
    out = Momentum(starts, lr, momentum, momentum_rule, weight_decay)
    shapes = [merged(x.shape, block_size) for x in starts]
    L: dict = {}
    P: dict = {}
    for t, step_grads in enumerate(grads, start=1):
        for p, grad in enumerate(step_grads):
            G_all = grad.double().reshape(shapes[p])
            update = torch.zeros_like(G_all)
            for b, cut in enumerate(cuts(shapes[p], block_size)):
                G = G_all[cut]
                k = G.ndim
                new = {}
                for i in range(k):
                    key = (p, b, i)
                    eye = torch.eye(G.shape[i], dtype=torch.float64)
                    old = L.get(key, initial * eye) / beta2
                    A = unfolded(G, i) @ unfolded(G, i).T
                    new[key] = shrunk(old, A, rule, damping)
                    P.setdefault(key, eye)
                if swap and k == 2 and G.shape[0] == G.shape[1]:
                    new[p, b, 0], new[p, b, 1] = new[p, b, 1], new[p, b, 0]
                L.update(new)
                out_block = G
                for i in range(k):
                    if due(t):
                        L[p, b, i] = lowered(L[p, b, i], ceiling)
                        P[p, b, i] = power(L[p, b, i], exponent(k), shift)
                    out_block = times(out_block, P[p, b, i], i)
                update[cut] = out_block if t >= start_step else G
            if graft and t >= start_step:
                update = update * G_all.norm() / (update.norm() + 1e-16)
            out.step(p, update.reshape(starts[p].shape))
    return out.x


def mode_of_code(step: int, shape: Sequence[int]) -> int:
    """The authors' schedule, steps from 0: a mode beside the largest gets O(sqrt(step)) updates."""
    k = len(shape)
    if step < k**2:
        return step % k
    excess = step - math.isqrt(step) ** 2
    return excess if excess < k else list(shape).index(max(shape))


def kradagrad(
    starts: Sequence[Tensor],
    grads: Steps,
    *,
    lr: float,
    rule: str,
    block_size: int,
    due: Callable[[int], bool],
    cyclic: bool = False,
    whole_shape: bool = False,
    first_block_only: bool = False,
    woodbury: bool = False,
    damping: float = 0.0,
    beta2: float = 1.0,
    ceiling: float = math.inf,
    start_step: int = 1,
    plain_start: bool = True,
    exponent: float = 0.5,
    shift: float = 0.0,
    momentum: float = 0.0,
    momentum_rule: str = "heavy_ball",
    weight_decay: float = 0.0,
) -> list[Tensor]:
    """KrADagrad over the steps t = 1, 2, ...; one mode i of a block is touched a step.

    Gt = G with the roots P_j of the other modes; L_i moves by A = Gt_(i) Gt_(i)^T; update Gt x_i
    P_i. Roots of modes touched since are renewed where due(t) holds, after eigenvalues were cut at
    `ceiling`. Before `start_step` the update is the gradient (`plain_start`) or, as in the authors'
    code, Gt. `whole_shape`: the schedule looks at the tensor's shape rather than the block's.
    `first_block_only`: the authors' index bug.
    """
    out = Momentum(starts, lr, momentum, momentum_rule, weight_decay)
    shapes = [merged(x.shape, block_size) for x in starts]
    L: dict = {}
    P: dict = {}
    touched: set = set()
    for t, step_grads in enumerate(grads, start=1):
        for p, grad in enumerate(step_grads):
            G_all = grad.double().reshape(shapes[p])
            update = torch.zeros_like(G_all)
            for b, cut in enumerate(cuts(shapes[p], block_size)):
                G = G_all[cut]
                k = G.ndim
                for j in range(k):
                    P.setdefault((p, b, j), torch.eye(G.shape[j], dtype=torch.float64))
                    L.setdefault((p, b, j), torch.eye(G.shape[j], dtype=torch.float64))
                shape = shapes[p] if whole_shape else G.shape
                i = (t - 1) % k if cyclic else mode_of_code(t - 1, shape)
                Gt = G
                for j in range(k):
                    if j != i:
                        Gt = times(Gt, P[p, b, j], j)
                A = unfolded(Gt, i) @ unfolded(Gt, i).T
                L[p, b, i] = shrunk(L[p, b, i] / beta2, A, rule, damping, woodbury)
                touched.add((p, b, i))
                if due(t):
                    for j in range(k):
                        L[p, b, j] = lowered(L[p, b, j], ceiling)
                        if (p, b, j) in touched and (b == 0 or not first_block_only):
                            P[p, b, j] = power(L[p, b, j], exponent, shift)
                        touched.discard((p, b, j))
                early = G if plain_start else Gt
                update[cut] = times(Gt, P[p, b, i], i) if t >= start_step else early
            out.step(p, update.reshape(starts[p].shape))
    return out.x
