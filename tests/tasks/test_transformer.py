"""The Transformer: size, torch's own with copied weights, masks, writing token by token."""

import copy
import math

import pytest
import torch
from torch import nn

from tasks.models.beam_search import TransformerDecoder
from tasks.models.transformer import MAX_LENGTH, Transformer, sinusoids

PADDING, END = 1, 2


def make(**changes):
    options = {
        "vocab_size": 13,
        "dim": 8,
        "hidden_size": 12,
        "num_heads": 2,
        "num_layers": 2,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "relu_dropout": 0.0,
        "padding": PADDING,
    }
    torch.manual_seed(0)
    return Transformer(**{**options, **changes})


def sentences():
    """Source and target tokens so far of three pairs, padded at the right."""
    generator = torch.Generator().manual_seed(1)
    source = torch.randint(3, 13, (3, 6), generator=generator)
    previous = torch.randint(3, 13, (3, 5), generator=generator)
    for row, (s, t) in enumerate([(6, 3), (4, 5), (2, 1)]):
        source[row, s:], previous[row, t:] = PADDING, PADDING
    return source, previous


def test_the_papers_size():
    # The dictionary of fairseq's preparation has 10,152 types; its log says 36,741,120 parameters
    # for the same model with norms behind, which lacks the two last norms of 2 * 512 each.
    model = make(vocab_size=10152, dim=512, hidden_size=1024, num_heads=4, num_layers=6)
    assert sum(p.numel() for p in model.parameters()) == 36_741_120 + 2 * 2 * 512


def copied_to_torch(model, num_heads=2):
    """torch.nn.Transformer with the model's weights."""
    dim, hidden = (
        model.encoder_norm.weight.numel(),
        model.encoder[0].feed_forward.inner.out_features,
    )
    layers = len(model.encoder)
    other = nn.Transformer(
        dim, num_heads, layers, layers, hidden, 0.0, batch_first=True, norm_first=True
    ).double()

    def copy_attention(theirs, ours):
        parts = (ours.query, ours.key, ours.value)
        theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        theirs.out_proj.load_state_dict(ours.output.state_dict())

    def copy_rest(theirs, ours, norms):
        theirs.linear1.load_state_dict(ours.feed_forward.inner.state_dict())
        theirs.linear2.load_state_dict(ours.feed_forward.outer.state_dict())
        for index, norm in enumerate(norms, start=1):
            getattr(theirs, f"norm{index}").load_state_dict(getattr(ours, norm).state_dict())

    with torch.no_grad():
        for theirs, ours in zip(other.encoder.layers, model.encoder, strict=True):
            copy_attention(theirs.self_attn, ours.attention)
            copy_rest(theirs, ours, ("attention_norm", "feed_forward_norm"))
        for theirs, ours in zip(other.decoder.layers, model.decoder, strict=True):
            copy_attention(theirs.self_attn, ours.attention)
            copy_attention(theirs.multihead_attn, ours.cross_attention)
            norms = ("attention_norm", "cross_attention_norm", "feed_forward_norm")
            copy_rest(theirs, ours, norms)
        other.encoder.norm.load_state_dict(model.encoder_norm.state_dict())
        other.decoder.norm.load_state_dict(model.decoder_norm.state_dict())
    return other


def noisy(model):
    """Norms and biases away from their start, so that each of them counts."""
    generator = torch.Generator().manual_seed(2)
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return model.double()


# torch's transformer says that its fast path is not taken with norms in front.
@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning")
def test_forward_and_gradient_are_those_of_torchs_transformer():
    model = noisy(make())
    other = copied_to_torch(model)
    source, previous = sentences()

    def embed(tokens):
        at = torch.arange(tokens.shape[1]) + PADDING + 1
        rows = model.embedding.weight[tokens] * (tokens != PADDING)[..., None]
        rows = rows + model.embedding.weight[PADDING] * (tokens == PADDING)[..., None]
        return math.sqrt(8) * rows + sinusoids(20, 8)[at].double()

    causal = torch.ones(5, 5, dtype=torch.bool).triu(1)
    hidden = other(
        embed(source),
        embed(previous),
        tgt_mask=causal,
        src_key_padding_mask=source == PADDING,
        memory_key_padding_mask=source == PADDING,
    )
    expected = hidden @ model.embedding.weight.T
    logits = model(source, previous)
    real = previous != PADDING
    torch.testing.assert_close(logits[real], expected[real])
    weight = model.encoder[0].attention.value.weight
    (ours,) = torch.autograd.grad(logits[real].square().sum(), weight)
    (theirs,) = torch.autograd.grad(
        expected[real].square().sum(), other.encoder.layers[0].self_attn.in_proj_weight
    )
    torch.testing.assert_close(ours, theirs[16:])


def test_positions_follow_the_formula():
    table = sinusoids(50, 6)
    for position in (0, 1, 7, 49):
        for k in range(3):
            angle = position * 10000 ** (-k / 2)
            # The table is float32.
            assert table[position, k].item() == pytest.approx(math.sin(angle), abs=1e-7)
            assert table[position, 3 + k].item() == pytest.approx(math.cos(angle), abs=1e-7)
    model = make(dim=6)
    # The first token stands at padding + 1.
    torch.testing.assert_close(model.positions, sinusoids(MAX_LENGTH + 2, 6)[2:])
    assert "positions" not in model.state_dict()


