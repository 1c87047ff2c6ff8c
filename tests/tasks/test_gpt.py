"""The transformer: its size and start, causality, and its forward pass against torch's layers."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from optimizers.capture.record import find_layers, record_calls
from tasks.models.gpt import GPT

VOCAB, CONTEXT, WIDTH, LAYERS, HEADS = 11, 7, 8, 3, 2


def make(**changes):
    options = {"dropout": 0.0, "tied": False}
    return GPT(VOCAB, CONTEXT, WIDTH, LAYERS, HEADS, **{**options, **changes}).double()


def symbols(batch=4, length=CONTEXT):
    return torch.randint(VOCAB, (batch, length), generator=torch.Generator().manual_seed(1))


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("context", "width", "num_layers", "num_heads", "expected"),
    [(128, 128, 5, 4, 1_020_800), (256, 384, 6, 6, 10_784_256)],
)
def test_the_sizes(context, width, num_layers, num_heads, expected):
    model = GPT(50, context, width, num_layers, num_heads)
    # Matrices of 12 width^2 in a block, 9 width biases, 4 width in its norms.
    formula = num_layers * (12 * width**2 + 13 * width) + (2 * 50 + context + 2) * width
    assert count(model) == formula == expected
    assert count(GPT(50, context, width, num_layers, num_heads, tied=True)) == expected - 50 * width


def reference(model, inputs):
    """torch's encoder under a causal mask with the model's weights."""
    layer = nn.TransformerEncoderLayer(
        WIDTH, HEADS, 4 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True
    )
    encoder = nn.TransformerEncoder(
        layer, LAYERS, nn.LayerNorm(WIDTH), enable_nested_tensor=False
    ).double()
    for theirs, ours in zip(encoder.layers, model.blocks, strict=True):
        pairs = {
            "self_attn.in_proj_": ours.attention.qkv,
            "self_attn.out_proj.": ours.attention.projection,
            "linear1.": ours.mlp.expansion,
            "linear2.": ours.mlp.projection,
            "norm1.": ours.attention_norm,
            "norm2.": ours.mlp_norm,
        }
        for name, module in pairs.items():
            for kind in ("weight", "bias"):
                theirs.get_parameter(f"{name}{kind}").data.copy_(module.get_parameter(kind).data)
    encoder.norm.load_state_dict(model.norm.state_dict())
    length = inputs.shape[1]
    mask = nn.Transformer.generate_square_subsequent_mask(length, dtype=torch.float64)
    x = model.embedding.weight[inputs] + model.positions.weight[:length]
    return encoder(x, mask=mask, is_causal=True) @ model.readout.weight.T


@pytest.mark.parametrize("length", [1, 5, CONTEXT])
def test_the_forward_pass_is_torchs(length):
    model = make()
    # Norms and biases start at 1 and 0, which would hide a mistake in them.
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    inputs = symbols(length=length)
    torch.testing.assert_close(model(inputs), reference(model, inputs), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("place", range(CONTEXT))
def test_a_later_symbol_changes_no_earlier_logit(place):
    model = make()
    inputs = symbols(1)
    changed = inputs.clone()
    changed[0, place] = (changed[0, place] + 1) % VOCAB
    before, after = model(inputs)[0], model(changed)[0]
    assert torch.equal(before[:place], after[:place])
    assert (before[place:] != after[place:]).any(dim=1).all()


def test_the_start():
    model = GPT(50, 64, 128, 4, 4)
    parts = dict(model.named_parameters())
    for name, parameter in parts.items():
        if name.endswith("bias"):
            assert not parameter.any()
        elif "norm" in name:
            assert (parameter == 1).all()
        else:
            last = name.endswith("projection.weight")
            # The deviation of 6,400 normal numbers and more is off by 0.9 % (one sigma).
            expected = 0.02 / 8**0.5 if last else 0.02
            assert parameter.std().item() == pytest.approx(expected, rel=0.04)
    inputs = torch.randint(50, (4, 64))
    loss = F.cross_entropy(model(inputs).flatten(0, 1), inputs.roll(-1, 1).flatten())
    # Logits of variance 128 * 0.02^2 = 0.05 add half of it.
    assert loss.item() == pytest.approx(math.log(50), abs=0.08)


def test_dropout_is_of_training_and_of_the_global_generator():
    model = make(dropout=0.5)
    torch.manual_seed(1)
    first, second = model(symbols()), model(symbols())
    torch.manual_seed(1)
    assert torch.equal(model(symbols()), first)
    assert not torch.equal(first, second)
    model.eval()
    plain = make()
    plain.load_state_dict(model.state_dict())
    state = torch.get_rng_state()
    assert torch.equal(model(symbols()), plain(symbols()))
    assert torch.equal(torch.get_rng_state(), state)


def test_attention_weights_are_dropped_too():
    """Without the other kinds, which come after it, two passes still differ."""
    model = make(dropout=0.5)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    assert not torch.equal(model(symbols()), model(symbols()))


def test_samples_are_recorded_in_every_matrix():
    """Per-sample gradients, those of positions included, are those of each sequence alone."""
    model = make()
    inputs = symbols()

    def losses():
        return model(inputs).sin().sum((1, 2))

    expected = []
    for index in range(len(inputs)):
        model.zero_grad()
        losses()[index].backward()
        expected.append({id(p): p.grad.clone() for p in model.parameters()})
    layers = find_layers(model, list(model.parameters()))
    assert len(layers) == 3 + 4 * LAYERS  # all but the norms
    model.zero_grad()
    with record_calls(layers, 4, 0, torch.full((4,), 0.5, dtype=torch.float64)) as recording:
        (0.5 * losses().sum()).backward()
    for layer in layers:
        found = next(recording.samples(layer, dtype=torch.float64)).gradients()
        for sample, grads in zip(found, expected, strict=True):
            alone = [grads[id(p)].reshape(layer.shape[0], -1) for p in layer.parameters]
            torch.testing.assert_close(sample, torch.cat(alone, 1), rtol=1e-9, atol=1e-13)


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match=r"^width must be a multiple of num_heads, got 8 and 3$"):
        GPT(VOCAB, CONTEXT, WIDTH, LAYERS, 3)
