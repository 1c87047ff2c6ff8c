"""Shampoo's state, telemetry and options: checkpoints, groups, precision, names."""

import io
import math

import pytest
import torch

from optimizers import Shampoo, state_bytes
from tests.optimizers.shampoo_runs import FLOAT64, give, parameters, run, same, tensors, values


@pytest.mark.parametrize("stop", [3, 8])
def test_a_restored_state_goes_on_bit_identically(stop):
    options = {"update_freq": 5, "block_size": 4, "graft": "adam", "apply_dtype": "bfloat16"}
    params, twins = parameters(), parameters()
    optimizer = Shampoo(params, **options)
    run(optimizer, params, range(stop))
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    restored = Shampoo(twins)
    restored.load_state_dict(torch.load(file, weights_only=True))
    with torch.no_grad():
        for a, b in zip(twins, params, strict=True):
            a.copy_(b)
    run(optimizer, params, range(stop, 13))
    run(restored, twins, range(stop, 13))
    assert same(values(params), values(twins))
    ours, theirs = tensors(optimizer.state_dict()["state"]), tensors(restored.state_dict()["state"])
    assert {key: value.dtype for key, value in ours.items()} == {
        key: value.dtype for key, value in theirs.items()
    }
    assert torch.bfloat16 in {value.dtype for value in theirs.values()}


def test_groups_keep_options_of_their_own():
    params, twins = parameters(), parameters()
    first = {"lr": 0.1, "block_size": 4, "momentum": 0.0}
    second = {"lr": 0.01, "beta2": 0.9, "update_freq": 3, "graft": "adagrad", **FLOAT64}
    both = Shampoo([{"params": params[:3], **first}, {"params": params[3:], **second}])
    alone = Shampoo(twins[:3], **first), Shampoo(twins[3:], **second)
    for t in range(7):
        give(params, t)
        give(twins, t)
        both.step()
        alone[0].step()
        alone[1].step()
    assert same(values(params), values(twins))


def test_a_group_may_come_later():
    params = parameters()
    optimizer = Shampoo(params[:3], update_freq=5)
    run(optimizer, params, range(2))
    before = values(params)
    optimizer.add_param_group({"params": params[3:], "lr": 0.1})
    run(optimizer, params, range(2, 4))
    assert not any(torch.equal(a, b) for a, b in zip(values(params), before, strict=True))
    assert optimizer.state[params[3]]["root_step"] == 3


def test_half_precision_parameters_round_a_step_made_in_float32():
    params, twins = parameters(torch.bfloat16), parameters(torch.bfloat16)
    twins = [twin.detach().float().requires_grad_() for twin in twins]
    for group in (params, twins):
        give(group, 0)
    for a, b in zip(twins, params, strict=True):
        a.grad = b.grad.float()
    for group in (params, twins):
        Shampoo(group, lr=0.1, update_freq=1).step()
    for a, b in zip(params, twins, strict=True):
        assert a.dtype == torch.bfloat16
        # half a unit of bfloat16's last place, 2^-9 of the value
        torch.testing.assert_close(a.float(), b, rtol=2**-8, atol=2**-9)


@pytest.mark.parametrize("name", ["statistics_dtype", "apply_dtype"])
def test_bfloat16_statistics_and_application_follow_float32(name):
    params, twins = parameters(), parameters()
    options = {"lr": 0.1, "momentum": 0.0, "damping": 1.0}
    run(Shampoo(params, **options, **{name: "bfloat16"}), params, range(3))
    run(Shampoo(twins, **options), twins, range(3))
    assert not same(values(params), values(twins))
    for a, b in zip(params, twins, strict=True):
        # 2^-8 of steps of length 0.1 and of the roots of a few sums
        torch.testing.assert_close(a, b, rtol=0, atol=0.02)


def test_state_bytes_are_the_formula_s():
    params = parameters(shapes=[(6, 5), (7,), (3, 2, 5)])
    optimizer = Shampoo(params, block_size=5, merge_dims=False, graft="adam", root_dtype="float64")
    run(optimizer, params, range(2))
    sides = [[5, 5], [1, 5], [5], [2], [3, 2, 5]]
    squares = sum(n * n for block in sides for n in block)
    lengths = sum(n for block in sides for n in block)
    num_values = sum(parameter.numel() for parameter in params)
    assert state_bytes(optimizer) == (4 + 4) * squares + 8 * lengths + (4 + 4) * num_values


