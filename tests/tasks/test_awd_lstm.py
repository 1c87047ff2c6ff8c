"""The AWD-LSTM: its size, each kind of dropout, and its forward pass against torch's layers."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from optimizers.capture.record import find_layers, record_calls
from tasks.models.awd_lstm import AWDLSTM, DropoutRates, LSTMLayer

VOCAB, LENGTH, BATCH = 11, 6, 3


def make(tied=True, num_layers=3, **rates):
    return AWDLSTM(VOCAB, 4, 5, num_layers, DropoutRates(**rates), tied).double()


def words():
    return torch.arange(BATCH * LENGTH).view(BATCH, LENGTH) * 7 % VOCAB


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def test_the_authors_size():
    model = AWDLSTM(10_000, 400, 1150, 3, DropoutRates())
    # Embedding, the read-out's bias, and 4 h (inputs + h + 2) for each layer.
    layers = ((400, 1150), (1150, 1150), (1150, 400))
    formula = 10_000 * 400 + 10_000 + sum(4 * h * (n + h + 2) for n, h in layers)
    assert count(model) == formula == 24_221_600
    assert AWDLSTM(10_000, 400, 1150, 3, DropoutRates(), tied=False).readout.in_features == 1150


@pytest.mark.parametrize("tied", [True, False])
def test_evaluation_is_a_stack_of_torchs_lstms(tied):
    model = make(tied, words=0.5, inputs=0.5, hidden=0.5, outputs=0.5, weights=0.5).eval()
    stack = []
    for layer in model.layers:
        reference = nn.LSTM(layer.weight_ih.shape[1], layer.hidden_size, batch_first=True).double()
        for name, parameter in layer.named_parameters():
            reference.get_parameter(f"{name}_l0").data.copy_(parameter.data)
        stack.append(reference)
    x, states = model.embedding(words()), []
    for reference in stack:
        x, state = reference(x)
        states += [s.squeeze(0) for s in state]
    logits = F.linear(x, model.readout.weight, model.readout.bias)
    found = model(words())
    torch.testing.assert_close(found.logits, logits, rtol=1e-12, atol=1e-12)
    assert torch.equal(found.outputs, found.dropped)
    for a, b in zip(found.state, states, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    # Two halves, the second from the first one's state.
    first = model(words()[:, :2])
    second = model(words()[:, 2:], first.state)
    parts = torch.cat([first.logits, second.logits], 1)
    torch.testing.assert_close(parts, logits, rtol=1e-12, atol=1e-12)


def test_embedding_and_readout_are_one_parameter():
    model = make()
    assert model.readout.weight is model.embedding.weight
    assert "readout.weight" not in dict(model.named_parameters())
    assert make(tied=False).readout.weight.shape == (VOCAB, 5)
    short = words()[:, :1]
    model(short).logits.sum().backward()
    # Words that do not occur have a gradient from the read-out alone, those that do from both.
    alone = model(short).dropped.sum((0, 1))
    absent = [word for word in range(VOCAB) if word not in short]
    grad = model.embedding.weight.grad
    torch.testing.assert_close(grad[absent], alone.expand(len(absent), 4))
    assert (grad[short[:, 0]] != alone).all()


def test_the_authors_start():
    model = AWDLSTM(2000, 50, 40, 2, DropoutRates())
    assert 0.099 < model.embedding.weight.abs().max().item() <= 0.1
    assert not model.readout.bias.any()
    for layer in model.layers:
        bound = layer.hidden_size**-0.5
        for parameter in layer.parameters():
            assert 0.9 * bound < parameter.abs().max().item() <= bound
    symbols = torch.randint(2000, (5, 20))
    loss = F.cross_entropy(model(symbols).logits.flatten(0, 1), symbols.flatten())
    # Logits of about 0.01: the loss of a uniform model, up to their squares.
    assert loss.item() == pytest.approx(math.log(2000), abs=0.01)


def test_dropped_weights_are_those_of_one_matrix():
    """Torch's own layer with the dropped matrix gives the same; dropped entries learn nothing."""
    model = make(num_layers=1, weights=0.5)
    (layer,) = model.layers
    state = torch.get_rng_state()
    found = model(words())
    found.outputs.sin().sum().backward()
    torch.set_rng_state(state)
    kept = F.dropout(torch.ones_like(layer.weight_hh), 0.5)
    assert set(kept.unique().tolist()) == {0.0, 2.0}
    reference = nn.LSTM(4, 4, batch_first=True).double()
    for name, parameter in layer.named_parameters():
        reference.get_parameter(f"{name}_l0").data.copy_(parameter.data)
    reference.weight_hh_l0.data.mul_(kept)
    outputs, _ = reference(model.embedding(words()))
    torch.testing.assert_close(found.outputs, outputs, rtol=1e-12, atol=1e-12)
    outputs.sin().sum().backward()
    expected = reference.weight_hh_l0.grad * kept
    torch.testing.assert_close(layer.weight_hh.grad, expected, rtol=1e-10, atol=1e-14)
    assert not layer.weight_hh.grad[kept == 0].any()
    assert layer.weight_ih.grad.all()


def inputs_of(model):
    """What each LSTM layer is given in a pass."""
    seen = []
    handles = [
        layer.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
        for layer in model.layers
    ]
    prediction = model(words())
    for handle in handles:
        handle.remove()
    return seen, prediction