def test_padding_changes_nothing():
    model = noisy(make())
    source, previous = sentences()
    together = model(source, previous)
    for row in range(3):
        s, t = (source[row] != PADDING).sum(), (previous[row] != PADDING).sum()
        alone = model(source[row : row + 1, :s], previous[row : row + 1, :t])
        torch.testing.assert_close(together[row : row + 1, :t], alone)


def test_padding_has_no_gradient():
    model = noisy(make())
    source, previous = sentences()
    seen = []

    def watch(module, given, output):
        output.register_hook(seen.append)

    handle = model.encoder[0].register_forward_hook(watch)
    model(source, previous)[previous != PADDING].square().sum().backward()
    handle.remove()
    assert (seen[0][source == PADDING] == 0).all()
    assert (seen[0][source != PADDING] != 0).any()


def test_no_position_sees_a_later_one():
    model = noisy(make())
    source, previous = sentences()
    changed = previous.clone()
    changed[1, 3] = 3 + (changed[1, 3] - 2) % 10
    first, second = model(source, previous), model(source, changed)
    assert torch.equal(first[1, :3], second[1, :3])
    assert not torch.equal(first[1, 3], second[1, 3])


def test_token_by_token_is_the_whole_at_once():
    """Three hypotheses a sentence, reordered and with a sentence dropped on the way."""
    model = noisy(make()).eval()
    source, _ = sentences()
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(3, 13, (9, 4), generator=generator)
    decoder = TransformerDecoder(model, source)
    for step in range(2):
        found = decoder.advance(tokens[:, step])
    expected = model(source.repeat_interleave(3, 0), tokens[:, :2])[:, -1].log_softmax(1)
    torch.testing.assert_close(found, expected)
    rows, kept = torch.tensor([5, 3, 3, 6, 8, 7]), torch.tensor([1, 2])
    decoder.select(rows, kept)
    tokens = tokens[rows]
    for step in range(2, 4):
        found = decoder.advance(tokens[:, step])
    expected = model(source[kept].repeat_interleave(3, 0), tokens)[:, -1].log_softmax(1)
    torch.testing.assert_close(found, expected)


def test_totals_are_never_added_up_in_bfloat16():
    model = noisy(make()).float().eval()
    source, _ = sentences()
    decoder = TransformerDecoder(model, source)
    with torch.autocast("cpu", torch.bfloat16):
        found = decoder.advance(torch.full((len(source),), 3))
    assert found.dtype == torch.float32
    # Log-probabilities, to float32's rounding and not to bfloat16's.
    torch.testing.assert_close(found.logsumexp(1), torch.zeros(len(source)), atol=1e-5, rtol=0)


def test_initial_values():
    model = make(vocab_size=2000, dim=64, hidden_size=96, num_heads=4)
    table = model.embedding.weight
    assert (table[PADDING] == 0).all()
    # 128,000 draws: the deviation is known to 0.2 %.
    assert table.std().item() == pytest.approx(1 / 8, rel=0.01)
    layer = model.decoder[1]
    for attention in (layer.attention, layer.cross_attention):
        for part in (attention.query, attention.key, attention.value):
            # Xavier's sqrt(6 / (in + out)) over sqrt(2); 4,096 draws come close to the bound.
            bound = math.sqrt(6 / 128 / 2)
            assert 0.99 * bound < part.weight.abs().max() <= bound
            assert 0 < part.bias.abs().max() <= 1 / 8
        assert attention.output.weight.abs().max().item() == pytest.approx(
            math.sqrt(6 / 128), rel=0.01
        )
        assert (attention.output.bias == 0).all()
    inner = layer.feed_forward.inner
    assert inner.weight.abs().max().item() == pytest.approx(math.sqrt(6 / 160), rel=0.01)
    assert (inner.bias == 0).all() and (layer.feed_forward.outer.bias == 0).all()


def test_the_three_tables_are_one():
    model = make()
    for same in (model, copy.deepcopy(model), copy.deepcopy(model).double()):
        assert same.readout.weight is same.embedding.weight
    tables = [p for p in model.parameters() if p.shape == (13, 8)]
    assert len(tables) == 1


def test_the_model_compiles_as_one_graph():
    model = make().eval()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert torch.equal(compiled(*sentences()), model(*sentences()))


@pytest.mark.parametrize("rate", ["dropout", "attention_dropout", "relu_dropout"])
def test_each_dropout_counts_in_training_only(rate):
    model = noisy(make(**{rate: 0.5}))
    pair = sentences()
    model.train()
    assert not torch.equal(model(*pair), model(*pair))
    model.eval()
    assert torch.equal(model(*pair), model(*pair))
    torch.testing.assert_close(model(*pair), noisy(make()).eval()(*pair))


@pytest.mark.parametrize(("dim", "heads"), [(7, 1), (8, 3)])
def test_a_width_that_cannot_be_split_is_refused(dim, heads):
    with pytest.raises(ValueError, match=rf"dim must be even .* \({heads}\), got {dim}"):
        make(dim=dim, num_heads=heads)
