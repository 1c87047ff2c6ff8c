"""NG+ on steps that fail, vanish, overflow or are not finite, and in low precision."""

import copy

import pytest
import torch

from optimizers import NGPlus
from tests.optimizers.ng_plus_models import Dense, Images, backward, train
from tests.optimizers.ng_plus_runs import assert_same, make


def test_a_step_that_is_not_finite_changes_nothing():
    model = Images()
    optimizer = make(model, update_freq=2)
    train(model, optimizer, range(4))
    state = copy.deepcopy(optimizer.state_dict()["state"])
    before = [p.detach().clone() for p in model.parameters()]
    optimizer.zero_grad()
    backward(model, optimizer, model.batch(4))
    model.net[0].weight.grad[0, 0, 0, 0] = torch.nan
    optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    after = optimizer.state_dict()["state"]
    assert after["shared"] == {"steps": 4, "fallbacks": 1}
    del after["shared"], state["shared"]
    flat = [torch.utils._pytree.tree_leaves(s) for s in (state, after)]
    for old, new in zip(*flat, strict=True):
        assert torch.equal(old, new) if isinstance(old, torch.Tensor) else old == new
    other = Images()
    train(other, make(other, update_freq=2), range(5))
    train(model, optimizer, range(4, 5))
    assert_same(model, other, rtol=0, atol=0)


def test_a_failed_step_leaves_nothing_behind():
    """Samples of a pass whose step was refused do not enter the next step."""
    model, other = Dense(), Dense()
    optimizer = make(model)
    backward(model, optimizer, model.batch(7))
    model.net[0].weight.grad = model.net[0].weight.grad.to_sparse()
    with pytest.raises(ValueError, match=r"^gradient of parameter 0 must be dense, got layout"):
        optimizer.step()
    train(model, optimizer, range(1))
    train(other, make(other), range(1))
    assert_same(model, other, rtol=0, atol=0)


def test_statistics_that_overflow_are_not_committed():
    """Gradients of 1e20 have no float32 square, but are finite themselves."""
    model = Dense().float()
    optimizer = NGPlus(model.parameters(), model=model)
    before = [p.detach().clone() for p in model.parameters()]
    weights = torch.full((4,), 0.25)
    with optimizer.record(4, 0, weights):
        (1e20 * weights * model.losses(model.batch(0).float())).sum().backward()
    optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    assert optimizer.state["shared"] == {"steps": 0, "fallbacks": 1}
    assert optimizer.spectra() == []


@pytest.mark.parametrize("scale", [0.0, 1e-20])
def test_vanishing_gradients(scale):
    model = Dense().float()
    optimizer = NGPlus(model.parameters(), model=model, lr=0.16, momentum=0.0)
    before = [p.detach().clone() for p in model.parameters()]
    weights = torch.full((4,), 0.25)
    with optimizer.record(4, 0, weights):
        (scale * weights * model.losses(model.batch(0).float())).sum().backward()
    optimizer.step()
    # L is 0 and the damping 0.16: plain descent.
    for p, q in zip(model.parameters(), before, strict=True):
        assert torch.allclose(p, q - p.grad)
    assert optimizer.state["shared"]["fallbacks"] == 0


def test_curvature_that_single_precision_cannot_invert():
    """L of rank 4 with eigenvalues near 1e12 against a damping of 0.01: done again, and counted."""
    model = Dense().float()
    optimizer = NGPlus(model.parameters(), model, lr=1.0, damping=0.01, momentum=0.0)
    before = [p.detach().clone() for p in model.parameters()]
    weights = torch.full((4,), 0.25)
    with optimizer.record(4, 0, weights):
        (1e6 * weights * model.losses(model.batch(0).float())).sum().backward()
    optimizer.step()
    steps = [p.detach() - q for p, q in zip(model.parameters(), before, strict=True)]
    assert all(step.isfinite().all() for step in steps)
    assert optimizer.state["shared"]["fallbacks"] > 0
    slope = sum((step * p.grad).sum() for step, p in zip(steps, model.parameters(), strict=True))
    assert slope < 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision(dtype):
    model = Dense().to(dtype)
    kept = {"statistics_dtype": "bfloat16", "apply_dtype": "bfloat16"}
    optimizer = NGPlus(model.parameters(), model, lr=0.1, **kept)
    for step in range(3):
        optimizer.zero_grad()
        x = model.batch(step).to(dtype)
        with optimizer.record(4, 0, torch.full((4,), 0.25)):
            model.losses(x).mean().backward()
        optimizer.step()
    states = [s for key, s in optimizer.state.items() if isinstance(key, str) and key != "shared"]
    assert {s[name].dtype for s in states for name in ("factor", "inverse")} == {torch.bfloat16}
    assert {p.dtype for p in model.parameters()} == {dtype}
    assert all(s.fallbacks == 0 for s in optimizer.spectra())
