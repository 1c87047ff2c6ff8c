"""Per-sample gradients of embeddings and LSTMs: states, directions, dropout."""

import pytest
import torch
from torch import nn

from optimizers.capture.record import find_layers, record_calls
from tests.optimizers.capture_checks import check, data, matrix_of, one_by_one, symbols


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
