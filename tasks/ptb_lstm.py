"""Character-level language modelling of the Penn Treebank (GGT, Fig. 3 and 4 bottom)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.base import Batch, CurvatureInfo, Task
from tasks.carried import CarriedState
from tasks.checks import check_at_least, check_choice, check_number, check_sizes
from tasks.data import ptb
from tasks.data.store import content_hash, require
from tasks.data.streams import Streams, frequency_loss, mean_loss, perplexity
from tasks.models.lstm import SymbolLSTM


class PTBLSTM(Task):
    """Predict the next character of the Penn Treebank with a stacked LSTM.

    Training text is cut into `batch_size` contiguous streams; batch k of an epoch holds symbols
    k * bptt to (k + 1) * bptt of every stream, and the state of the LSTM is carried, detached,
    from batch to batch (truncated back-propagation through time). Each epoch begins with a zero
    state; what is left of the text at its end is not used (fewer than batch_size * (bptt + 1)
    symbols). The loss is the mean over symbols, in nats.

    Evaluation predicts every symbol of the split exactly once, from the symbol before it and the
    carried state. The split is cut into `eval_streams` contiguous streams that run side by side,
    each from a zero state; the symbol before the split's first one is taken to be an end of line.
    The result does not depend on batch_size or bptt. Metrics: loss in nats a symbol, and
    perplexity = exp(loss).

    Args:
        data_dir: folder of the data sets.
        vocab_size: 50: 49 symbols and the end of line.
        embedding_size, hidden_size, num_layers, dropout: of the model (`SymbolLSTM`).
        bptt: symbols a stream contributes to a batch.
        eval_streams: streams in evaluation; more are faster, and each begins without context.
        eval_chars: symbols of a split that are evaluated; None for all.
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
        dropout: float,
        bptt: int,
        eval_streams: int,
        eval_chars: int | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        check_choice("data", self.data, ("ptb",))
        check_at_least("vocab_size", vocab_size, len(ptb.SYMBOLS))
        sizes = {"embedding_size": embedding_size, "hidden_size": hidden_size, "bptt": bptt}
        sizes |= {"num_layers": num_layers, "eval_streams": eval_streams}
        check_sizes(sizes, {"eval_chars": eval_chars})
        check_number("dropout", dropout, least=0, below=1)
        self.data_dir = data_dir
        self.vocab_size = vocab_size
        self.embedding_size = embedding_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.dropout = dropout
        self.bptt = bptt
        self.eval_streams = eval_streams
        self.eval_chars = eval_chars
        self._carried = CarriedState(("hidden", "cell"))

    def data_hash(self) -> str:
        """Hash of the three character files, from the committed list."""
        return content_hash(self.data, ptb.CHAR_FILES)

    def make_model(self) -> nn.Module:
        """The LSTM with torch's initial values, U(+-1/sqrt(hidden_size)) in the LSTM layers."""
        return SymbolLSTM(
            self.vocab_size, self.embedding_size, self.hidden_size, self.num_layers, self.dropout
        )

    def setup(self, device: torch.device | str, dtype: torch.dtype) -> None:
        """Verify, read and encode the text; `dtype` does not matter, as symbols are integers."""
        folder = require(self.data, self.data_dir, ptb.CHAR_FILES)
        self._text = {
            split: torch.from_numpy(ptb.read_symbols(folder / file)).to(device)
            for split, file in zip(self.splits, ptb.CHAR_FILES, strict=True)
        }
        self._streams = Streams.of(self._text["train"], self.batch_size, self.bptt)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in a pass over the streams."""
        return len(self._streams)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield inputs and targets (the inputs one symbol on), each (batch_size, bptt), int64."""
        return self._streams.epoch(epoch, start)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy over the symbols of the batch, in nats.

        A batch that is given again (a closure called twice) starts from the same state again;
        the next batch starts where this one ended.
        """
        logits, state = model(batch.inputs, self._carried.enter(batch))
        self._carried.leave(state)
        return F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())

    def measure(self, model: nn.Module, split: str) -> dict[str, float]:
        """Loss and perplexity over the whole split, summed in float64."""
        text = self._text[split][: self.eval_chars]
        loss = mean_loss(model, text, self.eval_streams, ptb.NEWLINE)
        return {"loss": loss, "perplexity": perplexity(loss)}

    def facts(self) -> dict[str, float]:
        """`trivial`: the target's metric from the frequencies of the training symbols."""
        text = self._text[self.target.split][: self.eval_chars]
        loss = frequency_loss(self._text["train"], text, self.vocab_size)
        return self.trivial({"loss": loss, "perplexity": perplexity(loss)})

    @contextlib.contextmanager
    def curvature_pass(self, batch: Batch) -> Iterator[CurvatureInfo]:
        """A sample is one stream's sequence, its loss the sum over bptt symbols."""
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
