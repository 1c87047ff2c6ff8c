"""Word-level language modelling of the Penn Treebank with the AWD-LSTM (GGT, section 3.3)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.base import Batch
from tasks.checks import check_at_least, check_flag, check_number, check_sizes
from tasks.data import ptb
from tasks.models.awd_lstm import AWDLSTM, DropoutRates
from tasks.streamed_text import StreamedText


class PTBWordLSTM(StreamedText):
    """Predict the next word of the Penn Treebank with the AWD-LSTM [Merity et al. 2018].

    Training, evaluation and metrics are those of `StreamedText`. The loss, in nats, is

        mean cross-entropy + activation_penalty * mean(dropped^2)
            + slowness_penalty * mean((h_t - h_{t-1})^2)

    with h the outputs of the last LSTM layer and `dropped` these after dropout: what Merity et al.
    call AR and TAR. The training loss that is recorded is this sum; evaluation has no such terms.

    Departures from the authors' code: batches have one length, `bptt`, where theirs is drawn for
    each, from N(bptt, 5) or, one time in twenty, N(bptt/2, 5), and scales the learning rate. It is
    there so that the cuts fall elsewhere in each epoch; here an epoch begins at a drawn word of
    the first `bptt` for the same end. Averaging (NT-ASGD) is `average_last`, from a step that is
    given, and not from when validation stops improving.

    Args:
        vocab_size: 10,000: 9,999 words and the end of line. Below, the rarest count as <unk>.
        embedding_size, hidden_size, num_layers, tied, dropout: of the model (`AWDLSTM`).
        activation_penalty, slowness_penalty: weights of the two terms of the loss above.
        bptt: words a stream contributes to a batch.
        eval_words: words of a split that are evaluated; None for all.
        common: of `StreamedText` and `Task`.
    Raises:
        ValueError: on an option out of range.
    """

    files = ptb.WORD_FILES
    end_of_line = ptb.EOS

    def __init__(
        self,
        *,
        vocab_size: int,
        embedding_size: int,
        hidden_size: int,
        num_layers: int,
        dropout: DropoutRates,
        tied: bool,
        activation_penalty: float,
        slowness_penalty: float,
        bptt: int,
        eval_words: int | None = None,
        **common: Any,
    ) -> None:
        sizes = {"embedding_size": embedding_size, "hidden_size": hidden_size}
        check_sizes(sizes | {"num_layers": num_layers})
        layers = range(1, num_layers + 1)
        super().__init__(
            vocab_size=vocab_size,
            bptt=bptt,
            evaluated={"eval_words": eval_words},
            shifted=True,
            carried=[f"{kind}{n}" for n in layers for kind in ("hidden", "cell")],
            **common,
        )
        check_at_least("vocab_size", vocab_size, 2)
        check_at_least("bptt", bptt, 2)  # the slowness of an output needs the one before it
        check_number("activation_penalty", activation_penalty, least=0)
        check_number("slowness_penalty", slowness_penalty, least=0)
        check_flag("tied", tied)
        if not isinstance(dropout, DropoutRates):
            raise ValueError(
                f"dropout must be rates of {', '.join(vars(DropoutRates()))}, got {dropout}"
            )
        self.embedding_size = embedding_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.dropout = dropout
        self.tied = tied
        self.activation_penalty = activation_penalty
        self.slowness_penalty = slowness_penalty

    def make_model(self) -> nn.Module:
        """The AWD-LSTM with its authors' initial values."""
        return AWDLSTM(
            self.vocab_size,
            self.embedding_size,
            self.hidden_size,
            self.num_layers,
            self.dropout,
            self.tied,
        )

    def read(self, folder: Path) -> dict[str, np.ndarray]:
        """Read the words of each split, numbered as the training text's vocabulary has them."""
        vocabulary = ptb.read_vocabulary(folder / self.files[0], self.vocab_size)
        return {
            split: ptb.read_words(folder / file, vocabulary)
            for split, file in zip(self.splits, self.files, strict=True)
        }

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss that the class states.

        A batch that is given again (a closure called twice) starts from the same state again;
        the next batch starts where this one ended.
        """
        prediction = model(batch.inputs, self._carried.enter(batch))
        self._carried.leave(prediction.state)
        loss = F.cross_entropy(prediction.logits.flatten(0, 1), batch.targets.flatten())
        # In the precision of the cross-entropy: under autocast the outputs are in bfloat16.
        if self.activation_penalty:
            dropped = prediction.dropped.to(loss.dtype)
            loss = loss + self.activation_penalty * dropped.square().mean()
        if self.slowness_penalty:
            outputs = prediction.outputs.to(loss.dtype)
            loss = loss + self.slowness_penalty * outputs.diff(dim=1).square().mean()
        return loss
