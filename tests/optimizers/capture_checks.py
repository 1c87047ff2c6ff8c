"""What hooks record of each sample, compared with autograd on one sample at a time."""

import torch
from torch import nn

from optimizers.capture.record import find_layers, record_calls


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


def symbols(*shape):
    return torch.randint(6, shape, generator=torch.Generator().manual_seed(1))


class Bilinear(nn.Module):
    """A module without a rule: a matrix and a three-way tensor of its own, and a constant."""

    def __init__(self):
        super().__init__()
        self.matrix = nn.Parameter(torch.linspace(-1, 1, 12).view(3, 4))
        self.cube = nn.Parameter(torch.linspace(1, -1, 24).view(2, 3, 4))
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer("shift", torch.ones(3))

    def forward(self, x):
        y = x @ self.matrix.T + self.shift
        return self.scale * torch.einsum("ijk,...j,...k->...i", self.cube, y, x)
