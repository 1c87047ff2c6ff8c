"""AWD-LSTM: a language model of words under many kinds of dropout [Merity et al. 2018]."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.checks import check_number

_EMBEDDING_BOUND = 0.1


@dataclass(frozen=True)
class DropoutRates:
    """Rates of an AWD-LSTM, each in [0, 1).

    Args:
        words: of whole words, in their rows of the embedding.
        inputs: of the embedding's features, the same at all positions of a sequence, as are
        hidden: those of the outputs between LSTM layers and
        outputs: those of the last layer's outputs.
        weights: of the entries of every hidden-to-hidden matrix, the same for a whole batch.

    Raises:
        ValueError: for a rate outside [0, 1).
    """

    words: float = 0.0
    inputs: float = 0.0
    hidden: float = 0.0
    outputs: float = 0.0
    weights: float = 0.0

    def __post_init__(self) -> None:
        for name, rate in vars(self).items():
            check_number(f"dropout.{name}", rate, least=0, below=1)


class Prediction(NamedTuple):
    """What an AWD-LSTM gives.

    Attributes:
        logits: shape (batch, length, vocab_size).
        state: hidden and cell state of each layer in turn, each (batch, size).
        outputs: of the last layer, before dropout, shape (batch, length, size).
        dropped: the same after dropout.
    """

    logits: Tensor
    state: tuple[Tensor, ...]
    outputs: Tensor
    dropped: Tensor


class AWDLSTM(nn.Module):
    """Predict the next word from those before it.

    Embedding, LSTM layers of `hidden_size`, linear read-out whose weight is the embedding's: the
    last LSTM layer has `embedding_size` then. In training mode, dropout as `DropoutRates` says;
    masks come from the global generator. Embedding U(+-0.1), read-out bias 0, LSTM layers as
    torch starts them, U(+-1/sqrt(size)).

    Args:
        vocab_size: number of words.
        embedding_size: width of the embedding.
        hidden_size: width of all LSTM layers, or of all but the last if tied.
        num_layers: LSTM layers.
        rates: of dropout.
        tied: one weight for embedding and read-out.
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int,
        hidden_size: int,
        num_layers: int,
        rates: DropoutRates,
        tied: bool = True,
    ) -> None:
        super().__init__()
        last = embedding_size if tied else hidden_size
        sizes = [embedding_size, *[hidden_size] * (num_layers - 1), last]
        self.embedding = nn.Embedding(vocab_size, embedding_size)
        self.layers = nn.ModuleList(LSTMLayer(before, size) for before, size in pairwise(sizes))
        self.readout = nn.Linear(last, vocab_size)
        self.rates = rates
        nn.init.uniform_(self.embedding.weight, -_EMBEDDING_BOUND, _EMBEDDING_BOUND)
        nn.init.uniform_(self.readout.weight, -_EMBEDDING_BOUND, _EMBEDDING_BOUND)
        nn.init.zeros_(self.readout.bias)
        if tied:
            self.readout.weight = self.embedding.weight

    def forward(self, words: Tensor, state: tuple[Tensor, ...] | None = None) -> Prediction:
        """Predict from words (batch, length), int64.

        Args:
            state: before the first word; None for zeros.
        """
        x = self._embed(words)
        after: list[Tensor] = []
        for index, layer in enumerate(self.layers):
            x = self._across_time(x, self.rates.hidden if index else self.rates.inputs)
            shape = (len(words), layer.hidden_size)
            hidden, cell = state[2 * index : 2 * index + 2] if state else [x.new_zeros(shape)] * 2
            x, hidden, cell = layer(x, hidden, cell, self._kept_weights(layer))
            after += [hidden, cell]
        dropped = self._across_time(x, self.rates.outputs)
        return Prediction(self.readout(dropped), tuple(after), x, dropped)

    def _embed(self, words: Tensor) -> Tensor:
        x = self.embedding(words)
        if self.training and self.rates.words:
            # One factor a word of the vocabulary: dropped, it is so wherever it stands.
            kept = F.dropout(x.new_ones(self.embedding.num_embeddings), self.rates.words)
            x = x * kept[words].unsqueeze(-1)
        return x

    def _across_time(self, x: Tensor, rate: float) -> Tensor:
        """Dropout whose mask is the same at all positions of a sequence."""
        if not (self.training and rate):
            return x
        return x * F.dropout(x.new_ones(len(x), 1, x.shape[-1]), rate)

    def _kept_weights(self, layer: LSTMLayer) -> Tensor | None:
        if not (self.training and self.rates.weights):
            return None
        return F.dropout(torch.ones_like(layer.weight_hh), self.rates.weights)


class LSTMLayer(nn.Module):
    """One LSTM layer, with torch's gates and start, whose hidden-to-hidden weight can be dropped.

    A layer of its own rather than a changed `nn.LSTM`: gradients reach the whole weight through
    the product with its mask, and nothing is put in the place of a parameter.

    Args:
        input_size: width of its inputs.
        hidden_size: width of its outputs.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, hidden_size))
        self.bias_ih = nn.Parameter(torch.empty(4 * hidden_size))
        self.bias_hh = nn.Parameter(torch.empty(4 * hidden_size))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(hidden_size**-0.5), hidden_size**-0.5)

    def forward(
        self, inputs: Tensor, hidden: Tensor, cell: Tensor, kept: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Outputs (batch, length, hidden_size), last hidden and last cell state.

        Args:
            inputs: shape (batch, length, input_size).
            hidden, cell: state before the first input, each (batch, hidden_size).
            kept: factors of `weight_hh`; None: all are 1.
        """
        recurrent = self.weight_hh if kept is None else self.weight_hh * kept
        weights = [self.weight_ih, recurrent, self.bias_ih, self.bias_hh]
        return _lstm(inputs, hidden, cell, weights, self.training)


# Compiled code would unroll the fused kernel: a minute to compile for what runs no faster.
@torch.compiler.disable
def _lstm(
    inputs: Tensor, hidden: Tensor, cell: Tensor, weights: list[Tensor], training: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """torch's fused LSTM: with biases, one layer, no dropout, one direction, batch first."""
    # cuDNN wants its weights in one piece, in this order; it would copy them in every call, with
    # a warning.
    flat = torch.cat([weight.flatten() for weight in weights])
    pieces = flat.split([weight.numel() for weight in weights])
    weights = [piece.view_as(weight) for piece, weight in zip(pieces, weights, strict=True)]
    state = (hidden.unsqueeze(0), cell.unsqueeze(0))
    outputs, hidden, cell = torch.lstm(inputs, state, weights, True, 1, 0.0, training, False, True)
    return outputs, hidden.squeeze(0), cell.squeeze(0)
