"""The adapter: parameter groups from rules, and refusals in one line."""

import json

import pytest
import torch
from torch import nn

from optimizers import GGT, build, describe_groups

OPTIONS = {"lr": 0.1, "weight_decay": 0.5}


def small_model():
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    model[2].weight.requires_grad_(False)
    return model


def names(optimizer, model):
    return [group["names"] for group in describe_groups(optimizer, model)]


def test_without_rules_everything_trainable_is_one_group():
    model = small_model()
    optimizer = build(model, torch.optim.SGD, **OPTIONS)
    assert names(optimizer, model) == [["0.weight", "0.bias", "1.weight", "1.bias", "2.bias"]]


@pytest.mark.parametrize(
    ("rule", "taken"),
    [
        ({"names": ["bias"]}, ["0.bias", "1.bias", "2.bias"]),
        ({"names": "0.*"}, ["0.weight", "0.bias"]),
        ({"ndim": [1]}, ["0.bias", "1.weight", "1.bias", "2.bias"]),
        ({"modules": ["*norm*"]}, ["1.weight", "1.bias"]),
        ({"modules": ["0"]}, ["0.weight", "0.bias"]),
        ({"ndim": 1, "modules": ["linear"]}, ["0.bias", "2.bias"]),
    ],
)
def test_rules_take_what_fits_all_their_matchers(rule, taken):
    model = small_model()
    optimizer = build(model, torch.optim.SGD, [{**rule, "weight_decay": 0.0}], **OPTIONS)
    assert names(optimizer, model)[1] == taken
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5, 0.0]


def test_the_first_rule_wins_and_empty_rests_vanish():
    model = small_model()
    rules = [{"ndim": [1], "lr": 0.2}, {"names": ["weight", "bias"], "lr": 0.3}]
    optimizer = build(model, torch.optim.SGD, rules, **OPTIONS)
    assert [group["lr"] for group in optimizer.param_groups] == [0.2, 0.3]
    assert names(optimizer, model)[1] == ["0.weight"]


def test_descriptions_are_json():
    model = small_model()
    optimizer = build(model, GGT, [{"ndim": [1], "weight_decay": 0.0}], window=5)
    described = json.loads(json.dumps(describe_groups(optimizer, model)))
    assert [group["num_parameters"] for group in described] == [12, 4 + 4 + 4 + 2]
    assert described[1]["options"]["window"] == 5


@pytest.mark.parametrize(
    ("groups", "options", "message"),
    [
        ([], {"lr": -1.0}, "^lr must be >= 0, got -1.0$"),
        ([{"ndim": [1], "lr": -2.0}], {"lr": 0.1}, "^lr must be >= 0, got -2.0$"),
        ([{"names": ["conv"]}], {"lr": 0.1}, "must match a parameter not taken before it, got"),
        ([{"lr": 0.1}], {"lr": 0.1}, "must have one of names, ndim, modules, got"),
        ([{"ndim": [1], "weight_dcay": 0}], {"lr": 0.1}, "must be among .*got weight_dcay$"),
        ([{"ndim": [1], "weight_decay": -1}], {"cls": GGT}, "weight_decay must be >= 0, got -1"),
    ],
)
def test_refusals(groups, options, message):
    options = {"cls": torch.optim.SGD, **options}
    with pytest.raises(ValueError, match=message):
        build(small_model(), groups=groups, **options)


def test_a_model_without_trainable_parameters_is_refused():
    with pytest.raises(ValueError, match="require gradients, got none"):
        build(nn.Linear(2, 2).requires_grad_(False), torch.optim.SGD, lr=0.1)


def test_what_the_optimizer_raises_passes():
    with pytest.raises(TypeError, match="unexpected keyword"):
        build(nn.Linear(2, 2), torch.optim.SGD, lr=0.1, momentun=0.9)
