"""Every configuration in conf/optimizer keeps the contract of a torch optimizer."""

import io
import math

import pytest
import torch

from optimizers import ReportsSpectra, state_bytes
from tests.optimizers.table import FLOAT64_ONLY, LR, NAMES, PROBLEMS, descend, make, quadratic

DTYPES = [torch.float32, torch.float64]
CASES = [
    (name, dtype)
    for name in NAMES
    for dtype in DTYPES
    if dtype == torch.float64 or name not in FLOAT64_ONLY
]
each_name = pytest.mark.parametrize("name", NAMES)
each_case = pytest.mark.parametrize(("name", "dtype"), CASES)


def test_the_table_finds_the_configurations():
    assert {"sgd", "adam", "ggt", "ggt_printed", "ggt_authors", "full_adagrad"} <= set(NAMES)


@pytest.mark.parametrize("problem", PROBLEMS)
@each_case
def test_decreases(name, dtype, problem):
    model = PROBLEMS[problem](dtype)
    optimizer = make(name, model, dtype, lr=LR)
    before = float(model().detach())
    assert descend(model, optimizer, 100) < before
    assert {p.dtype for p in model.parameters()} == {dtype}


@each_case
def test_state_dict_round_trip_goes_on_bit_identically(name, dtype):
    model, twin = quadratic(dtype), quadratic(dtype)
    optimizer = make(name, model, dtype, lr=LR)
    descend(model, optimizer, 7)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    twin.load_state_dict(saved["model"])
    restored = make(name, twin, dtype)
    restored.load_state_dict(saved["optimizer"])
    descend(model, optimizer, 7)
    descend(twin, restored, 7)
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert state_bytes(optimizer) == state_bytes(restored)
    if isinstance(optimizer, ReportsSpectra):
        pairs = zip(optimizer.spectra(), restored.spectra(), strict=True)
        assert all(torch.equal(a.eigenvalues, b.eigenvalues) for a, b in pairs)


@each_case
def test_gradients_are_left_alone(name, dtype):
    model = quadratic(dtype)
    optimizer = make(name, model, dtype, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model().backward()
        before = [parameter.grad.clone() for parameter in model.parameters()]
        optimizer.step()
        after = [parameter.grad for parameter in model.parameters()]
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@each_case
def test_parameters_without_a_gradient_stay(name, dtype):
    model = quadratic(dtype)
    optimizer = make(name, model, dtype, lr=LR, weight_decay=0.1)
    start = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer.step()
    assert torch.equal(model.first, start[0])
    for _ in range(3):
        model.rest.grad = torch.ones_like(model.rest)
        optimizer.step()
    assert torch.equal(model.first, start[0])
    assert not torch.equal(model.rest, start[1])


@each_name
def test_closures_are_called_once_with_gradients_on(name):
    model = quadratic(torch.float64)
    optimizer = make(name, model, torch.float64, lr=LR)
    calls = []

    def closure():
        calls.append(torch.is_grad_enabled())
        optimizer.zero_grad()
        loss = model()
        loss.backward()
        return loss

    expected = float(model().detach())
    assert float(optimizer.step(closure).detach()) == expected
    assert calls == [True]
    assert float(model().detach()) < expected


@each_name
def test_a_scheduler_drives_the_step(name):
    model = quadratic(torch.float64)
    optimizer = make(name, model, torch.float64, lr=LR, weight_decay=0.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 1.0 if t < 2 else 0.0)
    for moves in (True, True, False):
        before = [parameter.detach().clone() for parameter in model.parameters()]
        descend(model, optimizer, 1)
        scheduler.step()
        same = all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
        assert same is not moves


@each_name
@pytest.mark.parametrize("lr", [-1.0, math.nan])
def test_a_bad_lr_is_refused(name, lr):
    with pytest.raises(ValueError, match=f"^lr must be >= 0, got {lr}$"):
        make(name, quadratic(torch.float64), torch.float64, lr=lr)


@each_name
def test_a_bad_weight_decay_is_refused(name):
    with pytest.raises(ValueError, match="weight_decay"):
        make(name, quadratic(torch.float64), torch.float64, weight_decay=-1.0)
