"""What Shampoo's and KrADagrad*'s factors dominate (KrADagrad paper, eq. 4-6 and section 3.3)."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from optimizers import Shampoo
from optimizers.linalg.geometric_mean import geometric_mean
from optimizers.linalg.krad import T_RULES, krad_
from scripts.measurements import kit
from scripts.measurements.kradagrad_theory import NUM_ITERATIONS, vec

FLOAT64 = dict.fromkeys(("statistics_dtype", "root_dtype", "apply_dtype"), "float64")
DAMPING = 0.1  # epsilon of Shampoo's statistics here


def _eye(n: int) -> Tensor:
    return torch.eye(n, dtype=torch.float64)


def _shampoo(grads: list[Tensor], damping: float) -> list[tuple[Tensor, Tensor]]:
    """Statistics (B, C) of eq. 2 after each gradient."""
    b, c = damping * _eye(grads[0].shape[0]), damping * _eye(grads[0].shape[1])
    found = []
    for g in grads:
        b, c = b + g @ g.mT, c + g.mT @ g
        found.append((b, c))
    return found


def _dominating(b: Tensor, c: Tensor) -> Tensor:
    """R^-2 (x) L^-2 with L = B^-1/4 and R = C^-1/4: eq. 3 into eq. 4."""
    return torch.kron(kit.matrix_power(c, 0.5), kit.matrix_power(b, 0.5))


def shampoo_dominates() -> list[dict]:
    """Eq. 4: least eigenvalue of R^-2 (x) L^-2 - eps I - sum gg' (printed) or ... gg'/rank.

    case "identity": G = I of 4 x 4 and eps 0; "gaussian": four gradients of 4 x 6.
    """
    rows = []
    for seed, generator in kit.cases(100):
        given = {
            "identity": ([_eye(4)], 0.0),
            "gaussian": ([kit.gaussian(4, 6, generator=generator) for _ in range(4)], DAMPING),
        }
        for case, (grads, damping) in given.items():
            if case == "identity" and seed > 0:
                continue  # nothing random in it
            # Rank 4 throughout. Roots by eigh of multiples of I are exact.
            dominating = _dominating(*_shampoo(grads, damping)[-1])
            outer = sum(torch.outer(vec(g), vec(g)) for g in grads)
            floor = damping * _eye(outer.shape[0])
            for reading, rank in (("printed", 1), ("with 1/rank", 4)):
                least = kit.least_eigenvalue(dominating - floor - outer / rank)
                rows.append({"case": case, "reading": reading, "seed": seed, "value": least})
    return rows


def shampoo_grows() -> list[dict]:
    """Eq. 5: least eigenvalue over 10 steps of the growth of R^-2 (x) L^-2, relative to itself."""
    rows = []
    for seed, generator in kit.cases(100):
        grads = [kit.gaussian(3, 4, generator=generator) for _ in range(10)]
        products = [_dominating(b, c) for b, c in _shampoo(grads, DAMPING)]
        growth = [
            kit.least_eigenvalue(after - before) / float(after.norm())
            for before, after in itertools.pairwise(products)
        ]
        rows.append({"case": "gaussian", "seed": seed, "value": min(growth)})
    return rows


def trace_growth() -> list[dict]:
    """Eq. 6: slope of log tr(L_k^-1) and of log tr(L_k) on log k, k from 100 to 10,000.

    Gradients of spectral norm 1. reading "printed": tr(L_k) itself, which falls; "corrected":
    tr(L_k^-1) = tr(B_k^1/4), whose growth the regret bound needs.
    """
    rows, marks = [], [100, 200, 500, 1000, 2000, 5000, 10000]
    for case in ("gaussian", "one direction"):
        for seed, generator in kit.cases(10):
            grads = kit.gaussian(10000 if case == "gaussian" else 1, 5, 7, generator=generator)
            grads = grads / torch.linalg.matrix_norm(grads, 2)[:, None, None]
            grams = (grads @ grads.mT).expand(10000, 5, 5).cumsum(0)
            statistics = grams[[k - 1 for k in marks]] + 1e-4 * _eye(5)
            eigenvalues = torch.linalg.eigvalsh(statistics)
            for reading, exponent in (("corrected", 0.25), ("printed", -0.25)):
                traces = (eigenvalues**exponent).sum(-1).tolist()
                slope = kit.log_slope(marks, traces)
                rows.append({"case": case, "reading": reading, "seed": seed, "value": slope})
    return rows


def geometric_means() -> list[dict]:
    """Section 3.3: both printed forms of M_g(A, B), and the kernel, on 5 x 5 matrices.

    case "forms": relative difference of the two; "kernel": of the kernel and the first;
    "symmetry": of the first and its transpose; "positive": least over largest eigenvalue.
    """
    rows = []
    for seed, generator in kit.cases(100):
        a, b = (kit.random_spd(5, 1e2, generator) for _ in range(2))
        half, inverse = kit.matrix_power(a, 0.5), kit.matrix_power(a, -0.5)
        middle = kit.matrix_power(inverse @ b @ inverse, 0.5)
        first = half @ middle @ half
        values, vectors = torch.linalg.eig(torch.linalg.solve(a, b))
        root = (vectors * values.sqrt()) @ torch.linalg.inv(vectors)
        found = {
            "forms": kit.relative_error(a @ root.real, first),
            "kernel": kit.relative_error(geometric_mean(a, b).power, first),
            "symmetry": kit.relative_error(first.mT, first),
            "positive": kit.least_eigenvalue(first) / kit.largest_eigenvalue(first),
        }
        rows += [{"case": case, "seed": seed, "value": value} for case, value in found.items()]
    return rows


def combination() -> list[dict]:
    """Section 3.3: least eigenvalue of the combined estimate less the sum S of gg', 200 steps.

    L and R are inverse factors, each with its own Frobenius t from I, of 4 x 6 Gaussian gradients.
    reading "printed": R (x) L - S; "corrected": R^-1/2 (x) L^-1/2 - S / (n max t), where t is
    the root of t_L t_R.
    """
    rows, m, n = [], 4, 6
    for seed, generator in kit.cases(20):
        left, right = _eye(m)[None], _eye(n)[None]
        outer, largest = torch.zeros(m * n, m * n, dtype=torch.float64), 0.0
        for _ in range(200):
            g = kit.gaussian(m, n, generator=generator)
            t_left = krad_(left, g[None], "frobenius", 1)
            t_right = krad_(right, g.mT[None], "frobenius", 1)
            outer += torch.outer(vec(g), vec(g))
            largest = max(largest, math.sqrt(float(t_left) * float(t_right)))
        roots = [kit.matrix_power(x[0], -0.5) for x in (right, left)]
        found = {
            "printed": torch.kron(right[0], left[0]) - outer,
            "corrected": torch.kron(*roots) - outer / (n * largest),
        }
        for reading, matrix in found.items():
            value = kit.least_eigenvalue(matrix)
            rows.append({"case": "gaussian", "reading": reading, "seed": seed, "value": value})
    return rows


def shampoo_combines() -> list[dict]:
    """Section 3.3.1: Shampoo's parameters against steps by B_c = M_g(B_1, I) and C_c = M_g(I, C_2).

    Relative difference after five steps of lr 1 from zero, eps .5.
    """
    rows, damping = [], 0.5
    for seed, generator in kit.cases(100):
        grads = [kit.gaussian(3, 4, generator=generator) for _ in range(5)]
        expected = torch.zeros(3, 4, dtype=torch.float64)
        for g, (b, c) in zip(grads, _shampoo(grads, damping), strict=True):
            b_c, c_c = geometric_mean(b, _eye(3)).power, geometric_mean(_eye(4), c).power
            expected = expected - kit.matrix_power(b_c, -0.5) @ g @ kit.matrix_power(c_c, -0.5)
        visited = kit.steps(
            lambda parameters: Shampoo(
                parameters, lr=1.0, momentum=0.0, damping=damping, update_freq=1, **FLOAT64,
                merge_dims=False,
            ),
            [torch.zeros(3, 4, dtype=torch.float64)],
            [[g] for g in grads],
        )  # fmt: skip
        error = kit.relative_error(visited[-1][0], expected)
        rows.append({"case": "3x4", "seed": seed, "value": error})
    return rows


def sandwich() -> list[dict]:
    """Section 3.3.2: I + sum A/t <= L^-1 <= I + sum A over 200 steps, for every rule of t.

    case "lower", "upper": least eigenvalue of L^-1 - lower and upper - L^-1 at the end, relative
    to the upper sum; "share": tr(L^-1) over that of the upper sum, 1 for an exact inverse.
    """
    rows, m = [], 8
    for rule in T_RULES:
        for seed, generator in kit.cases(10):
            factor, lower, upper = _eye(m)[None], _eye(m), _eye(m)
            for _ in range(200):
                g = 0.3 * kit.gaussian(m, m, generator=generator)
                t = float(krad_(factor, g[None], rule, NUM_ITERATIONS // 10))
                lower, upper = lower + g @ g.mT / t, upper + g @ g.mT
            inverse = torch.linalg.inv(factor[0])
            scale = kit.largest_eigenvalue(upper)
            found = {
                "lower": kit.least_eigenvalue(inverse - lower) / scale,
                "upper": kit.least_eigenvalue(upper - inverse) / scale,
                "share": float(inverse.trace() / upper.trace()),
            }
            rows += [{"case": c, "rule": rule, "seed": seed, "value": v} for c, v in found.items()]
    return rows


EXACT = {
    "kradagrad_eq_4": shampoo_dominates,
    "kradagrad_eq_5": shampoo_grows,
    "kradagrad_eq_6": trace_growth,
    "kradagrad_geometric_mean": geometric_means,
    "kradagrad_combination": combination,
    "kradagrad_shampoo_combines": shampoo_combines,
    "kradagrad_sandwich": sandwich,
}