def test_spectra_name_every_factor_and_know_their_age():
    weight = torch.nn.Parameter(torch.ones(6, 5))
    bias = torch.nn.Parameter(torch.ones(()))
    optimizer = Shampoo(
        [("layer.weight", weight), ("layer.bias", bias)], block_size=4, update_freq=3, **FLOAT64
    )
    assert optimizer.spectra() == []
    run(optimizer, [weight, bias], range(1))
    S = weight.grad.double()[4:, :4]
    run(optimizer, [weight, bias], range(1, 3))
    spectra = {spectrum.name: spectrum for spectrum in optimizer.spectra()}
    assert list(spectra) == [
        f"layer.{name}.mode{mode}"
        for name, num_modes in (*((f"weight[{i}]", 2) for i in range(4)), ("bias[0]", 1))
        for mode in range(num_modes)
    ]
    found = spectra["layer.weight[2].mode0"]
    expected = torch.linalg.eigvalsh(S @ S.T)
    torch.testing.assert_close(found.eigenvalues, expected, rtol=1e-10, atol=1e-12)
    assert found.staleness == 2
    # Two gradients younger than its root: far from being one, which at its birth it was.
    assert found.root_residual > 0.1
    run(optimizer, [weight, bias], range(3, 4))
    fresh = optimizer.spectra()
    assert all(spectrum.staleness == 0 for spectrum in fresh)
    # Good to round-off times the condition number, |S| / damping = 1e6 at most.
    assert all(spectrum.root_residual < 1e-8 for spectrum in fresh)


def test_spectra_of_a_root_without_eigenvalues_are_those_of_the_factor():
    params = parameters(shapes=[(4, 3)])
    optimizer = Shampoo(params, block_size=4, root_method="coupled_newton")
    run(optimizer, params, range(3))
    factor = optimizer.state["0/4x3"]["factor_0"][0].double()
    expected = torch.linalg.eigvalsh(factor)
    torch.testing.assert_close(optimizer.spectra()[0].eigenvalues, expected, rtol=1e-5, atol=1e-5)


def test_a_non_contiguous_gradient_is_read_as_it_stands():
    x = torch.zeros(6, 5, requires_grad=True)
    y = torch.zeros(5, 6).t().requires_grad_()
    grad = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    for parameter in (x, y):
        parameter.grad = grad.t().contiguous().t() if parameter is y else grad
        Shampoo([parameter], lr=0.1, block_size=4).step()
    assert torch.equal(x, y)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lr", -1.0),
        ("damping", 0.0),
        ("damping", math.nan),
        ("beta2", 0.0),
        ("momentum", 1.0),
        ("momentum_rule", "none"),
        ("start_rule", ["same"]),
        ("weight_decay_rule", "L2"),
        ("update_freq", 0),
        ("update_freq", 1.5),
        ("start_step", -1),
        ("block_size", 0),
        ("exponent", 0.0),
        ("root_method", "svd"),
        ("root_schedule", "always"),
        ("graft", None),
        ("graft_eps", -1.0),
        ("graft_beta2", 1.0),
        ("floor", -1.0),
        ("initial_scale", math.inf),
        ("merge_dims", 1),
        ("statistics_dtype", "float16"),
        ("root_dtype", "bfloat16"),
        ("apply_dtype", "int8"),
    ],
)
def test_bad_options_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be .*, got "):
        Shampoo([torch.ones(2, requires_grad=True)], **{name: value})


def test_coupled_newton_takes_no_exponent_but_a_root_s():
    x = torch.ones(2, requires_grad=True)
    Shampoo([x], root_method="coupled_newton", exponent=0.25)
    with pytest.raises(ValueError, match=r"^exponent must be 1/p with an integer p"):
        Shampoo([x], root_method="coupled_newton", exponent=0.3)
