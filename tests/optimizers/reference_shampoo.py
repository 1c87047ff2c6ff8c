"""Shampoo in float64, slow and obvious: block after block, with whole Kronecker products."""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import torch
from torch import Tensor


def merged(shape: tuple[int, ...], limit: int, merge: bool) -> list[int]:
    """Neighbouring dimensions multiplied while their product is at most `limit`; ones dropped."""
    sizes, product = [], 1
    for size in shape:
        if merge and product * size <= limit:
            product *= size
        else:
            sizes.append(product)
            product = size
    return [size for size in (*sizes, product) if size > 1] or [1]


def blocks_of(shape: list[int], limit: int) -> list[tuple[slice, ...]]:
    """Slices of all blocks, at most `limit` long in each dimension."""
    cuts = [[slice(i, min(i + limit, n)) for i in range(0, n, limit)] for n in shape]
    return list(itertools.product(*cuts))


def gram(block: Tensor, mode: int) -> Tensor:
    """Products of all slices of a block along one mode, entry by entry."""
    slices = block.unbind(mode)
    return torch.stack([torch.stack([(a * b).sum() for b in slices]) for a in slices])


def power(matrix: Tensor, exponent: float, damping: float, floor: float) -> Tensor:
    """(S + damping I)^exponent; eigenvalues of S that are negative count as zero."""
    values, vectors = torch.linalg.eigh(matrix)
    values = (values.clamp(min=0) + damping).clamp(min=floor)
    return vectors @ torch.diag(values**exponent) @ vectors.T


class ReferenceShampoo:
    """Steps tensors, given and kept in float64, by the equations in Shampoo's docstring."""

    def __init__(self, tensors: list[Tensor], **options: Any) -> None:
        self.x = [tensor.detach().double().clone() for tensor in tensors]
        self.options, self.t = options, 0
        self.statistics: dict[tuple[int, int, int], Tensor] = {}
        self.roots: dict[tuple[int, int, int], Tensor] = {}
        self.m = [torch.zeros_like(x) for x in self.x]
        self.graft_sums = [torch.zeros_like(x) for x in self.x]

    def step(self, grads: list[Tensor]) -> None:
        o = self.options
        self.t += 1
        for i, g in enumerate(grads):
            g = g.double()
            graft = self.graft_direction(i, g)
            shape = merged(tuple(g.shape), o["block_size"], o["merge_dims"])
            U = torch.zeros(shape, dtype=torch.float64)
            for j, where in enumerate(blocks_of(shape, o["block_size"])):
                U[where] = self.preconditioned((i, j), g.reshape(shape)[where])
            u = U.reshape(g.shape)
            if self.t < o["start_step"]:
                u = graft
            elif o["graft"] != "none":
                u = u * graft.norm() / (u.norm() + 1e-16)
            self.move(i, u)

    def preconditioned(self, block: tuple[int, int], G: Tensor) -> Tensor:
        o, k = self.options, G.ndim
        for mode in range(k):
            key, n = (*block, mode), G.shape[mode]
            eye = torch.eye(n, dtype=torch.float64)
            S = self.statistics.get(key, o["initial_scale"] * eye)
            weight = 1 if o["beta2"] == 1 else 1 - o["beta2"]
            self.statistics[key] = o["beta2"] * S + weight * gram(G, mode)
            if self.due():
                p = o["exponent"] or 1 / (2 * k)
                S = self.statistics[key]
                self.roots[key] = power(S, -p, o["damping"], o["floor"])
            self.roots.setdefault(key, eye)
        whole = functools.reduce(torch.kron, [self.roots[(*block, mode)] for mode in range(k)])
        return (whole @ G.reshape(-1)).reshape(G.shape)

    def due(self) -> bool:
        o = self.options
        if o["root_schedule"] == "multiples":
            return self.t % o["update_freq"] == 0
        after = self.t - max(1, o["start_step"])
        return after >= 0 and after % o["update_freq"] == 0

    def graft_direction(self, i: int, g: Tensor) -> Tensor:
        o, sums = self.options, self.graft_sums
        if o["graft"] == "adagrad":
            sums[i] = sums[i] + g**2
            return g / (sums[i].sqrt() + o["graft_eps"])
        if o["graft"] == "adam":
            beta = o["graft_beta2"]
            sums[i] = beta * sums[i] + (1 - beta) * g**2
            return g / ((sums[i] / (1 - beta**self.t)).sqrt() + o["graft_eps"])
        return g

    def move(self, i: int, u: Tensor) -> None:
        o, mu, x = self.options, self.options["momentum"], self.x[i]
        decay = o["weight_decay"]
        if o["weight_decay_rule"] == "l2":
            u = u + decay * x
        else:
            x = x - o["lr"] * decay * x
        old = self.m[i]
        rule = o["momentum_rule"]
        if self.t < o["start_step"] and o["start_rule"] == "aliased":
            rule = "aliased"
        self.m[i], step = {
            "heavy_ball": (mu * old + u, mu * old + u),
            "nesterov": (mu * old + u, u + mu * (mu * old + u)),
            "in_place_nesterov": (mu * (mu * old + u) + u, mu * (mu * old + u) + u),
            "aliased": (mu * old + u, 2 * mu * u),
        }[rule]
        self.x[i] = x - o["lr"] * step


def norm(tensors: list[Tensor]) -> float:
    return math.sqrt(sum(float((tensor.double() ** 2).sum()) for tensor in tensors))
