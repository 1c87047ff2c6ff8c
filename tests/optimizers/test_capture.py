"""Per-sample gradients from hooks, against autograd on one sample at a time."""

import pytest
import torch
from torch import nn

from optimizers.capture.record import find_layers, record_calls


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


class Recurrent(nn.Module):
    """Embedding, LSTM, read-out, the shape of a language model."""

    def __init__(self, batch_first=True, state=False, **options):
        super().__init__()
        self.embedding = nn.Embedding(6, 3, padding_idx=0)
        self.lstm = nn.LSTM(3, 4, batch_first=batch_first, **options)
        width = 8 if self.lstm.bidirectional else 4
        self.readout = nn.Linear(width, 5)
        self.state = state

    def forward(self, symbols):
        x = self.embedding(symbols)
        batch = symbols.shape[0 if self.lstm.batch_first else 1]
        layers = self.lstm.num_layers * (2 if self.lstm.bidirectional else 1)
        state = (torch.full((layers, batch, 4), 0.3).double(),) * 2 if self.state else None
        output, (h, c) = self.lstm(x, state)
        return self.readout(output) + (h.sum() + c.sum() if self.state else 0)


def symbols(*shape):
    return torch.randint(6, shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_layers": 2, "bias": False},
        {"bidirectional": True, "num_layers": 2},
        {"batch_first": False},
    ],
)
def test_embedding_and_lstm(options):
    batch_dim = 0 if options.get("batch_first", True) else 1
    shape = (5, 7) if batch_dim == 0 else (7, 5)
    layers, _ = check(Recurrent(**options), symbols(*shape), batch_dim=batch_dim)
    names = [layer.names[0] for layer in layers]
    assert names[:3] == ["weight", "weight_ih_l0", "weight_hh_l0"]
    assert layers[0].shape == (6, 3)


def test_an_lstms_first_and_last_states():
    """The loss reads h_n and c_n, and the first state is not zero."""
    model = Recurrent(state=True).double()
    inputs = symbols(4, 5)
    expected = one_by_one(model, inputs, lambda y: y.sum())
    layers = find_layers(model, list(model.parameters()))
    with record_calls(layers, 4, 0, torch.ones(4, dtype=torch.float64)) as recording:
        # h and c are summed over the batch: undo it, as the loss must be a sum over samples.
        x = model.embedding(inputs)
        start = (torch.full((1, 4, 4), 0.3).double(),) * 2
        output, (h, c) = model.lstm(x, start)
        (model.readout(output).sum() + 25 * (h.sum() + c.sum())).backward()
    for layer in layers:
        chunk = next(recording.samples(layer, dtype=torch.float64))
        assert torch.allclose(chunk.gradients(), matrix_of(layer, expected), rtol=1e-10)


def test_an_lstms_own_dropout_is_drawn_again():
    """With the output's gradients as coefficients, the sum over samples is the gradient."""
    model = nn.LSTM(3, 4, num_layers=3, dropout=0.5, batch_first=True).double()
    inputs, weights = data(5, 6, 3), torch.full((5,), 0.2, dtype=torch.float64)
    layers = find_layers(model, list(model.parameters()))
    state = torch.get_rng_state()
    with record_calls(layers, 5, 0, weights) as recording:
        model(inputs)[0].sin().sum().backward()
    state_after = torch.get_rng_state()
    for layer in layers:
        G = next(recording.samples(layer, dtype=torch.float64)).gradients()
        grads = {name: p.grad[None] for name, p in model.named_parameters()}
        assert torch.allclose(0.2 * G.sum(0), matrix_of(layer, grads)[0], rtol=1e-10, atol=1e-12)
    assert torch.equal(state_after, torch.get_rng_state())
    assert not torch.equal(state, state_after)
    recording.calls[id(model)][0].generator_state = state_after
    recording.calls[id(model)][0].memo.clear()
    with pytest.raises(ValueError, match=r"^the model must have dropout 0 between its layers"):
        next(recording.samples(layers[0]))


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


def test_only_the_first_samples_and_in_chunks(monkeypatch):
    monkeypatch.setattr("optimizers.capture.record.MAX_ELEMENTS", 200)
    _, recording = check(nn.Sequential(nn.Linear(4, 7), nn.Linear(7, 3)), data(9, 4), limit=7)
    assert recording.num_samples == 9


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


def test_compiled_models_are_recorded():
    model = nn.Sequential(nn.Linear(4, 3))
    compiled = torch.compile(model, backend="eager")
    compiled(torch.ones(2, 4)).sum().backward()  # compiled before, without hooks
    layers = find_layers(model, list(model.parameters()))
    with record_calls(layers, 2, 0, torch.ones(2)) as recording:
        compiled(torch.ones(2, 4)).sum().backward()
    assert len(next(recording.samples(layers[0]))) == 2


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


def test_parametrized_weights_are_no_layers():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    nn.utils.parametrizations.weight_norm(model[0])
    layers = find_layers(model, list(model.parameters()))
    assert [layer.path for layer in layers] == ["1"]
