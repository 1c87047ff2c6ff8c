"""The H+Vamp model: its densities against closed forms, its prior, its sizes."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence

from tasks.likelihood import bernoulli, multinomial
from tasks.models.hvamp import Gaussian, HVamp, log_mixture

SIZES = {"num_items": 30, "hidden_size": 8, "z1_size": 4, "z2_size": 3, "num_layers": 2}


def gaussian(n, size, spread=1.0):
    return Gaussian(torch.randn(n, size).double(), spread * torch.randn(n, size).double())


def as_normal(g):
    return Independent(Normal(g.mean, (g.log_variance / 2).exp()), 1)


def constant(size):
    """What log_density leaves out."""
    return size / 2 * math.log(2 * math.pi)


def made(num_pseudo_inputs=5, dropout=0.0, **more):
    model = HVamp(**SIZES | more, num_pseudo_inputs=num_pseudo_inputs, dropout=dropout).double()
    return model, (torch.rand(6, SIZES["num_items"]) < 0.3).double()


def test_the_density_is_a_normals():
    g, z = gaussian(5, 3), torch.randn(5, 3).double()
    expected = as_normal(g).log_prob(z) + constant(3)
    torch.testing.assert_close(g.log_density(z), expected, rtol=1e-12, atol=1e-12)
    noise = torch.randn(5, 3).double()
    torch.testing.assert_close((g.sample(noise) - g.mean) / (g.log_variance / 2).exp(), noise)


@pytest.mark.parametrize("spread", [1.0, 4.0])
def test_the_mixture_is_that_of_its_components(spread):
    components, z = gaussian(7, 3, spread), 3 * torch.randn(5, 3).double()
    mixture = MixtureSameFamily(Categorical(torch.ones(7).double()), as_normal(components))
    expected = mixture.log_prob(z) + constant(3)
    torch.testing.assert_close(log_mixture(z, components), expected, rtol=1e-11, atol=1e-11)


def test_the_mixture_stays_finite_where_all_densities_vanish():
    components = Gaussian(torch.zeros(2, 3), torch.full((2, 3), -12.0))
    far = torch.full((1, 3), 10.0)
    # Both components are one: the mixture is it. exp of this would be 0 in any precision.
    expected = -(3 * -12 + 3 * 100 * math.exp(12)) / 2
    assert log_mixture(far, components).item() == pytest.approx(expected, rel=1e-6)


def test_the_divergence_with_one_pseudo_input_is_the_closed_form():
    """Of two normal densities the log ratio is quadratic in the noise, each component apart.

    Its mean over noise +1 and -1 is then its mean over N(0, 1), which has a closed form.
    """
    model, x = made(num_pseudo_inputs=1)
    model.eval()
    with torch.no_grad():
        rows = nn.functional.normalize(x, dim=1)
        q2, prior = model.q_z2(rows), model.components()
        ones = torch.ones(len(x), 3).double()
        for noise1 in (0.0, 0.7):
            # What z1 adds is taken off again, at the same draws.
            parts = []
            for sign in (1, -1):
                noise = torch.cat([sign * ones, torch.full((len(x), 4), noise1).double()], dim=1)
                z2 = q2.sample(sign * ones)
                parts.append(model(x, noise).kl - z1_part(model, rows, z2, noise[:, 3:]))
            closed = kl_divergence(as_normal(q2), as_normal(prior))
            torch.testing.assert_close(sum(parts) / 2, closed, rtol=1e-10, atol=1e-12)


def z1_part(model, rows, z2, noise):
    q1 = model.q_z1(torch.cat([model.q_z1_x(rows), model.q_z1_z2(z2)], dim=1))
    z1 = q1.sample(noise)
    return as_normal(q1).log_prob(z1) - as_normal(model.p_z1(z2)).log_prob(z1)


def test_the_divergence_of_z1_given_z2_is_the_closed_form():
    model, x = made()
    model.eval()
    with torch.no_grad():
        rows = nn.functional.normalize(x, dim=1)
        z2, ones = model.q_z2(rows).mean, torch.ones(len(x), 4).double()
        nothing = torch.zeros(len(x), 3).double()
        found = [model(x, torch.cat([nothing, sign * ones], dim=1)).kl for sign in (1, -1)]
        q1 = model.q_z1(torch.cat([model.q_z1_x(rows), model.q_z1_z2(z2)], dim=1))
        q2, mixture = model.q_z2(rows), log_mixture(z2, model.components())
        closed = kl_divergence(as_normal(q1), as_normal(model.p_z1(z2)))
    expected = closed + q2.log_density(z2) - mixture
    torch.testing.assert_close(sum(found) / 2, expected, rtol=1e-10, atol=1e-12)


def test_likelihoods_by_hand():
    logits = torch.tensor([[0.0, math.log(3), -math.log(3)]], dtype=torch.float64)
    clicks = torch.tensor([[1.0, 1, 0]]).double()
    expected = -(math.log(1 / 2) + math.log(3 / 4) + math.log(3 / 4))
    assert bernoulli(logits, clicks).item() == pytest.approx(expected, rel=1e-12)
    total = 1 + 3 + 1 / 3
    expected = -(math.log(1 / total) + math.log(3 / total))
    assert multinomial(logits, clicks).item() == pytest.approx(expected, rel=1e-12)


def test_noise_and_dropout_belong_to_training():
    model, x = made(dropout=0.5)
    with torch.no_grad():
        first, second = model(x), model(x)
        assert not torch.equal(first.logits, second.logits)
        torch.manual_seed(1)
        drawn = model(x)
        torch.manual_seed(1)
        assert torch.equal(model(x).kl, drawn.kl)
        model.eval()
        state = torch.get_rng_state()
        mean = model(x)
        zeros = torch.zeros(len(x), 7)
        assert torch.equal(mean.logits, model(x, zeros).logits)
        assert not torch.equal(mean.logits, model(x, zeros + 1).logits)
        assert torch.equal(torch.get_rng_state(), state)


def test_the_length_of_a_row_does_not_matter_to_the_encoder():
    model, x = made()
    model.eval()
    with torch.no_grad():
        torch.testing.assert_close(model(7 * x).logits, model(x).logits, rtol=1e-10, atol=1e-12)
        assert torch.isfinite(model(torch.zeros_like(x)).logits).all()


def test_pseudo_inputs_are_cut_and_learn():
    model, x = made()
    with torch.no_grad():
        model.pseudo_inputs[0] = -1.0
        model.pseudo_inputs[1] = 2.0
    model(x).kl.sum().backward()
    lengths = model.pseudo_inputs.grad.norm(dim=1)
    assert lengths[:2].tolist() == [0, 0]
    assert (lengths[2:] > 0).all()


def test_parameters_by_hand():
    """(inputs + 1) outputs a linear layer, twice that a gated one."""
    N, H, Z1, Z2, C = 30, 8, 4, 3, 5

    def gated(a, b):
        return 2 * (a + 1) * b

    def normal(size):
        return 2 * (H + 1) * size

    expected = {
        "q_z2": gated(N, H) + gated(H, H) + normal(Z2),
        "q_z1": gated(N, H) + gated(Z2, H) + gated(2 * H, H) + normal(Z1),
        "p_z1": gated(Z2, H) + gated(H, H) + normal(Z1),
        "p_x": gated(Z1, H) + gated(Z2, H) + gated(2 * H, H) + (H + 1) * N,
        "pseudo_inputs": C * N,
    }
    model, _ = made()
    found = dict.fromkeys(expected, 0)
    for name, parameter in model.named_parameters():
        part = next(part for part in expected if name.startswith(part))
        found[part] += parameter.numel()
    assert found == expected


def test_initial_values():
    torch.manual_seed(0)
    model = HVamp(400, 300, 20, 30, 50, num_layers=3, dropout=0.5)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            std = math.sqrt(2 / module.in_features)
            # Of 6,000 numbers and more the standard deviation is off by 1 % or so.
            assert module.weight.std().item() == pytest.approx(std, rel=0.05)
            assert module.bias.abs().max() <= 1 / math.sqrt(module.in_features)
    assert model.pseudo_inputs.mean().item() == pytest.approx(0.05, abs=1e-3)
    assert model.pseudo_inputs.std().item() == pytest.approx(0.01, rel=0.02)


@pytest.mark.parametrize(
    ("option", "value"),
    [("hidden_size", 0), ("num_pseudo_inputs", 0), ("num_layers", 1), ("dropout", 1.0)],
)
def test_bad_options_are_refused(option, value):
    with pytest.raises(ValueError, match=f"^{option} must be"):
        HVamp(**SIZES | {"num_pseudo_inputs": 5, "dropout": 0.5} | {option: value})
