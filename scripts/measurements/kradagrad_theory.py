"""What the KrADagrad paper proves in sections 2.4 to 3.3, on its optimizers' kernels, float64."""

from __future__ import annotations

import torch
from torch import Tensor

from optimizers.linalg.krad import T_RULES, krad_, woodbury_
from optimizers.linalg.kron import multiply_modes
from scripts.measurements import kit

SHAPES = ((3, 5), (5, 3), (4, 4), (6, 1))
NUM_ITERATIONS = 200  # of the spectral norm: converged to round-off on matrices of this size
NORMS = ("spectral", "frobenius")


def vec(matrix: Tensor) -> Tensor:
    """Columns one below the other, as the paper stacks them."""
    return matrix.mT.reshape(-1)


def kronecker() -> list[dict]:
    """Section 2.4: (R (x) L) vec G against vec(L G R) by the optimizers' products; symmetric R."""
    rows = []
    for seed, generator in kit.cases(100):
        m, n = SHAPES[seed % len(SHAPES)]
        g = kit.gaussian(m, n, generator=generator)
        left = kit.symmetric(kit.gaussian(m, m, generator=generator))
        right = kit.symmetric(kit.gaussian(n, n, generator=generator))
        product = multiply_modes(g[None], [left[None], right[None]])[0]
        error = kit.relative_error(vec(product), torch.kron(right, left) @ vec(g))
        rows.append({"case": f"{m}x{n}", "seed": seed, "value": error})
    return rows


def lemma_3_1() -> list[dict]:
    """Lemma 3.1: least eigenvalue of C (x) B - c U U' relative to U U', with r columns.

    case "1/n": the printed c; "1/min(m,n)": the best one that holds for every U. "tight": one U of
    orthonormal rows and C = I, where c 3 % above 1/min(m,n) fails.
    """
    rows = []
    for seed, generator in kit.cases(100):
        m, n = SHAPES[seed % len(SHAPES)]
        num = 1 + seed % 4
        c = kit.random_spd(n, 1e3, generator)
        columns = [kit.gaussian(m, n, generator=generator) for _ in range(num)]
        b = sum(u @ torch.linalg.inv(c) @ u.mT for u in columns)
        outer = sum(torch.outer(vec(u), vec(u)) for u in columns)
        for case, constant in (("1/n", 1 / n), ("1/min(m,n)", 1 / min(m, n))):
            least = kit.least_eigenvalue(torch.kron(c, b) - constant * outer)
            value = least / float(outer.norm())
            rows.append({"case": case, "seed": seed, "value": value, "columns": num})
    u = torch.eye(3, 5, dtype=torch.float64)
    outer = torch.outer(vec(u), vec(u))
    product = torch.kron(torch.eye(5, dtype=torch.float64), u @ u.mT)
    least = kit.least_eigenvalue(product - 1.03 / 3 * outer) / float(outer.norm())
    return [*rows, {"case": "tight", "seed": 0, "value": least, "columns": 1}]


def woodbury() -> list[dict]:
    """Eq. 12 and 13: the update of L against (B + dB)^-1, both t of Proposition 3.2.

    case "bound": least eigenvalue of (B + dB)^-1 - L_k, relative; "inverse": error of eq. 12
    without an inverse against the dense inverse.
    """
    rows = []
    for seed, generator in kit.cases(100):
        m, n = SHAPES[seed % len(SHAPES)]
        factor = kit.random_spd(m, 1e2, generator)[None]
        g = 3 * kit.gaussian(m, n, generator=generator)
        columns = (g @ kit.matrix_power(kit.random_spd(n, 1e2, generator), 0.5))[None]
        lower, exact = factor.clone(), factor.clone()
        t = krad_(lower, columns, NORMS[seed % 2], NUM_ITERATIONS)
        woodbury_(exact, columns, NORMS[seed % 2], NUM_ITERATIONS)
        increment = columns[0] @ columns[0].mT / t
        dense = torch.linalg.inv(torch.linalg.inv(factor[0]) + increment)
        bound = kit.least_eigenvalue(dense - lower[0]) / float(dense.norm())
        rows.append({"case": "bound", "seed": seed, "value": bound})
        error = kit.relative_error(exact[0], dense)
        rows.append({"case": "inverse", "seed": seed, "value": error})
    return rows


