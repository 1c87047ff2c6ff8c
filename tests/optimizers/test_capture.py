"""Per-sample gradients from hooks, layer by layer, against autograd on one sample at a time."""

import pytest
import torch
from torch import nn

from optimizers.capture.record import find_layers, record_calls
from tests.optimizers.capture_checks import Bilinear, check, data, matrix_of, symbols

# ---------------------------------------------------------------- layers with a rule


def test_linear():
    model = nn.Sequential(nn.Linear(4, 7), nn.Tanh(), nn.Linear(7, 3, bias=False))
    layers, recording = check(model, data(5, 4))
    assert [layer.shape for layer in layers] == [(7, 5), (3, 7)]
    assert [layer.names for layer in layers] == [("weight", "bias"), ("weight",)]
    activations, deltas = next(recording.samples(layers[0])).rank_one()
    assert activations.shape == (5, 5) and deltas.shape == (5, 7)


@pytest.mark.parametrize("batch_dim", [0, 1])
@pytest.mark.parametrize("width", [3, 12])
def test_linear_on_sequences(batch_dim, width):
    """Both ways of forming the products: kappa = 6 against few and many features."""
    model = nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 9))
    shape = (5, 6, 4) if batch_dim == 0 else (6, 5, 4)
    check(model, data(*shape), batch_dim=batch_dim)


@pytest.mark.parametrize(
    "options",
    [
        {"padding": 1},
        {"stride": 2, "bias": False},
        {"dilation": 2, "padding": "same"},
        {"padding": (0, 2), "padding_mode": "circular"},
        {"groups": 2},
        {"groups": 4, "bias": False, "stride": (1, 2)},
    ],
)
def test_conv2d(options):
    model = nn.Sequential(nn.Conv2d(4, 8, (3, 2), **options), nn.ReLU(inplace=True))
    check(model, data(3, 4, 6, 7))


def test_batch_norm_has_the_product_of_activations_and_output_gradients():
    """A sample's own gradient does not exist; the parts of the batch's gradient do."""
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Tanh(), nn.Linear(3, 2)).double()
    weights = torch.linspace(0.1, 0.3, 5, dtype=torch.float64)
    layers = find_layers(model, list(model.parameters()))
    assert [layer.path for layer in layers] == ["0", "3"]
    with record_calls(layers, 5, 0, weights) as recording:
        (weights * model(data(5, 4)).sum(1)).sum().backward()
    for layer in layers:
        G = next(recording.samples(layer, dtype=torch.float64)).gradients()
        grads = {
            f"{layer.path}.{name}": p.grad[None] for name, p in layer.module.named_parameters()
        }
        total = torch.einsum("i,imn->mn", weights, G)
        assert torch.allclose(total, matrix_of(layer, grads)[0], rtol=1e-10, atol=1e-14)


# ---------------------------------------------------------------- modules without a rule


@pytest.mark.parametrize(
    "model",
    [
        Bilinear(),
        nn.Sequential(nn.Linear(4, 4), Bilinear()),
        nn.Sequential(nn.Unflatten(1, (2, 2)), nn.Conv1d(2, 3, 2)),
    ],
)
def test_modules_without_a_rule(model):
    check(model, data(5, 4))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x)[0]


class Gated(nn.Module):
    """A fused module for which vmap has no rule."""

    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(4, 3, batch_first=True)

    def forward(self, x):
        return self.gru(x)[0]


@pytest.mark.parametrize("cls", [Attention, Gated])
def test_modules_that_use_several_weights(cls):
    layers, _ = check(cls(), data(5, 6, 4))
    assert len(layers) == 2


def test_a_module_used_twice_sums_its_gradients():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)
            self.table = nn.Embedding(6, 4)
            self.cube = Bilinear()

        def forward(self, x):
            x = self.table(x) + self.table(5 - x)
            x = self.layer(self.layer(x).tanh())
            return self.cube(x).sum(-1) + self.cube(2 * x).sum(-1)

    check(Twice(), symbols(5, 3))
