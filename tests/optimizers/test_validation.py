"""Bad options: every keyword of every class of ours refuses what it cannot mean, by name."""

from __future__ import annotations

import inspect
import math
import typing

import pytest
import torch
from torch import nn

import optimizers
from optimizers import GGT, KFAC, AdamNormGrad, NGPlus, Shampoo, build
from optimizers.base import PreconditionedOptimizer, require_choice, require_number

BAD = ("x", math.nan, math.inf, -math.inf, -1, 10**400, True, [1], {}, None)

# No option: torch refuses what is no iterable of parameters itself, with a TypeError.
NO_OPTIONS = ("params",)
# The model is an argument of the whole optimizer, not of a group.
NOT_OF_A_GROUP = ("model",)


def classes():
    found = [getattr(optimizers, name) for name in optimizers.__all__]
    return [
        cls
        for cls in found
        if inspect.isclass(cls)
        and issubclass(cls, PreconditionedOptimizer)
        and not inspect.isabstract(cls)
    ]


def may_be(kinds, value):
    """Whether a keyword of these types may have a value of `BAD`."""
    if value is None:
        return type(None) in kinds
    if value is True:
        return bool in kinds
    # A count may be of any size; what is too large for a float is no number of the others.
    return type(value) is int and value > 0 and int in kinds


def keywords():
    """(class, keyword, its bad values), those of `BAD` that its annotation does not allow."""
    found = []
    for cls in classes():
        hints = typing.get_type_hints(cls.__init__)
        for name in inspect.signature(cls).parameters:
            if name not in NO_OPTIONS:
                kinds = typing.get_args(hints[name]) or (hints[name],)
                bad = [value for value in BAD if not may_be(kinds, value)]
                found.append(pytest.param(cls, name, bad, id=f"{cls.__name__}-{name}"))
    return found


def make(cls, group=None, **options):
    model = nn.Linear(3, 2)
    if cls.needs_model:
        options.setdefault("model", model)
    return cls([{"params": list(model.parameters()), **(group or {})}], **options)


def test_the_classes_are_found():
    assert {KFAC, GGT, AdamNormGrad, NGPlus, Shampoo} < set(classes())


@pytest.mark.parametrize("cls", classes(), ids=lambda cls: cls.__name__)
def test_defaults_are_fine(cls):
    make(cls)


@pytest.mark.parametrize(("cls", "name", "bad"), keywords())
def test_a_bad_value_is_refused_by_name(cls, name, bad):
    assert len(bad) >= 7
    for value in bad:
        with pytest.raises(ValueError, match=rf"^{name} must be .+, got "):
            make(cls, **{name: value})


@pytest.mark.parametrize(("cls", "name", "bad"), keywords())
def test_so_it_is_in_a_group(cls, name, bad):
    if name in NOT_OF_A_GROUP:
        return
    for value in bad:
        with pytest.raises(ValueError, match=rf"^{name} must be .+, got "):
            make(cls, group={name: value})
    optimizer = make(cls)
    with pytest.raises(ValueError, match=rf"^{name} must be .+, got "):
        optimizer.add_param_group({"params": [torch.ones(2, requires_grad=True)], name: bad[0]})


@pytest.mark.parametrize(
    "betas", [0.9, (0.9,), (0.9, 0.9, 0.9), (0.9, None), (0.9, True), (1.0, 0.9), "ab", {0.9, 0.8}]
)
def test_betas_are_two_numbers(betas):
    with pytest.raises(ValueError, match=r"^betas must be two numbers in \[0, 1\), got "):
        make(AdamNormGrad, betas=betas)
    make(AdamNormGrad, betas=[0.0, 0.99])


