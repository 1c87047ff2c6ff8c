"""Per-sample gradients from hooks, against autograd on one sample at a time."""

import pytest
import torch
from torch import nn

from optimizers.capture import find_layers, record_calls


@pytest.fixture(autouse=True)
def one_thread():
    """Small tensors gain nothing from two threads and lose much where others need the core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def one_by_one(model, inputs, loss, batch_dim=0):
    """Gradients of each sample's own loss by every parameter, float64, by a loop."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    rows = []
    for i in range(inputs.shape[batch_dim]):
        value = loss(model(inputs.narrow(batch_dim, i, 1)))
        rows.append(torch.autograd.grad(value, parameters))
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    return dict(zip(names, map(torch.stack, zip(*rows, strict=True)), strict=True))


def matrix_of(layer, grads):
    """Per-sample gradients of [W b], shape (B, m, n), from those of the parameters."""
    prefix = layer.path + "." if layer.path else ""
    parts = [grads[prefix + layer.names[0]].flatten(2)]
    parts += [grads[prefix + name].unsqueeze(-1) for name in layer.names[1:]]
    return torch.cat(parts, dim=2)


def check(model, inputs, *, batch_dim=0, weights=None, limit=None):
    """Compare what is recorded with the loop; returns the samples of each layer."""
    model = model.double()
    num_samples = inputs.shape[batch_dim]
    if weights is None:
        weights = torch.linspace(0.5, 1.5, num_samples, dtype=torch.float64) / num_samples

    def losses(output):
        return output.movedim(batch_dim, 0).flatten(1).sin().sum(1)

    expected = one_by_one(model, inputs, lambda y: losses(y).sum(), batch_dim)
    (weights * losses(model(inputs))).sum().backward()
    plain = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    layers = find_layers(model, list(model.parameters()))
    with record_calls(layers, num_samples, batch_dim, weights) as recording:
        (weights * losses(model(inputs))).sum().backward()
    recorded = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.equal(a, b) for a, b in zip(plain, recorded, strict=True))
    assert not any(module._forward_hooks for module in model.modules())
    for layer in layers:
        G = matrix_of(layer, expected)[:limit]
        chunks = list(recording.samples(layer, limit, torch.float64))
        assert {chunk.shape for chunk in chunks} == {tuple(G.shape[1:])} == {layer.shape}
        close = {"rtol": 1e-10, "atol": 1e-12}  # float64, sums of at most a few hundred products
        assert torch.allclose(torch.cat([c.gradients() for c in chunks]), G, **close)
        assert torch.allclose(sum(c.left() for c in chunks), (G @ G.mT).sum(0), **close)
        assert torch.allclose(sum(c.right() for c in chunks), (G.mT @ G).sum(0), **close)
    return layers, recording


def data(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


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
