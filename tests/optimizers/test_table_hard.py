"""What every optimizer of ours does with hard input; torch's and peers' classes are exempt."""

import pytest
import torch
from torch import Tensor

from tests.optimizers.table import (
    EXEMPT,
    OURS,
    Network,
    Shapes,
    cases,
    config_of,
    descend,
    make_small,
    names,
    take_step,
    unmoved,
)

LR = 1e-2
ours = pytest.mark.parametrize("name", names(OURS))
our_cases = pytest.mark.parametrize(("name", "dtype"), cases(OURS))


# Space that a step fills before it reads it, and the counts.
NO_STATISTICS = {"fallbacks", "grad", "update"}


def tensors(value, path=()):
    """(path, tensor) of everything nested in a state that later steps depend on."""
    if isinstance(value, Tensor):
        if not NO_STATISTICS.intersection(path):
            yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from tensors(item, (*path, key))
    elif isinstance(value, list | tuple):
        for key, item in enumerate(value):
            yield from tensors(item, (*path, key))


def fallbacks(value) -> int:
    """Sum of all counts of fallbacks nested in a state."""
    if isinstance(value, dict):
        return sum(
            int(torch.as_tensor(item).sum()) if key == "fallbacks" else fallbacks(item)
            for key, item in value.items()
        )
    return sum(map(fallbacks, value)) if isinstance(value, list | tuple) else 0


def snapshot(optimizer):
    return {path: t.clone() for path, t in tensors(optimizer.state_dict()["state"])}


def with_gradient(model, gradient):
    """A loss whose gradient here is gradient(shape), and whose curvature is 1."""
    here = [p.detach().clone() for p in model.parameters()]
    given = [gradient(p.shape).to(p.dtype) for p in model.parameters()]

    def loss():
        terms = zip(model.parameters(), here, given, strict=True)
        return sum((g * (p - q)).sum() + 0.5 * (p - q).square().sum() for p, q, g in terms)

    return loss


def rank_one(shape):
    vectors = [torch.arange(1.0, n + 1) for n in shape]
    product = torch.ones(())
    for vector in vectors:
        product = product[..., None] * vector
    return product


def repeated_eigenvalues(shape):
    return torch.eye(*shape) if len(shape) == 2 else torch.ones(shape)


HARD = {
    "zero": torch.zeros,
    "rank one": rank_one,
    "repeated": repeated_eigenvalues,
    "tiny": lambda shape: 1e-20 * rank_one(shape),
    "huge": lambda shape: 1e20 * rank_one(shape),
}


@pytest.mark.parametrize("kind", HARD)
@our_cases
def test_survives(name, dtype, kind):
    model = Shapes(dtype)
    no_decay = {"weight_decay": 0.0} if "weight_decay" in config_of(name) else {}
    optimizer = make_small(name, model, dtype, lr=LR, **no_decay)
    start = [p.detach().clone() for p in model.parameters()]
    for _ in range(5):
        take_step(optimizer, with_gradient(model, HARD[kind]))
    moved = [not torch.equal(p, q) for p, q in zip(model.parameters(), start, strict=True)]
    if kind == "zero":
        assert not any(moved)
    elif kind != "tiny" and name not in EXEMPT.get(kind, {}):
        # Where a step is in proportion to the gradient, 1e-20 is lost in a sum.
        assert all(moved) or fallbacks(optimizer.state_dict()["state"]) > 0
    start = [p.detach().clone() for p in model.parameters()]
    for _ in range(3):
        take_step(optimizer, model)
    for p, q in zip(model.parameters(), start, strict=True):
        assert p.isfinite().all()
        if kind in ("zero", "tiny"):
            assert not torch.equal(p, q)
    for path, tensor in tensors(optimizer.state_dict()["state"]):
        assert not tensor.is_floating_point() or tensor.isfinite().all(), path


@pytest.mark.parametrize(
    ("num_before", "value"), [(0, float("nan")), (1, float("inf")), (4, float("nan"))]
)
@our_cases
def test_a_gradient_that_is_not_finite_leaves_no_trace(name, dtype, num_before, value):
    model, twin = Shapes(dtype), Shapes(dtype)
    optimizer = make_small(name, model, dtype, lr=LR)
    other = make_small(name, twin, dtype, lr=LR)

    def broken(shape):
        gradient = torch.ones(shape)
        if len(shape) == 2:
            gradient[1, 2] = value
        return gradient

    descend(model, optimizer, num_before)
    descend(twin, other, num_before)
    before, count = snapshot(optimizer), fallbacks(optimizer.state_dict()["state"])
    with unmoved(model):
        take_step(optimizer, with_gradient(model, broken))
    after = snapshot(optimizer)
    for path, tensor in before.items():
        assert torch.equal(after[path], tensor), path
    assert fallbacks(optimizer.state_dict()["state"]) == count + 1
    descend(model, optimizer, 5)
    descend(twin, other, 5)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("num_before", [0, 1, 4])
@ours
def test_a_batch_that_is_not_finite_leaves_no_trace(name, num_before):
    model, twin = Network(torch.float64), Network(torch.float64)
    optimizer = make_small(name, model, torch.float64, lr=LR)
    other = make_small(name, twin, torch.float64, lr=LR)
    descend(model, optimizer, num_before)
    descend(twin, other, num_before)
    inputs, model.inputs = model.inputs, model.inputs.clone()
    model.inputs[2, 0, 1, 1] = float("nan")
    with unmoved(model):
        take_step(optimizer, model, model.num_samples)
    model.inputs = inputs
    assert fallbacks(optimizer.state_dict()["state"]) == 1
    descend(model, optimizer, 5)
    descend(twin, other, 5)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(p, q)


@ours
def test_sparse_gradients_are_refused(name):
    model = Shapes(torch.float64)
    optimizer = make_small(name, model, torch.float64, lr=LR)

    def closure(backward=True):
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        matrix = model.tensors[3]
        matrix.grad = matrix.grad.to_sparse()
        return model()

    with unmoved(model), pytest.raises(ValueError, match=r"^gradient of tensors\.3 must be dense"):
        if getattr(optimizer, "needs_closure", False):
            optimizer.step(closure)
        closure()
        optimizer.step()


@ours
def test_complex_parameters_are_refused(name):
    model = torch.nn.ParameterList([torch.ones(3, 2, dtype=torch.complex64)])
    with pytest.raises(ValueError, match=r"^dtype of 0 must be real, got torch"):
        take_step(
            make_small(name, model, torch.float32, lr=LR), lambda: model[0].abs().square().sum()
        )