@pytest.mark.parametrize("name", ["block_size", "sketch_size", "curvature_samples", "radius"])
def test_the_sizes_of_ng_plus_may_be_none(name):
    make(NGPlus, **{name: None})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"floor": None}, r"floor must be >= 0, got None"),
        ({"floor": math.inf}, r"floor must be finite and >= 0, got inf"),
        ({"exponent": True}, r"exponent must be None or > 0, got True"),
        ({"exponent": math.inf}, r"exponent must be None or finite and > 0, got inf"),
        ({"graft_beta2": 1}, r"graft_beta2 must be in \(0, 1\), got 1"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
        ({"graft": ["sgd"]}, r"graft must be one of none, sgd, adagrad, adam, got \['sgd'\]"),
        ({"merge_dims": 1}, r"merge_dims must be true or false, got 1"),
        (
            {"exponent": 5e-324, "root_method": "coupled_newton"},
            r"exponent must be 1/p with an integer p for coupled_newton, got 5e-324",
        ),
    ],
)
def test_what_is_said(options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        make(Shampoo, **options)


@pytest.mark.parametrize("cls", classes(), ids=lambda cls: cls.__name__)
def test_lr_may_be_a_tensor_of_one_number(cls):
    make(cls, lr=torch.tensor(0.1))
    bad = (math.nan, math.inf, -0.1, [0.1, 0.2], True, 1j)
    for value in map(torch.tensor, bad):
        with pytest.raises(ValueError, match=r"^lr must be "):
            make(cls, lr=value)


@pytest.mark.parametrize("lr", ["x", None, math.nan, math.inf, True, [1], -1])
def test_build_refuses_a_bad_lr_of_any_class(lr):
    for options, rules in (({"lr": lr}, ()), ({"lr": 0.1}, [{"ndim": 1, "lr": lr}])):
        with pytest.raises(ValueError, match=r"^lr must be (finite and )?>= 0, got "):
            build(nn.Linear(3, 2), torch.optim.SGD, rules, **options)


@pytest.mark.parametrize(
    ("ends", "fine", "bad"),
    [
        ("[]", (0, 0.5, 1), (-1e-9, 1.1)),
        ("[)", (0, 0.5), (1, -1)),
        ("(]", (0.5, 1), (0, 2)),
        ("()", (0.5, 1e-300), (0, 1)),
    ],
)
def test_the_ends_of_an_interval(ends, fine, bad):
    for value in fine:
        require_number(value, "x", 0, 1, ends)
    for value in bad:
        with pytest.raises(
            ValueError, match=rf"^x must be in \{ends[0]}0, 1\{ends[1]}, got {value}$"
        ):
            require_number(value, "x", 0, 1, ends)


def test_a_choice_is_a_word():
    require_choice("a", "x", {"a": 1, "b": 2})
    for value in ("c", ["a"], {"a"}, None, torch.ones(2)):
        with pytest.raises(ValueError, match=r"^x must be one of a, b, got "):
            require_choice(value, "x", {"a": 1, "b": 2})


# ---------------------------------------------------------------- parameters and gradients


def gradients_of(cls, model, optimizer):
    """A step of any class, from gradients that are as `model` left them."""
    if cls.needs_closure:
        return optimizer.step(lambda backward=True: sum(p.sum() for p in model.parameters()))
    return optimizer.step()


@pytest.mark.parametrize("cls", classes(), ids=lambda cls: cls.__name__)
def test_a_sparse_gradient_is_refused_with_its_parameter(cls):
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 4))
    for named in (True, False):
        groups = [{"params": [model[0].weight]}, {"params": [model[1].bias, model[1].weight]}]
        extra = {"model": model} if cls.needs_model else {}
        optimizer = build(model, cls) if named else cls(groups, **extra)
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        model[1].weight.grad = model[1].weight.grad.to_sparse()
        name = r"1\.weight" if named else "parameter 2"
        message = rf"^gradient of {name} must be dense, got layout torch\.sparse_coo$"
        with pytest.raises(ValueError, match=message):
            gradients_of(cls, model, optimizer)


@pytest.mark.parametrize("cls", classes(), ids=lambda cls: cls.__name__)
def test_a_complex_parameter_is_refused_by_name(cls):
    model = nn.Module()
    model.real = nn.Parameter(torch.ones(3, 2))
    model.turn = nn.Parameter(torch.ones(3, 2, dtype=torch.complex64))
    with pytest.raises(ValueError, match=r"^dtype of turn must be real, got torch\.complex64$"):
        optimizer = build(model, cls)
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        if cls.needs_closure:
            optimizer.step(lambda backward=True: torch.tensor(1.0))
        optimizer.step()
