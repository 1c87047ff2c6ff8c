"""Word-level language modelling of the Penn Treebank with the AWD-LSTM (GGT, section 3.3)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.base import Batch, CurvatureInfo, Task
from tasks.carried import CarriedState
from tasks.checks import check_at_least, check_choice, check_flag, check_number, check_sizes
from tasks.data import ptb
from tasks.data.store import content_hash, require
from tasks.data.streams import Streams, frequency_loss, mean_loss, perplexity
from tasks.models.awd_lstm import AWDLSTM, DropoutRates


class PTBWordLSTM(Task):
    """Predict the next word of the Penn Treebank with the AWD-LSTM [Merity et al. 2018].

    Training text is cut into `batch_size` contiguous streams whose state is carried from batch to
    batch, as in `PTBLSTM`. The loss, in nats, is

        mean cross-entropy + activation_penalty * mean(dropped^2)
            + slowness_penalty * mean((h_t - h_{t-1})^2)

    with h the outputs of the last LSTM layer and `dropped` these after dropout: what Merity et al.
    call AR and TAR. The training loss that is recorded is this sum; evaluation has no such terms.

    Departures from the authors' code: batches have one length, `bptt`, where theirs is drawn for
    each, from N(bptt, 5) or, one time in twenty, N(bptt/2, 5), and scales the learning rate. It is
    there so that the cuts fall elsewhere in each epoch; here an epoch begins at a drawn word of
    the first `bptt` for the same end. Averaging (NT-ASGD) is `average_last`, from a step that is
    given, and not from when validation stops improving.

    Evaluation predicts every word of the split exactly once, the ends of lines included, from the
    word before it and the carried state. The split is cut into `eval_streams` contiguous streams
    that run side by side, each from a zero state; the word before the split's first one is taken
    to be an end of line. Metrics: loss in nats a word, and perplexity = exp(loss).

    Args:
        data_dir: folder of the data sets.
        vocab_size: 10,000: 9,999 words and the end of line. Below, the rarest count as <unk>.
        embedding_size, hidden_size, num_layers, tied, dropout: of the model (`AWDLSTM`).
        activation_penalty, slowness_penalty: weights of the two terms of the loss above.
        bptt: words a stream contributes to a batch.
        eval_streams: streams in evaluation; more are faster, and each begins without context.
        eval_words: words of a split that are evaluated; None for all.
    Raises:
        ValueError: on an option out of range.
    """

    splits = ptb.SPLITS

    def __init__(
        self,
        *,
        data_dir: str,
        vocab_size: int,
        embedding_size: int,
        hidden_size: int,
        num_layers: int,
        dropout: DropoutRates,
        tied: bool,
        activation_penalty: float,
        slowness_penalty: float,
        bptt: int,
        eval_streams: int,
        eval_words: int | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        check_choice("data", self.data, ("ptb",))
        # The slowness of an output needs the one before it.
        for name, value in {"vocab_size": vocab_size, "bptt": bptt}.items():
            check_at_least(name, value, 2)
        sizes = {"embedding_size": embedding_size, "hidden_size": hidden_size}
        sizes |= {"num_layers": num_layers, "eval_streams": eval_streams}
        check_sizes(sizes, {"eval_words": eval_words})
        check_number("activation_penalty", activation_penalty, least=0)
        check_number("slowness_penalty", slowness_penalty, least=0)
        check_flag("tied", tied)
        if not isinstance(dropout, DropoutRates):
            raise ValueError(
                f"dropout must be rates of {', '.join(vars(DropoutRates()))}, got {dropout}"
            )
        self.data_dir = data_dir
        self.vocab_size = vocab_size
        self.embedding_size = embedding_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.dropout = dropout
        self.tied = tied
        self.activation_penalty = activation_penalty
        self.slowness_penalty = slowness_penalty
        self.bptt = bptt
        self.eval_streams = eval_streams
        self.eval_words = eval_words
        layers = range(1, num_layers + 1)
        self._carried = CarriedState([f"{kind}{n}" for n in layers for kind in ("hidden", "cell")])

    def data_hash(self) -> str:
        """Hash of the three word files, from the committed list."""
        return content_hash(self.data, ptb.WORD_FILES)

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

    def setup(self, device: torch.device | str, dtype: torch.dtype) -> None:
        """Verify, read and encode the text; `dtype` does not matter, as words are integers."""
        folder = require(self.data, self.data_dir, ptb.WORD_FILES)
        vocabulary = ptb.read_vocabulary(folder / ptb.WORD_FILES[0], self.vocab_size)
        self._text = {
            split: torch.from_numpy(ptb.read_words(folder / file, vocabulary)).to(device)
            for split, file in zip(self.splits, ptb.WORD_FILES, strict=True)
        }
        self._streams = Streams.of(self._text["train"], self.batch_size, self.bptt, self.seed)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in a pass over the streams."""
        return len(self._streams)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield inputs and targets (the inputs one word on), each (batch_size, bptt), int64."""
        return self._streams.epoch(epoch, start)

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

    def measure(self, model: nn.Module, split: str) -> dict[str, float]:
        """Loss and perplexity over the whole split, summed in float64."""
        text = self._text[split][: self.eval_words]
        loss = mean_loss(model, text, self.eval_streams, ptb.EOS)
        return {"loss": loss, "perplexity": perplexity(loss)}

    def facts(self) -> dict[str, float]:
        """`trivial`: the target's metric from the frequencies of the training words."""
        text = self._text[self.target.split][: self.eval_words]
        loss = frequency_loss(self._text["train"], text, self.vocab_size)
        return self.trivial({"loss": loss, "perplexity": perplexity(loss)})

    @contextlib.contextmanager
    def curvature_pass(self, batch: Batch) -> Iterator[CurvatureInfo]:
        """A sample is one stream's sequence, its loss the sum over bptt words.

        The two terms on activations are means over streams as well: each has its share of them.
        The weight that embedding and read-out share belongs to no layer.
        """
        weight = 1 / batch.targets.numel()
        weights = torch.full((batch.num_samples,), weight, device=batch.targets.device)
        yield CurvatureInfo(batch.num_samples, 0, weights)

    def state_dict(self) -> dict[str, Any]:
        """Position of the last batch, and the state before and after it where there is one."""
        return self._carried.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the carried state, on the device of the text."""
        self._carried.load_state_dict(state, self._streams.symbols.device)

    def reset(self) -> None:
        """Forget the carried state: the next batch starts from zeros."""
        self._carried.reset()
