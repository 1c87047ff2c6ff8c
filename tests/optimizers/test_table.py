"""Every configuration in conf/optimizer keeps the contract of a torch optimizer."""

import io
import math

import pytest
import torch

from optimizers import ReportsSpectra, state_bytes
from tests.optimizers.table import (
    LR,
    NAMES,
    PROBLEMS,
    Network,
    Shapes,
    cases,
    closure_of,
    config_of,
    descend,
    make,
    make_small,
    names,
    quadratic,
    take_step,
    unmoved,
)

each_name = pytest.mark.parametrize("name", names(NAMES))
each_case = pytest.mark.parametrize(("name", "dtype"), cases(NAMES))
moving_at_once = pytest.mark.parametrize("name", names(NAMES, "first_step"))
each_model = pytest.mark.parametrize("model_of", [Shapes, Network])


def test_the_table_finds_the_configurations():
    assert {"sgd", "adam", "ggt", "ggt_printed", "ggt_authors", "full_adagrad"} <= set(NAMES)


@pytest.mark.parametrize("problem", PROBLEMS)
@each_case
def test_decreases(name, dtype, problem):
    model = PROBLEMS[problem](dtype)
    optimizer = make(name, model, dtype, lr=LR)
    with torch.no_grad():
        before = float(model())
    assert descend(model, optimizer, 100 if model.num_samples == 1 else 30) < before
    assert {p.dtype for p in model.parameters()} == {dtype}


@each_model
@pytest.mark.parametrize(("name", "dtype"), cases(NAMES, "state_dict"))
def test_state_dict_round_trip_goes_on_bit_identically(name, dtype, model_of):
    model, twin = model_of(dtype), model_of(dtype)
    optimizer = make_small(name, model, dtype, lr=LR)
    descend(model, optimizer, 7)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    twin.load_state_dict(saved["model"])
    restored = make_small(name, twin, dtype)
    restored.load_state_dict(saved["optimizer"])
    descend(model, optimizer, 5)
    descend(twin, restored, 5)
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert state_bytes(optimizer) == state_bytes(restored)
    if isinstance(optimizer, ReportsSpectra):
        pairs = zip(optimizer.spectra(), restored.spectra(), strict=True)
        assert all(torch.equal(a.eigenvalues, b.eigenvalues) for a, b in pairs)


@each_model
@each_case
def test_gradients_are_left_alone(name, dtype, model_of):
    model = model_of(dtype)
    optimizer = make_small(name, model, dtype, lr=LR, **decay(name))
    for _ in range(3):
        expected = torch.autograd.grad(model(), list(model.parameters()))
        take_step(optimizer, model, model.num_samples)
        for parameter, gradient in zip(model.parameters(), expected, strict=True):
            assert torch.equal(parameter.grad, gradient)


@each_case
def test_parameters_without_a_gradient_stay(name, dtype):
    model = quadratic(dtype)
    optimizer = make(name, model, dtype, lr=LR, **decay(name))
    start = [parameter.detach().clone() for parameter in model.parameters()]
    take_step(optimizer, lambda: torch.ones((), dtype=dtype))
    assert torch.equal(model.first, start[0])
    for _ in range(3):
        take_step(optimizer, lambda: model.rest.square().sum())
    assert torch.equal(model.first, start[0])
    assert not torch.equal(model.rest, start[1])


@each_name
def test_modules_that_took_no_part_stay(name):
    model = Network(torch.float64)
    optimizer = make_small(name, model, torch.float64, lr=LR, **decay(name))
    start = model.conv.weight.detach().clone()
    with unmoved(model.norm), unmoved(model.linear):
        for _ in range(3):
            take_step(optimizer, lambda: model.conv(model.inputs).square().mean(), 6)
    assert not torch.equal(model.conv.weight, start)


@moving_at_once
def test_closures_are_called_once_with_gradients_on(name):
    model = quadratic(torch.float64)
    optimizer = make(name, model, torch.float64, lr=LR)
    inner, calls = closure_of(optimizer, model, 1), []

    def closure(backward=True):
        if backward:
            calls.append(torch.is_grad_enabled())
        return inner(backward)

    with torch.no_grad():
        expected = float(model())
    assert float(optimizer.step(closure).detach()) == expected
    assert calls == [True]
    with torch.no_grad():
        assert float(model()) < expected


@moving_at_once
def test_a_scheduler_drives_the_step(name):
    model = quadratic(torch.float64)
    optimizer = make(name, model, torch.float64, lr=LR, **decay(name, 0.0))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 1.0 if t < 2 else 0.0)
    for moves in (True, True, False):
        before = [parameter.detach().clone() for parameter in model.parameters()]
        descend(model, optimizer, 1)
        scheduler.step()
        same = all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
        assert same is not moves


@moving_at_once
def test_groups_have_options_of_their_own(name):
    model = quadratic(torch.float64)
    rules = [{"names": ["rest"], "lr": 0.0}, *config_of(name).groups]
    optimizer = make(name, model, torch.float64, lr=LR, groups=rules, **decay(name))
    first, rest = model.first.detach().clone(), model.rest.detach().clone()
    descend(model, optimizer, 3)
    assert not torch.equal(model.first, first)
    assert torch.equal(model.rest, rest)


@moving_at_once
def test_a_group_may_be_added_unless_its_class_says_otherwise(name):
    model = quadratic(torch.float64)
    optimizer = make(name, model, torch.float64, lr=LR)
    descend(model, optimizer, 3)
    extra = torch.nn.Parameter(torch.ones(2, 3, dtype=torch.float64))
    start = extra.detach().clone()
    try:
        optimizer.add_param_group({"params": [extra]})
    except ValueError as error:
        assert str(error) == "parameter groups must be added before the first step"
        return
    for _ in range(2):
        take_step(optimizer, lambda: model() + extra.square().sum())
    assert extra.isfinite().all() and not torch.equal(extra, start)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", names(NAMES, "half"))
def test_half_precision_parameters(name, dtype):
    for model in (Shapes(dtype), Network(dtype)):
        optimizer = make_small(name, model, dtype, lr=0.1)
        start = [parameter.detach().clone() for parameter in model.parameters()]
        descend(model, optimizer, 5)
        for parameter, before in zip(model.parameters(), start, strict=True):
            assert parameter.dtype == dtype and parameter.isfinite().all()
            assert not torch.equal(parameter, before)


@each_name
@pytest.mark.parametrize("lr", [-1.0, math.nan])
def test_a_bad_lr_is_refused(name, lr):
    with pytest.raises(ValueError, match=f"^lr must be >= 0, got {lr}$"):
        make(name, quadratic(torch.float64), torch.float64, lr=lr)


@pytest.mark.parametrize("name", names([x for x in NAMES if "weight_decay" in config_of(x)]))
def test_a_bad_weight_decay_is_refused(name):
    with pytest.raises(ValueError, match="weight_decay"):
        make(name, quadratic(torch.float64), torch.float64, weight_decay=-1.0)


def decay(name, value=0.1):
    """Weight decay, for an optimizer that has it."""
    return {"weight_decay": value} if "weight_decay" in config_of(name) else {}
