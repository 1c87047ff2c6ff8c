"""Inverses of damped matrices, by Cholesky, Woodbury's formula and sketches; projections."""

import math

import pytest
import torch

from optimizers.linalg.inverse import damped_inverse
from optimizers.linalg.projection import project_to_ball
from optimizers.linalg.sketch import (
    draw_rows,
    sketch,
    sketch_scale,
    sketched_core,
    sketched_product,
)
from optimizers.linalg.woodbury import woodbury_core, woodbury_product

F64 = torch.float64


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def semidefinite(*batch, n=7, rank=7):
    X = normal(*batch, n, rank)
    return X @ X.mT


def dense(L, damping, G):
    return torch.linalg.solve(L + damping * torch.eye(L.shape[-1], dtype=L.dtype), G)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
@pytest.mark.parametrize("rank", [0, 1, 7])
def test_damped_inverse(batch, rank):
    A = semidefinite(*batch, rank=rank)
    kept = A.clone()
    found = damped_inverse(A, 0.1)
    assert torch.allclose(found.inverse, dense(A, 0.1, torch.eye(7, dtype=F64)), rtol=1e-9)
    assert found.failed.shape == batch and not found.failed.any() and found.num_retries == 0
    assert torch.equal(A, kept)


def test_what_cholesky_cannot_factor_is_done_again_in_float64():
    """Rank 2 with round-off of float32 of 1e-7 x 1e5 against a damping of 1e-6."""
    X = 100 * normal(3, 8, 2).float()
    A = X @ X.mT
    A[0] = 0
    found = damped_inverse(A, 1e-6)
    assert found.num_retries == 2 and not found.failed.any()
    assert found.inverse.dtype == torch.float32
    assert torch.allclose(found.inverse[0], 1e6 * torch.eye(8))
    for matrix, inverse in zip(A[1:].double(), found.inverse[1:].double(), strict=True):
        values = torch.linalg.eigvalsh(matrix)
        resolution = 8 * 2**-23 * values[-1]
        assert values[0] < 0 and values[5] < resolution
        wanted = values.clamp(min=resolution) + 1e-6
        # Six of them are the resolution; float32 rounds the inverse at the size of its largest.
        got = torch.linalg.eigvalsh(inverse).flip(0)
        assert torch.allclose(got[:6], 1 / wanted[:6], rtol=1e-5)


def test_what_has_no_inverse_is_said():
    A = semidefinite(3)
    A[1] = 0
    A[2, 0, 0] = math.nan
    found = damped_inverse(A, 0.0)
    assert found.failed.tolist() == [False, True, True]
    assert torch.allclose(found.inverse[0] @ A[0], torch.eye(7, dtype=F64), atol=1e-7)


@pytest.mark.parametrize("b", [1, 4, 20])
def test_eq_14(b):
    """With the 1 / damping that is missing in print, whose error is above 1 here."""
    U, G, damping = normal(2, 9, b), normal(2, 9, 5, seed=1), 0.3
    core = woodbury_core(U, damping).inverse
    expected = dense(U @ U.mT, damping, G)
    assert torch.allclose(woodbury_product(U, core, G, damping), expected, rtol=1e-10, atol=1e-12)
    printed = G / damping - U @ core @ U.mT @ G
    assert (printed - expected).abs().max() > 1


def test_eq_15():
    """The bracket's unknowns solve the damped least-squares problem."""
    U, G, damping = normal(9, 4), normal(9, 5, seed=1), 0.3
    A = torch.cat([U, math.sqrt(damping) * torch.eye(4, dtype=F64)])
    Y = torch.linalg.lstsq(A, torch.cat([G, torch.zeros(4, 5, dtype=F64)])).solution
    found = woodbury_product(U, woodbury_core(U, damping).inverse, G, damping)
    assert torch.allclose(found, (G - U @ Y) / damping, rtol=1e-10, atol=1e-12)


def test_eq_16():
    U, G, damping = normal(2, 9, 4), normal(2, 9, 5, seed=1), 0.3
    rows = torch.stack([draw_rows(9, 6, k) for k in range(2)])
    core = sketched_core(U, rows, damping).inverse
    found = sketched_product(U, core, G, rows, damping)
    for k in range(2):
        Omega = torch.zeros(6, 9, dtype=F64)
        Omega[torch.arange(6), rows[k]] = math.sqrt(9 / 6)
        assert torch.allclose(sketch(G, rows)[k], Omega @ G[k], rtol=1e-12)
        A = torch.cat([Omega @ U[k], math.sqrt(damping) * torch.eye(4, dtype=F64)])
        b = torch.cat([Omega @ G[k], torch.zeros(4, 5, dtype=F64)])
        Y = torch.linalg.lstsq(A, b).solution
        assert torch.allclose(found[k], (G[k] - U[k] @ Y) / damping, rtol=1e-9, atol=1e-11)


def test_eq_17_is_unbiased_and_noisy():
    """One sketch of q = 50 of 200 columns errs by more than 1, the mean of 400 by far less."""
    G = normal(40, 200)
    exact = G @ G.T

    def sketched(k):
        part = G[:, draw_rows(200, 50, k)] * sketch_scale(200, 50)
        return part @ part.T

    errors = [float((sketched(k) - exact).norm() / exact.norm()) for k in range(10)]
    mean = sum(sketched(k) for k in range(400)) / 400
    # The error of a mean of 400 is a twentieth of one sketch's.
    error = float((mean - exact).norm() / exact.norm())
    assert min(errors) > 0.5
    assert error < 1.5 * max(errors) / 20


def test_draws_follow_from_the_counters():
    assert torch.equal(draw_rows(100, 20, 1, 2, 3), draw_rows(100, 20, 1, 2, 3))
    others = [(1, 2, 4), (1, 3, 3), (2, 2, 3), (3, 2, 1), (1, 2)]
    for counters in others:
        assert not torch.equal(draw_rows(100, 20, 1, 2, 3), draw_rows(100, 20, *counters))
    counts = draw_rows(5, 50_000, 0).bincount()
    # Five standard deviations, sqrt(50000 x 0.2 x 0.8) = 89.
    assert (counts - 10_000).abs().max() < 450
    state = torch.get_rng_state()
    draw_rows(5, 5, 1)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_projection(scale):
    """Optimal: L (Y - X) is a positive multiple of X, which lies on the sphere."""
    L, Y = scale * semidefinite() + 1e-3 * torch.eye(7, dtype=F64), normal(7, 3, seed=1)
    X = project_to_ball(Y, L, 1.5)
    assert float(X.norm()) == pytest.approx(1.5, rel=1e-12)
    force = L @ (Y - X)
    mu = float((force * X).sum() / X.square().sum())
    assert mu > 0
    assert torch.allclose(force, mu * X, rtol=1e-8, atol=1e-10 * scale)


def test_projection_inside_and_with_the_identity():
    Y = normal(7, 3)
    assert torch.equal(project_to_ball(Y, semidefinite(), 100.0), Y)
    X = project_to_ball(Y, torch.eye(7, dtype=F64), 2.0)
    assert torch.allclose(X, 2 * Y / Y.norm(), rtol=1e-12)
