"""What a record covers, what can be read from it, and what it refuses."""

import pytest
import torch
from torch import nn

from optimizers.capture.record import find_layers, record_calls
from tests.optimizers.capture_checks import Bilinear, check, data, symbols

# ---------------------------------------------------------------- which weights and samples


def test_which_weights_are_layers():
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm((2, 2)), nn.Linear(4, 3), nn.Linear(2, 2))
    model[2].weight = nn.Parameter(model[0].weight.detach().clone())
    model.append(nn.Linear(3, 4))
    model[4].weight = model[2].weight  # two modules share it
    wanted = [model[0].weight, model[2].weight, model[2].bias, *model[3].parameters()]
    layers = find_layers(model, [*wanted, *model[1].parameters()])
    assert [(layer.path, layer.names) for layer in layers] == [
        ("0", ("weight",)),
        ("3", ("weight", "bias")),
    ]
    assert [layer.shape for layer in layers] == [(4, 3), (2, 3)]


def test_parametrized_weights_are_no_layers():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    nn.utils.parametrizations.weight_norm(model[0])
    layers = find_layers(model, list(model.parameters()))
    assert [layer.path for layer in layers] == ["1"]


def test_what_takes_no_part_is_not_there():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(3, 2), nn.Linear(3, 2)

        def forward(self, x):
            self.unused(x)
            with torch.no_grad():
                self.used(x)
            return self.used(x)

    model = Branches()
    layers = find_layers(model, list(model.parameters()))
    with record_calls(layers, 2, 0, torch.tensor([0.0, 1.0])) as recording:
        (model(torch.ones(2, 3)).sum(1) * torch.tensor([0.0, 1.0])).sum().backward()
    assert [recording.has(layer) for layer in layers] == [True, False]
    samples = next(recording.samples(layers[0]))
    # A weight of 0 makes a gradient of 0, not 0 / 0.
    assert torch.equal(samples.gradients(), torch.stack([torch.zeros(2, 4), torch.ones(2, 4)]))


def test_one_sample_needs_no_call():
    """A weight that is used outside its module's forward: the gradient is the sample's."""
    model = nn.Linear(3, 2)
    layer = find_layers(model, list(model.parameters()))[0]
    model.weight.grad = torch.full((2, 3), 7.0)  # of an earlier pass
    with record_calls([layer], 1, 0, torch.tensor([0.5])) as recording:
        (0.5 * (model.weight.sum() + 2 * model.bias.sum())).backward()
    G = recording.of(layer)[0].gradients()
    assert torch.equal(G, torch.tensor([[[1.0, 1, 1, 2], [1, 1, 1, 2]]]))
    assert not recording.has(layer)
    with record_calls([layer], 2, 0, torch.ones(2)) as recording:
        model.weight.sum().backward()
    assert recording.of(layer) is None


def test_compiled_models_are_recorded():
    model = nn.Sequential(nn.Linear(4, 3))
    compiled = torch.compile(model, backend="eager")
    compiled(torch.ones(2, 4)).sum().backward()  # compiled before, without hooks
    layers = find_layers(model, list(model.parameters()))
    with record_calls(layers, 2, 0, torch.ones(2)) as recording:
        compiled(torch.ones(2, 4)).sum().backward()
    assert len(next(recording.samples(layers[0]))) == 2


# ---------------------------------------------------------------- what is read


def test_only_the_first_samples_and_in_chunks(monkeypatch):
    monkeypatch.setattr("optimizers.capture.record.MAX_ELEMENTS", 200)
    _, recording = check(nn.Sequential(nn.Linear(4, 7), nn.Linear(7, 3)), data(9, 4), limit=7)
    assert recording.num_samples == 9


def test_positions_as_samples():
    model = nn.Sequential(nn.Embedding(6, 4), nn.Linear(4, 3))
    _, recording = check(model, symbols(5, 7))
    for path in model.children():
        layer = next(x for x in find_layers(model, list(path.parameters())))
        whole = next(recording.samples(layer, dtype=torch.float64))
        tokens = whole.by_position()
        assert len(tokens) == 35
        parts = tokens.gradients().unflatten(0, (5, 7)).sum(1)
        assert torch.allclose(parts, whole.gradients(), rtol=1e-12, atol=1e-12)
        assert torch.allclose(
            tokens.right(), (tokens.gradients().mT @ tokens.gradients()).sum(0), rtol=1e-10
        )


def test_rows_and_columns_of_the_gradients():
    model = nn.Sequential(nn.Embedding(6, 4), nn.Linear(4, 3), Bilinear())
    model[1] = nn.Linear(4, 4)
    layers, recording = check(model, symbols(5, 7))
    for layer in layers:
        samples = next(recording.samples(layer, dtype=torch.float64))
        G = samples.gradients()
        rows, columns = torch.tensor([1, 0, 1]), torch.tensor([2, 2])
        assert torch.allclose(samples.rows(rows, 3.0).gradients(), 3 * G[:, rows])
        assert torch.allclose(samples.columns(columns, 3.0).gradients(), 3 * G[..., columns])


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("num_samples", "weights", "message"),
    [
        (0, torch.ones(0), "num_samples must be >= 1, got 0"),
        (3, torch.ones(2), r"weights must be of shape \(3,\), got shape \(2,\)"),
    ],
)
def test_bad_sizes_are_refused(num_samples, weights, message):
    with pytest.raises(ValueError, match=message), record_calls([], num_samples, 0, weights):
        pass


def test_samples_that_lie_elsewhere_are_refused_by_path():
    model = nn.Sequential(nn.Flatten(0, 1), nn.Linear(4, 2))
    layers = find_layers(model, list(model.parameters()))
    with record_calls(layers, 5, 0, torch.ones(5)) as recording:
        model(torch.ones(5, 3, 4)).sum().backward()
    message = r"^1 must be given its 5 samples along dimension 0, got shape \(15, 4\)$"
    with pytest.raises(ValueError, match=message):
        next(recording.samples(layers[0]))


def test_modules_that_mix_samples_are_refused_by_path():
    class Mixing(Bilinear):
        def forward(self, x):
            return super().forward(x - x.mean(0))

    model = nn.Sequential(Mixing())
    layers = find_layers(model, list(model.parameters()))
    with record_calls(layers, 5, 0, torch.ones(5)) as recording:
        model(torch.ones(5, 4).cumsum(0)).square().sum().backward()
    with pytest.raises(ValueError, match=r"^0 must treat samples along dimension 0 one by one"):
        next(recording.samples(layers[0]))