def test_a_word_is_dropped_wherever_it_stands():
    model = make(words=0.5)
    seen, _ = inputs_of(model)
    ratio = seen[0] / model.embedding(words())
    factors = {}
    for word, factor in zip(words().flatten().tolist(), ratio.flatten(0, 1), strict=True):
        factors.setdefault(word, []).append(factor)
    means = {word: torch.stack(found) for word, found in factors.items()}
    for found in means.values():
        torch.testing.assert_close(found, found[0, 0].expand_as(found), rtol=1e-12, atol=0)
    assert {round(found[0, 0].item(), 9) for found in means.values()} == {0.0, 2.0}


@pytest.mark.parametrize("kind", ["inputs", "hidden", "outputs"])
def test_variational_dropout_is_the_same_at_all_positions(kind):
    model = make(**{kind: 0.5})
    whole = [model.embedding(words())]
    x = whole[0]
    seen, prediction = inputs_of(model)
    # Each layer's outputs before dropout, from the inputs that it was given.
    for layer, given in zip(model.layers, seen, strict=True):
        zeros = x.new_zeros(BATCH, layer.hidden_size)
        whole.append(layer(given, zeros, zeros)[0])
    ratios = [after / before for after, before in zip(seen, whole[:-1], strict=True)]
    ratios.append(prediction.dropped / prediction.outputs)
    where = {"inputs": [0], "hidden": [1, 2], "outputs": [3]}[kind]
    for place, ratio in enumerate(ratios):
        torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio), rtol=1e-9, atol=1e-12)
        values = {round(value, 9) for value in ratio.flatten().tolist()}
        assert values == ({0.0, 2.0} if place in where else {1.0})
        if place in where:
            assert not torch.equal(ratio[0, 0], ratio[1, 0])  # each sequence has its own


def test_masks_come_from_the_global_generator_in_training_only():
    model = make(words=0.5, inputs=0.5, hidden=0.5, outputs=0.5, weights=0.5)
    torch.manual_seed(3)
    first, other = model(words()).logits, model(words()).logits
    torch.manual_seed(3)
    assert torch.equal(first, model(words()).logits)
    assert not torch.equal(first, other)
    state = torch.get_rng_state()
    model.eval()
    assert torch.equal(model(words()).logits, model(words()).logits)
    assert torch.equal(torch.get_rng_state(), state)


def test_bfloat16_autocast_carries_its_state():
    model = AWDLSTM(VOCAB, 4, 5, 2, DropoutRates(weights=0.5, inputs=0.2))
    with torch.autocast("cpu", torch.bfloat16):
        first = model(words())
        second = model(words(), tuple(s.detach() for s in first.state))
        loss = F.cross_entropy(second.logits.flatten(0, 1), words().flatten())
    loss.backward()
    assert loss.isfinite()
    assert all(
        p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters()
    )


def test_samples_are_recorded_with_the_dropped_weights():
    """Per-sample gradients are those of each sequence alone under the batch's own masks."""
    model = make(num_layers=2, weights=0.5, hidden=0.3)
    inputs, state = words(), torch.get_rng_state()

    def losses():
        torch.set_rng_state(state)
        return model(inputs).outputs.sin().sum((1, 2))

    expected = []
    for index in range(BATCH):
        model.zero_grad()
        losses()[index].backward()
        expected.append({id(p): p.grad.clone() for p in model.parameters() if p.grad is not None})
    layers = find_layers(model, list(model.parameters()))
    # The weight that embedding and read-out share belongs to no layer.
    assert [layer.path for layer in layers] == ["layers.0", "layers.0", "layers.1", "layers.1"]
    model.zero_grad()
    weights = torch.full((BATCH,), 0.25, dtype=torch.float64)
    with record_calls(layers, BATCH, 0, weights) as recording:
        (0.25 * losses().sum()).backward()
    for layer in layers:
        found = next(recording.samples(layer, dtype=torch.float64)).gradients()
        alone = torch.stack([grads[id(layer.weight)] for grads in expected])
        torch.testing.assert_close(found, alone, rtol=1e-9, atol=1e-13)


def test_rates_out_of_range_are_named():
    with pytest.raises(ValueError, match=r"^dropout.weights must be >= 0 and < 1, got 1.0$"):
        DropoutRates(weights=1.0)
    with pytest.raises(ValueError, match=r"^dropout.words must be >= 0 and < 1, got -0.1$"):
        DropoutRates(words=-0.1)


def test_a_layer_starts_and_computes_as_torchs():
    torch.manual_seed(5)
    layer = LSTMLayer(3, 4)
    torch.manual_seed(5)
    reference = nn.LSTM(3, 4, batch_first=True)
    for name, parameter in layer.named_parameters():
        assert torch.equal(parameter, reference.get_parameter(f"{name}_l0"))
    x, h, c = torch.randn(2, 5, 3), torch.randn(2, 4), torch.randn(2, 4)
    outputs, (hidden, cell) = reference(x, (h[None], c[None]))
    for a, b in zip(layer(x, h, c), (outputs, hidden[0], cell[0]), strict=True):
        torch.testing.assert_close(a, b)
