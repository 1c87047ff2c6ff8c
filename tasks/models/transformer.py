"""Encoder-decoder Transformer of fairseq's `transformer_iwslt_de_en_v2`, layer norms in front."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.checks import check_number, check_sizes

MAX_LENGTH = 1024  # tokens of a sentence, as in fairseq
_WAVELENGTH = 10000  # longest wavelength of the positions, over 2 pi [Vaswani et al. 2017]

KeysValues = tuple[Tensor, Tensor]  # each (batch, num_heads, length, dim / num_heads)


@dataclass(frozen=True)
class Memory:
    """What the decoder reads of a batch of source sentences.

    Args:
        keys_values: of each decoder layer.
        mask: True at tokens, False at padding, shape (batch, 1, 1, length).
    """

    keys_values: list[KeysValues]
    mask: Tensor


class Transformer(nn.Module):
    """Translate: source tokens and the target's tokens so far -> the next token.

    Each sub-layer is x + dropout(f(norm(x))), with a norm after the last layer of either side
    [Wang et al. 2019]. One table embeds both languages and reads out; embeddings are multiplied by
    sqrt(dim) and added to sinusoidal positions. Padding may stand at the right only.

    As in fairseq the table starts from N(0, 1/dim) with zeros for padding, linear layers from
    Xavier's uniform distribution with zero biases; queries, keys and values from 1/sqrt(2) of it,
    as if they were one matrix, with torch's U(+-1/sqrt(dim)) for their biases.

    Args:
        vocab_size: tokens of both languages together.
        dim: width of the residual stream; even, and a multiple of num_heads.
        hidden_size: width within the feed-forward layers.
        num_heads: attention heads.
        num_layers: layers of the encoder, and of the decoder.
        dropout: rate on embeddings and on what each sub-layer adds.
        attention_dropout: rate on attention weights.
        relu_dropout: rate within the feed-forward layers.
        padding: number of the padding token.
    Raises:
        ValueError: for sizes below 1, rates outside [0, 1), or a dim that is odd or no multiple of
            num_heads.
    """

    def __init__(
        self,
        vocab_size: int,
        dim: int,
        hidden_size: int,
        num_heads: int,
        num_layers: int,
        dropout: float,
        attention_dropout: float,
        relu_dropout: float,
        padding: int,
    ) -> None:
        super().__init__()
        lengths = {"vocab_size": vocab_size, "dim": dim, "hidden_size": hidden_size}
        check_sizes(lengths | {"num_heads": num_heads, "num_layers": num_layers})
        rates = {"dropout": dropout, "attention_dropout": attention_dropout}
        for name, rate in (rates | {"relu_dropout": relu_dropout}).items():
            check_number(name, rate, least=0, below=1)
        if dim % 2 or dim % num_heads:
            raise ValueError(
                f"dim must be even and a multiple of num_heads ({num_heads}), got {dim}"
            )
        self.padding = padding
        self.scale = math.sqrt(dim)
        self.embedding = nn.Embedding(vocab_size, dim, padding_idx=padding)
        nn.init.normal_(self.embedding.weight, std=1 / self.scale)
        nn.init.zeros_(self.embedding.weight[padding])
        # Numbered from padding + 1, as in fairseq.
        table = sinusoids(padding + 1 + MAX_LENGTH, dim)[padding + 1 :]
        self.register_buffer("positions", table, persistent=False)
        self.dropout = nn.Dropout(dropout)
        sizes = (dim, hidden_size, num_heads, dropout, attention_dropout, relu_dropout)
        self.encoder = nn.ModuleList(_EncoderLayer(*sizes) for _ in range(num_layers))
        self.encoder_norm = nn.LayerNorm(dim)
        self.decoder = nn.ModuleList(_DecoderLayer(*sizes) for _ in range(num_layers))
        self.decoder_norm = nn.LayerNorm(dim)
        # A layer of its own, so that whoever asks finds two modules that share a weight.
        self.readout = nn.Linear(dim, vocab_size, bias=False)
        self.readout.weight = self.embedding.weight

    def forward(self, source: Tensor, previous: Tensor) -> Tensor:
        """Logits of the next token: (batch, S) and (batch, T) int64 -> (batch, T, vocab_size)."""
        hidden, _ = self.decode(previous, self.encode(source))
        return self.readout(hidden)

    def encode(self, source: Tensor) -> Memory:
        """Read source sentences, (batch, S) int64."""
        mask = (source != self.padding)[:, None, None]
        x = self._embed(source, 0)
        for layer in self.encoder:
            x = layer(x, mask)
        x = self.encoder_norm(x)
        return Memory([layer.cross_attention.keys_values(x) for layer in self.decoder], mask)

    def decode(
        self, previous: Tensor, memory: Memory, past: list[KeysValues] | None = None
    ) -> tuple[Tensor, list[KeysValues]]:
        """Read target tokens up to each position.

        Args:
            previous: tokens, shape (rows, T), int64. Rows are num_hypotheses for each sentence of
                the memory, one after another; more than one only with T = 1.
            past: what this method returned for the tokens before, shape (rows, ...); only T = 1.
        Returns:
            Hidden states (rows, T, dim), and keys and values of each layer's self-attention.
        """
        x = self._embed(previous, 0 if past is None else past[0][0].shape[2])
        present = []
        for index, layer in enumerate(self.decoder):
            before = None if past is None else past[index]
            x, keys_values = layer(x, memory.keys_values[index], memory.mask, before)
            present.append(keys_values)
        return self.decoder_norm(x), present

    def _embed(self, tokens: Tensor, first: int) -> Tensor:
        positions = self.positions[first : first + tokens.shape[1]]
        return self.dropout(self.scale * self.embedding(tokens) + positions)


def sinusoids(length: int, dim: int) -> Tensor:
    """Positions as fairseq has them: sines in the first half of `dim`, cosines in the second.

    sin(p w_k), cos(p w_k) with w_k = 10000^(-k / (dim/2 - 1)), float32, shape (length, dim).
    """
    half = dim // 2
    exponents = torch.arange(half, dtype=torch.float64) / max(half - 1, 1)
    angles = torch.arange(length, dtype=torch.float64)[:, None] * _WAVELENGTH**-exponents
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()


class _Attention(nn.Module):
    def __init__(self, dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.output = nn.Linear(dim, dim)
        for layer in (self.query, self.key, self.value):
            nn.init.xavier_uniform_(layer.weight, gain=1 / math.sqrt(2))
        _xavier(self.output)

    def keys_values(self, x: Tensor) -> KeysValues:
        return self._heads(self.key(x)), self._heads(self.value(x))

    def forward(
        self, x: Tensor, keys_values: KeysValues, mask: Tensor | None = None, causal: bool = False
    ) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(
            self._heads(self.query(x)), *keys_values, mask, dropout, causal
        )
        return self.output(attended.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)


class _FeedForward(nn.Module):
    def __init__(self, dim: int, hidden_size: int, dropout: float) -> None:
        super().__init__()
        self.inner = nn.Linear(dim, hidden_size)
        self.outer = nn.Linear(hidden_size, dim)
        self.dropout = nn.Dropout(dropout)
        _xavier(self.inner)
        _xavier(self.outer)

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(self.dropout(F.relu(self.inner(x))))


class _EncoderLayer(nn.Module):
    def __init__(
        self,
        dim: int,
        hidden_size: int,
        num_heads: int,
        dropout: float,
        attention_dropout: float,
        relu_dropout: float,
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = _Attention(dim, num_heads, attention_dropout)
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.feed_forward = _FeedForward(dim, hidden_size, relu_dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        normed = self.attention_norm(x)
        keys_values = self.attention.keys_values(normed)
        x = x + self.dropout(self.attention(normed, keys_values, mask))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class _DecoderLayer(nn.Module):
    def __init__(
        self,
        dim: int,
        hidden_size: int,
        num_heads: int,
        dropout: float,
        attention_dropout: float,
        relu_dropout: float,
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = _Attention(dim, num_heads, attention_dropout)
        self.cross_attention_norm = nn.LayerNorm(dim)
        self.cross_attention = _Attention(dim, num_heads, attention_dropout)
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.feed_forward = _FeedForward(dim, hidden_size, relu_dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, memory: KeysValues, mask: Tensor, past: KeysValues | None
    ) -> tuple[Tensor, KeysValues]:
        normed = self.attention_norm(x)
        keys, values = self.attention.keys_values(normed)
        if past is not None:
            keys, values = torch.cat([past[0], keys], 2), torch.cat([past[1], values], 2)
        attended = self.attention(normed, (keys, values), causal=past is None)
        x = x + self.dropout(attended)
        # The hypotheses of a sentence read one memory, as if they were positions of one row.
        normed = self.cross_attention_norm(x).reshape(len(mask), -1, x.shape[2])
        attended = self.cross_attention(normed, memory, mask).view_as(x)
        x = x + self.dropout(attended)
        x = x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        return x, (keys, values)


def _xavier(layer: nn.Linear) -> None:
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
