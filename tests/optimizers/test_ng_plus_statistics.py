"""The matrix L of eqs. 4-7, 12 and 18 computed in other ways, and NG+ in its limits."""

import pytest
import torch
from torch import nn

from optimizers import NGPlus, Shampoo
from tests.optimizers.ng_plus_models import Dense, Images, Text, backward, train
from tests.optimizers.ng_plus_runs import FLOAT64, assert_same, make

# ---------------------------------------------------------------- eqs. 4-7: samples


def test_l_of_a_linear_layer_needs_no_per_sample_gradients():
    """L = mean |a_i|^2 g_i g_i^T, exactly, a_i with a 1 for the bias."""
    model = nn.Linear(5, 4).double()
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    optimizer = make(model)
    with optimizer.record(6, 0, torch.full((6,), 1 / 6, dtype=x.dtype)):
        z = model(x)
        z.cos().sum(1).mean().backward()
    optimizer.step()
    g = -z.detach().sin()
    L = (g.T * (x.square().sum(1) + 1)) @ g / 6
    (spectrum,) = optimizer.spectra()
    # The other order of the products, in float64.
    assert torch.allclose(spectrum.eigenvalues, torch.linalg.eigvalsh(L), rtol=1e-12, atol=0)


def test_tokens_as_samples():
    """For the read-out each position is a sample: L = mean |[h; 1]|^2 g g^T over all of them."""
    model = Text()
    optimizer = make(model, sample="token", side="left")
    seen = {}
    model.readout.register_forward_hook(lambda m, args, out: seen.update(h=args[0], z=out))
    backward(model, optimizer, model.batch(0))
    h, z = seen["h"].detach().flatten(0, 1), seen["z"].detach().flatten(0, 1)
    targets = nn.functional.one_hot(model.batch(0)[:, 1:].flatten(), 7)
    g = z.softmax(1) - targets
    L = (g.T * (h.square().sum(1) + 1)) @ g / len(g)
    optimizer.step()
    spectrum = next(s for s in optimizer.spectra() if s.name == "readout.weight")
    assert torch.allclose(spectrum.eigenvalues, torch.linalg.eigvalsh(L), rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("cls", [Dense, Images, Text])
@pytest.mark.parametrize("options", [{}, {"beta2": 0.5}, {"method": "low_rank"}])
def test_two_halves_of_a_batch_are_the_batch(cls, options):
    model, other = cls(), cls()
    train(model, make(model, update_freq=2, **options), range(4))
    train(other, make(other, update_freq=2, **options), range(4), accumulate=2)
    assert_same(model, other)


def test_s_k_counts_the_first_samples_of_the_step():
    model, other = Dense(), Dense()
    train(model, make(model, curvature_samples=3), range(2))
    train(other, make(other, curvature_samples=3), range(2), accumulate=2)
    assert_same(model, other)


@pytest.mark.parametrize("options", [{}, {"method": "low_rank"}, {"block_size": 4}])
def test_large_damping_is_scaled_sgd(options):
    """(L + damping I)^-1 is I / damping up to |L| / damping, 1e-9 a step here."""
    model, other = Dense(), Dense()
    train(model, make(model, damping=1e10, lr=1e8, **options), range(10))
    sgd = torch.optim.SGD(other.parameters(), lr=1e-2, momentum=0.8)
    for step in range(10):
        sgd.zero_grad()
        other.losses(other.batch(step)).mean().backward()
        sgd.step()
    assert_same(model, other, atol=1e-8)


# ---------------------------------------------------------------- eq. 12: mini-batches


def test_eq_12_with_beta_and_gamma_1_has_shampoos_left_statistic():
    """On weights without biases, since Shampoo knows no [W b]."""
    model, other = Dense(), Dense()
    for name, parameter in (*model.named_parameters(), *other.named_parameters()):
        parameter.requires_grad_("weight" in name)
    statistic = {"statistic": "minibatch", "beta2": 1.0, "gamma": 1.0, "initial": 0.1}
    weights = [p for p in model.parameters() if p.requires_grad]
    ours = NGPlus(weights, model, lr=0.0, side="left", **statistic, **FLOAT64)
    named = [(name, p) for name, p in other.named_parameters() if p.requires_grad]
    sums = {"initial_scale": 0.1, "beta2": 1.0, "merge_dims": False, "update_freq": 1}
    theirs = Shampoo(named, lr=0.0, **sums, **FLOAT64)
    for step in range(3):
        for m, optimizer in ((model, ours), (other, theirs)):
            optimizer.zero_grad()
            m.losses(m.batch(step)).mean().backward()
            optimizer.step()
    found = {s.name: s.eigenvalues for s in theirs.spectra() if s.name.endswith("mode0")}
    assert len(found) == len(ours.spectra()) == 2
    for spectrum, values in zip(ours.spectra(), found.values(), strict=True):
        assert torch.allclose(spectrum.eigenvalues, values, rtol=1e-9)


# ---------------------------------------------------------------- eq. 18: blocks


def test_a_long_side_in_blocks():
    model = nn.Linear(2, 5000, bias=False).double()
    options = {"statistic": "minibatch", "side": "left", "block_size": 1024, "momentum": 0.0}
    optimizer = make(model, lr=1.0, **options)
    before, X = model.weight.detach().clone(), torch.linspace(-1, 1, 10_000).double().view(5000, 2)
    (model.weight * X).sum().backward()
    optimizer.step()
    # The last block, 5000 = 4 x 1024 + 904, by Woodbury's formula on its 904 x 2 gradient.
    part = X[4096:]
    D = torch.linalg.solve(0.3 * torch.eye(2, dtype=X.dtype) + part.T @ part, part.T).T
    assert torch.allclose(model.weight[4096:], before[4096:] - D, rtol=1e-9, atol=1e-12)
