"""A language model of symbols: embedding, stacked LSTM, linear read-out."""

from __future__ import annotations

from torch import Tensor, nn

# Hidden and cell state, each (num_layers, batch, hidden_size).
State = tuple[Tensor, Tensor]


class SymbolLSTM(nn.Module):
    """Predict the next symbol from those before it.

    Args:
        vocab_size: number of symbols.
        embedding_size: width of the embedding.
        hidden_size: width of every LSTM layer.
        num_layers: LSTM layers.
        dropout: rate on the outputs of the embedding and of every LSTM layer.
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int,
        hidden_size: int,
        num_layers: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embedding_size)
        # nn.LSTM applies its dropout between layers only, and warns where there is one layer.
        between = dropout if num_layers > 1 else 0.0
        self.lstm = nn.LSTM(
            embedding_size, hidden_size, num_layers, batch_first=True, dropout=between
        )
        self.dropout = nn.Dropout(dropout)
        self.readout = nn.Linear(hidden_size, vocab_size)

    def forward(self, symbols: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Return logits (batch, length, vocab_size) and the state after the last symbol.

        Args:
            symbols: numbers of the symbols, shape (batch, length), int64.
            state: state before the first symbol; None for zeros.
        """
        output, state = self.lstm(self.dropout(self.embedding(symbols)), state)
        return self.readout(self.dropout(output)), state