def contraction() -> list[dict]:
    """Proposition 3.2: least eigenvalue of I - M, M = L^1/2 G R G' L^1/2 / t, for both norms."""
    rows = []
    for seed, generator in kit.cases(100):
        m, n = SHAPES[seed % len(SHAPES)]
        left, right = (kit.random_spd(k, 1e2, generator) for k in (m, n))
        g = 10.0 ** (seed % 5 - 1) * kit.gaussian(m, n, generator=generator)
        columns = g @ kit.matrix_power(right, 0.5)
        half = kit.matrix_power(left, 0.5) @ columns
        for rule in NORMS:
            t = T_RULES[rule](columns[None], (left @ columns)[None], NUM_ITERATIONS)
            value = 1 - kit.largest_eigenvalue(half @ half.mT) / float(t)
            rows.append({"case": rule, "seed": seed, "value": value})
    return rows


def monotone() -> list[dict]:
    """Corollary 3.3: 0 < L_k <= L_k-1 over 300 steps from L = I with 12 x 16 Gaussian gradients.

    Their entries have standard deviations of .03, .3 and 3 for the three seeds.

    case "positive": least over the steps of the least eigenvalue of L_k over its largest;
    "decrease": the same of L_k-1 - L_k. Round-off may take an eigenvalue of a matrix of dimension
    12 below zero by 12 eps of its norm: 1.4e-6 in float32, 2.7e-15 in float64.
    """
    rows = []
    for dtype in (torch.float32, torch.float64):
        for rule in NORMS:
            for seed, generator in kit.cases(3):
                factor = torch.eye(12, dtype=dtype)[None]
                positive, decrease = [], []
                for _ in range(300):
                    before = factor.clone()
                    g = kit.gaussian(1, 12, 16, generator=generator, dtype=dtype)
                    krad_(factor, 0.03 * 10**seed * g, rule, 10)
                    scale = kit.largest_eigenvalue(factor[0])
                    positive.append(kit.least_eigenvalue(factor[0]) / scale)
                    change = kit.least_eigenvalue((before - factor)[0].double())
                    decrease.append(change / kit.largest_eigenvalue(before[0]))
                labels = {"dtype": str(dtype).removeprefix("torch."), "rule": rule, "seed": seed}
                rows.append({"case": "positive", "value": min(positive), **labels})
                rows.append({"case": "decrease", "value": min(decrease), **labels})
    return rows


def trace_bound() -> list[dict]:
    """Lemma 3.4: least over 40 steps of (bound - tr B_k) / tr B_k for gradients of norm 1.

    L takes every update and R none, so that k' as printed, the number of updates of R, is 0, and
    the corrected one, of those of L, is k. reading: "printed" or "corrected".
    """
    rows, m, n = [], 6, 8
    for seed, generator in kit.cases(10):
        for case in ("orthonormal", "gaussian"):
            factor = torch.eye(m, dtype=torch.float64)[None]
            slack: dict[str, list[float]] = {"printed": [], "corrected": []}
            for step in range(1, 41):
                g = kit.gaussian(m, n, generator=generator)
                norm = torch.linalg.matrix_norm(g, 2)
                g = kit.matrix_power(g @ g.mT, -0.5) @ g if case == "orthonormal" else g / norm
                krad_(factor, g[None], "spectral", 20)
                trace = float(torch.linalg.inv(factor[0]).trace())
                # s = 1 + ||L_0|| ||R_0|| = 2, tr B_0 = m, ||R_0|| = 1.
                for reading, count in (("printed", 0), ("corrected", step)):
                    slack[reading].append((m + count * m * 2 - trace) / trace)
            for reading, values in slack.items():
                rows.append({"case": case, "reading": reading, "seed": seed, "value": min(values)})
    return rows


EXACT = {
    "kradagrad_kronecker": kronecker,
    "kradagrad_lemma_3_1": lemma_3_1,
    "kradagrad_woodbury": woodbury,
    "kradagrad_contraction": contraction,
    "kradagrad_monotone": monotone,
    "kradagrad_trace_bound": trace_bound,
}
