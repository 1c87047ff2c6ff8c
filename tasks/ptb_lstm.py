"""Character-level language modelling of the Penn Treebank (GGT, Fig. 3 and 4 bottom)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.base import Batch
from tasks.checks import check_at_least, check_number, check_sizes
from tasks.data import ptb
from tasks.models.lstm import SymbolLSTM
from tasks.streamed_text import StreamedText


class PTBLSTM(StreamedText):
    """Predict the next character of the Penn Treebank with a stacked LSTM.

    Training, evaluation and metrics are those of `StreamedText`. The loss is the mean over symbols,
    in nats; an epoch leaves out fewer than batch_size * (bptt + 1) symbols.

    Args:
        vocab_size: 50: 49 symbols and the end of line.
        embedding_size, hidden_size, num_layers, dropout: of the model (`SymbolLSTM`).
        eval_chars: symbols of a split that are evaluated; None for all.
        common: of `StreamedText` and `Task`.
    Raises:
        ValueError: on an option out of range.
    """

    files = ptb.CHAR_FILES
    end_of_line = ptb.NEWLINE

    def __init__(
        self,
        *,
        vocab_size: int,
        embedding_size: int,
        hidden_size: int,
        num_layers: int,
        dropout: float,
        eval_chars: int | None = None,
        **common: Any,
    ) -> None:
        super().__init__(
            vocab_size=vocab_size,
            evaluated={"eval_chars": eval_chars},
            shifted=False,
            carried=("hidden", "cell"),
            **common,
        )
        check_at_least("vocab_size", vocab_size, len(ptb.SYMBOLS))
        sizes = {"embedding_size": embedding_size, "hidden_size": hidden_size}
        check_sizes(sizes | {"num_layers": num_layers})
        check_number("dropout", dropout, least=0, below=1)
        self.embedding_size = embedding_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.dropout = dropout

    def make_model(self) -> nn.Module:
        """The LSTM with torch's initial values, U(+-1/sqrt(hidden_size)) in the LSTM layers."""
        return SymbolLSTM(
            self.vocab_size, self.embedding_size, self.hidden_size, self.num_layers, self.dropout
        )

    def read(self, folder: Path) -> dict[str, np.ndarray]:
        """Read the characters of each split."""
        return {
            split: ptb.read_symbols(folder / file)
            for split, file in zip(self.splits, self.files, strict=True)
        }

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy over the symbols of the batch, in nats.

        A batch that is given again (a closure called twice) starts from the same state again;
        the next batch starts where this one ended.
        """
        logits, state = model(batch.inputs, self._carried.enter(batch))
        self._carried.leave(state)
        return F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())
