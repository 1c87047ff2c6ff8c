"""Shampoo on gradients that overflow, underflow or are singular, and on roots that fail."""

import copy
import math

import pytest
import torch

from optimizers import Shampoo
from tests.optimizers.shampoo_runs import (
    FLOAT64,
    give,
    parameters,
    run,
    same,
    tensors,
    values,
)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e20])
def test_a_gradient_that_cannot_be_squared_leaves_no_trace(bad):
    params, twins = parameters(), parameters()
    optimizer, clean = (Shampoo(p, update_freq=2, block_size=4) for p in (params, twins))
    run(optimizer, params, range(3))
    run(clean, twins, range(3))
    before, state = values(params), copy.deepcopy(optimizer.state_dict()["state"])
    give(params, 3)
    params[3].grad[2, 3] = bad
    optimizer.step()
    assert same(values(params), before)
    after = tensors(optimizer.state_dict()["state"])
    assert all(torch.equal(after[key], value) for key, value in tensors(state).items())
    assert optimizer.spectra()[0].fallbacks == 1
    run(optimizer, params, range(3, 6))
    run(clean, twins, range(3, 6))
    assert same(values(params), values(twins))


def test_a_sum_that_would_overflow_is_seen_before_it_is_made():
    # 1e19 squared is 1e38, and float32 holds 3.4e38: the fourth such gradient would break it.
    x = torch.zeros(1, requires_grad=True)
    optimizer = Shampoo([x])
    for _ in range(6):
        x.grad = torch.full((1,), 1e19)
        optimizer.step()
    assert optimizer.state["shared"]["fallbacks"] == 3
    assert all(value.isfinite().all() for value in tensors(optimizer.state).values())


@pytest.mark.parametrize("scale", [1e-20, 1e20])
def test_extreme_gradients_pass_in_float64(scale):
    params = parameters()
    start = values(params)
    run(Shampoo(params, lr=0.1, update_freq=2, graft="adagrad", **FLOAT64), params, range(5), scale)
    assert all(parameter.isfinite().all() for parameter in params)
    moved = [not torch.equal(a, b) for a, b in zip(values(params), start, strict=True)]
    # 1e-20 is far below graft_eps: no step to speak of.
    assert all(moved) if scale > 1 else True


def test_small_gradients_step_by_the_damping_alone():
    # All statistics underflow; P = damping^(-1/2k) each, the whole damping^(-1/2) = 100.
    params = parameters()
    start = values(params)
    optimizer = Shampoo(params, lr=1e20, momentum=0.0)
    give(params, 0, 1e-20)
    optimizer.step()
    for parameter, before in zip(params, start, strict=True):
        expected = before - 1e22 * parameter.grad
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("method", ["eigh", "coupled_newton"])
@pytest.mark.parametrize("kind", ["zero", "rank one", "repeated", "ill-conditioned"])
def test_hard_spectra_give_finite_steps(kind, method):
    x = torch.zeros(8, 8, requires_grad=True)
    grad = {
        "zero": torch.zeros(8, 8),
        "rank one": torch.ones(8, 8),
        "repeated": torch.eye(8),
        # G G^T has a condition number of 1e14
        "ill-conditioned": torch.diag(torch.logspace(0, -7, 8)),
    }[kind]
    optimizer = Shampoo([x], lr=1.0, momentum=0.0, update_freq=1, block_size=8, root_method=method)
    for _ in range(5):
        x.grad = grad.clone()
        optimizer.step()
    assert x.isfinite().all()
    # A step is G (5 G^2 + damping)^(-1/2) at most: singular values below 1 a step.
    assert torch.linalg.matrix_norm(x.detach(), 2) < 5 * (1 + 1e-3)
    assert (kind == "zero") == (float(x.detach().norm()) == 0)


def test_a_long_vector_has_blocks_and_a_rest():
    x = torch.zeros(5000, requires_grad=True)
    optimizer = Shampoo([x], lr=0.1, block_size=1024, **FLOAT64)
    x.grad = torch.ones(5000)
    optimizer.step()
    assert len(optimizer.state["0/1024"]["factor_0"]) == 4
    assert len(optimizer.state["0/904"]["factor_0"]) == 1
    # Each block g g^T of rank one: g / sqrt(|g|^2 + damping), |g|^2 the block's length.
    expected = torch.cat([torch.full((4096,), 1024**-0.5), torch.full((904,), 904**-0.5)])
    torch.testing.assert_close(x.detach(), -0.1 * expected, rtol=1e-6, atol=0)


def test_sparse_and_complex_are_refused_by_name():
    x = torch.ones(3, requires_grad=True)
    x.grad = torch.ones(3).to_sparse()
    with pytest.raises(ValueError, match=r"^gradient of parameter 0 must be dense, got layout"):
        Shampoo([x]).step()
    with pytest.raises(ValueError, match=r"^dtype of parameter 0 must be real, got"):
        Shampoo([torch.ones(3, dtype=torch.complex64, requires_grad=True)]).step()


def test_a_root_that_fails_leaves_the_old_one_and_is_counted(monkeypatch):
    params = parameters(shapes=[(4, 3)])
    optimizer = Shampoo(params, block_size=4, update_freq=1)
    run(optimizer, params, range(1))
    old = optimizer.state["0/4x3"]["root_0"].clone()

    def fail(matrix, *args, **kwargs):
        raise torch.linalg.LinAlgError

    monkeypatch.setattr(torch.linalg, "eigh", fail)
    run(optimizer, params, range(1, 2))
    assert torch.equal(optimizer.state["0/4x3"]["root_0"], old)
    assert optimizer.state["shared"]["fallbacks"] >= 2  # one of four and one of three
