"""NG+'s proofs and printed tables, by arithmetic [Yang et al. 2021, tables, appendices B, D]."""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor

from scripts.measurements import kit

NUM_CASES = 100
NUM_IMAGES = 1_281_167  # training images of ImageNet


def step_bound() -> list[dict[str, object]]:
    """The coefficient of |gradient|^2 in (20) as a share of the alpha / (2 h2) that the proof uses.

    At the largest step allowed, by the reading "printed", alpha = 2 h1^2 / (L h2), and
    "corrected", half of it. h1, h2 and L cancel, so each reading is one number.
    """
    return [
        {"reading": reading, "seed": 0, "value": float(share(factor, 1, 2, 3))}
        for reading, factor in (("printed", 2), ("corrected", 1))
    ]


def share(factor: int, h1: int, h2: int, L: int) -> Fraction:
    """(alpha / h2 - L alpha^2 / (2 h1^2)) / (alpha / (2 h2)) at alpha = factor h1^2 / (L h2)."""
    alpha = Fraction(factor * h1**2, L * h2)
    return (alpha / h2 - L * alpha**2 / (2 * h1**2)) / (alpha / (2 * h2))


def potential() -> list[dict[str, object]]:
    """What is left between the sides of lemma 7's inequalities, per unit of the right one.

    L_t = L_{t-1} + G_t G_t^T from epsilon I, G_t of m x n. case "first": log det L_T - log det L_0
    less sum |G_t|^2 in the norm of L_t^-1; "second": size x log((T l^2 + epsilon) / epsilon), l the
    largest |G_t|_2, less that log det, with size n as printed and m corrected. A negative value
    contradicts the inequality.
    """
    rows = []
    for seed, generator in kit.cases(NUM_CASES):
        m, n = ((50, 1), (8, 3), (5, 5), (3, 9))[seed % 4]
        T, epsilon = 60, 0.1
        L = epsilon * torch.eye(m, dtype=torch.float64)
        total, norm = 0.0, 0.0
        for _ in range(T):
            G = kit.gaussian(m, n, generator=generator)
            norm = max(norm, float(torch.linalg.matrix_norm(G, 2)))
            L = L + G @ G.T
            total += float((G * torch.linalg.solve(L, G)).sum())
        growth = float(torch.logdet(L / epsilon))
        shape = {"m": m, "n": n, "seed": seed}
        rows.append({"case": "first", "reading": "", "value": 1 - total / growth, **shape})
        bound = float(torch.tensor((T * norm**2 + epsilon) / epsilon).log())
        for reading, size in (("printed", n), ("corrected", m)):
            left = 1 - growth / (size * bound)
            rows.append({"case": "second", "reading": reading, "value": left, **shape})
    return rows


def example() -> list[dict[str, object]]:
    """Least eigenvalue of hess f - alpha I (x) grad f grad f^T, f = |W^T X - Y|^2 / 2.

    alpha = 1 / (4 R^2), |X|_2 <= 1, |Y|_2 <= R, |W|_2 <= R; in every other case W and Y lie at
    the far ends of their sets, where the residual is 2 R. `doubled`: the same with 2 alpha.
    """
    rows = []
    for seed, generator in kit.cases(NUM_CASES):
        m, k, n = 2 + seed % 4, 1 + seed % 3, 1 + seed % 2
        radius = 10 ** float(kit.gaussian(1, generator=generator))
        X = bounded(kit.gaussian(m, k, generator=generator), 1.0)
        W = bounded(kit.gaussian(m, n, generator=generator), radius)
        Y = bounded(kit.gaussian(n, k, generator=generator), radius)
        if seed % 2:
            u, _, v = torch.linalg.svd(X)
            W = radius * torch.outer(u[:, 0], torch.eye(n, dtype=torch.float64)[0])
            Y = -radius * torch.outer(torch.eye(n, dtype=torch.float64)[0], v[0])
        gradient = X @ (X.T @ W - Y.T)
        eye = torch.eye(n, dtype=torch.float64)
        hessian = torch.kron(eye, X @ X.T)
        product = torch.kron(eye, gradient @ gradient.T)
        alpha = 1 / (4 * radius**2)
        value = kit.least_eigenvalue(hessian - alpha * product)
        doubled = kit.least_eigenvalue(hessian - 2 * alpha * product)
        rows.append({"seed": seed, "value": value, "doubled": doubled, "radius": radius})
    return rows


def bounded(matrix: Tensor, bound: float) -> Tensor:
    """The matrix scaled to a spectral norm of `bound`."""
    return matrix * (bound / torch.linalg.matrix_norm(matrix, 2))


# ---------------------------------------------------------------- printed tables


def tables() -> list[dict[str, object]]:
    """Printed numbers against what others imply, in units of half the last printed digit.

    case "hours": epochs x seconds an epoch against the total of Table 1; "iterations": epochs x
    1,281,167 images / batch against Table 2. 1 or less agrees with the rounding. computed, printed:
    the two numbers.
    """
    hours = {
        "SGD": (76, 517, 10.9),
        "LARS": (74, 521, 10.7),
        "K-FAC": (42, 686, 8.0),
        "NG+": (40, 600, 6.7),
    }
    iterations = {256: (40, 200e3, 1e3), 2048: (41, 25.6e3, 100), 4096: (41, 12.8e3, 100)}
    rows: list[dict[str, object]] = []
    for name, (epochs, seconds, total) in hours.items():
        computed = epochs * seconds / 3600
        rows.append(printed("hours", name, computed, total, 0.1))
    for batch, (epochs, total, digit) in iterations.items():
        computed = epochs * NUM_IMAGES / batch
        rows.append(printed("iterations", str(batch), computed, total, digit))
    return [{**row, "seed": seed} for seed, row in enumerate(rows)]


def printed(case: str, name: str, computed: float, value: float, digit: float) -> dict[str, object]:
    """A row of `tables`; digit: the worth of the last printed digit."""
    off = abs(computed - value) / (digit / 2)
    return {"case": case, "name": name, "computed": computed, "printed": value, "value": off}


EXACT = {
    "ngplus_step_bound": step_bound,
    "ngplus_potential": potential,
    "ngplus_example": example,
    "ngplus_tables": tables,
}
