"""GEM's projection: by hand, against generic solvers, and by its conditions."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from tasks.gradient_projection import project, solve_dual

# Sums of a few products in float64.
CLOSE = {"rtol": 1e-12, "atol": 1e-12}


def vector(*values):
    return torch.tensor(values, dtype=torch.float64)


# Two constraints: x >= 0 and x + y >= 0.
TWO = torch.tensor([[1.0, 0.0], [1.0, 1.0]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("grad", "strength", "ridge", "expected"),
    [
        # Both disagree, and only the corner agrees with both: v = (1, 1).
        ((-2, -1), 0.0, 0.0, (0, 0)),
        # One disagrees: the nearest point of its line, which the other allows; v = (0, 1/2).
        ((1, -2), 0.0, 0.0, (1.5, -1.5)),
        # The other one; v = (1, 0).
        ((-1, 3), 0.0, 0.0, (0, 3)),
        # (1, -2) again: the derivatives (v1 + v2 + 1, v1 + 2 v2 - 1) are >= 0 at the least v.
        ((1, -2), 0.5, 0.0, (2, -1.5)),
        # (-1, 3) again: 2 v1 = 1 with the ridge, and v1 + 2 > 0.
        ((-1, 3), 0.0, 1.0, (-0.5, 3)),
    ],
)
def test_two_constraints_by_hand(grad, strength, ridge, expected):
    found = project(vector(*grad), TWO, strength, ridge)
    torch.testing.assert_close(found, vector(*expected), **CLOSE)


def test_a_gradient_that_agrees_is_left_alone():
    grad = vector(1, 2)
    assert project(grad, TWO, 0.5, 1e-3) is grad


def drawn(num_references, size, seed):
    """References of which about half disagree with the gradient."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal(size), rng.standard_normal((num_references, size))


@pytest.mark.parametrize(("num_references", "size"), [(1, 3), (5, 8), (19, 40), (6, 4)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_nearest_vector_of_a_generic_solver(num_references, size, seed):
    grad, references = drawn(num_references, size, seed)
    if not (references @ grad < 0).any():
        references[0] = -references[0]
    other = minimize(
        lambda x: 0.5 * np.sum((x - grad) ** 2),
        grad,
        jac=lambda x: x - grad,
        method="SLSQP",
        constraints={"type": "ineq", "fun": lambda x: references @ x, "jac": lambda x: references},
        options={"maxiter": 500, "ftol": 1e-12},
    )
    assert other.success, other
    found = project(torch.tensor(grad), torch.tensor(references), 0.0, 0.0).numpy()
    # What an iterative solver reaches; the distance itself is flat, so that it is closer.
    np.testing.assert_allclose(found, other.x, atol=1e-5)
    np.testing.assert_allclose(np.sum((found - grad) ** 2), 2 * other.fun, rtol=1e-7, atol=1e-10)
    assert (references @ found >= -1e-12).all()  # round-off of sums of 40 products


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_dual_with_strength_and_ridge_of_a_generic_solver(seed):
    grad, references = drawn(19, 40, seed)
    matrix, linear = references @ references.T + 1e-3 * np.eye(19), references @ grad
    other = minimize(
        lambda v: 0.5 * v @ matrix @ v + linear @ v,
        np.ones(19),
        jac=lambda v: matrix @ v + linear,
        method="L-BFGS-B",
        bounds=[(0.5, None)] * 19,
        options={"maxiter": 5000, "maxfun": 50000, "ftol": 1e-16, "gtol": 1e-9},
    )
    found = solve_dual(matrix, linear, 0.5)
    # The conditions of a minimum: slopes >= 0, and 0 where the bound is not met.
    slopes = matrix @ found + linear
    assert (found >= 0.5).all() and (slopes >= -1e-10).all()
    np.testing.assert_allclose(slopes * (found - 0.5), 0, atol=1e-10)
    # What an iterative solver with a condition of about 100 reaches.
    np.testing.assert_allclose(found, other.x, rtol=1e-5, atol=1e-5)


def test_references_given_twice_change_nothing():
    grad, references = (torch.tensor(x) for x in drawn(5, 8, 3))
    once = project(grad, references, 0.0, 0.0)
    assert not torch.equal(once, grad)
    twice = project(grad, torch.cat([references, references]), 0.0, 0.0)
    # Directions that do not count are told from others by round-off.
    torch.testing.assert_close(twice, once, rtol=1e-9, atol=1e-9)


def test_no_number_is_passed_on_and_the_dtype_kept():
    grad, references = vector(1, -2).float(), TWO.float()
    assert project(grad, references, 0.5, 1e-3).dtype == torch.float32
    for bad in (torch.nan, torch.inf):
        references = TWO.clone()
        references[0, 0] = bad
        assert project(vector(-1, -2), references, 0.5, 1e-3).isnan().all()
