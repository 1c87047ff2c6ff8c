"""How accurate roots of ill-conditioned matrices are in 32 bits (KrADagrad paper, 1, 2.4, 4)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from optimizers.linalg.coupled_newton import power_by_coupled_newton
from optimizers.linalg.powers import power_by_eigh
from scripts.measurements import kit

SIZE = 100
NUM_CASES = 5
CONDITIONS = (1e6, 1e10)
# Times for scaling the cost of a root with its size.
SIZES, NUM_TURNS = (64, 128, 256, 512), 5


def _eigh(matrix: Tensor, exponent: float, condition: float) -> Tensor:
    # The least eigenvalue, which nobody knows in practice: the most favourable floor there is.
    floor = 1 / condition if exponent < 0 else 0.0
    return power_by_eigh(matrix, exponent, floor=floor).power


def _coupled_newton(matrix: Tensor, exponent: float, condition: float) -> Tensor:
    return power_by_coupled_newton(matrix, exponent, retry=False).power


METHODS: dict[str, Callable[[Tensor, float, float], Tensor]] = {
    "eigh": _eigh,
    "coupled Newton": _coupled_newton,
}


def roots() -> list[dict]:
    """Relative errors of A^p, p = -1/4, 1/4 and 1/2, for A of 100 x 100 rounded to a dtype.

    The reference is A^p of the eigenvalues and vectors that A was made of. inf: the method gave no
    finite power. Eigendecomposition of an inverse root is given the true least eigenvalue as its
    floor; the coupled Newton iteration takes its positive roots by way of the inverse one.
    """
    rows = []
    for condition in CONDITIONS:
        for seed, generator in kit.cases(NUM_CASES):
            exponents = torch.linspace(0, -1, SIZE, dtype=torch.float64)
            values = condition**exponents
            vectors = kit.orthogonal(SIZE, generator)
            matrix = kit.symmetric((vectors * values) @ vectors.mT)
            for exponent in (-0.25, 0.25, 0.5):
                exact = (vectors * values**exponent) @ vectors.mT
                for dtype in ("float32", "float64"):
                    given = matrix.to(getattr(torch, dtype))
                    for method, power in METHODS.items():
                        error = kit.relative_error(power(given, exponent, condition), exact)
                        labels = {"case": method, "dtype": dtype, "exponent": exponent}
                        row = {"condition": condition, "seed": seed, "value": error}
                        rows.append({**labels, **row})
    return rows


def root_times() -> list[dict]:
    """Seconds of a root of an n x n float32 matrix of condition 1e4, and their slope in n.

    case "inverse" (exponent -1/4, Shampoo), "fourth" (1/4, KrADagrad*) or "square" (1/2,
    KrADagrad), all by eigendecomposition, with seconds in `value`; "slope of ...": the slope of log
    seconds on log n, one a turn.
    """
    rows = []
    for case, exponent in (("inverse", -0.25), ("fourth", 0.25), ("square", 0.5)):
        named = {str(n): _root_of(n, exponent) for n in SIZES}
        turns: dict[int, list[tuple[int, float]]] = {}
        for row in kit.in_turns(named, NUM_TURNS):
            size = int(row["case"])
            turns.setdefault(row["seed"], []).append((size, row["value"]))
            rows.append({"case": case, "size": size, "seed": row["seed"], "value": row["value"]})
        for turn, pairs in turns.items():
            slope = kit.log_slope(*zip(*sorted(pairs), strict=True))
            rows.append({"case": f"slope of {case}", "size": None, "seed": turn, "value": slope})
    return rows


def _root_of(n: int, exponent: float) -> Callable[[], Tensor]:
    matrix = kit.random_spd(n, 1e4, torch.Generator().manual_seed(0)).float()
    return lambda: power_by_eigh(matrix, exponent).power


EXACT = {"kradagrad_roots": roots}
TIMED = {"kradagrad_root_times": root_times}
