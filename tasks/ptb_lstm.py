"""Character-level language modelling of the Penn Treebank (GGT, Fig. 3 and 4 bottom)."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.base import Batch, CurvatureInfo, Task, check_at_least, check_choice
from tasks.data import ptb
from tasks.data.store import content_hash, require
from tasks.models.lstm import State, SymbolLSTM

_IGNORED = -100
_EVAL_LENGTH = 100  # symbols a stream reads at a time: bounds memory, changes nothing else


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
        if eval_chars is not None:
            sizes["eval_chars"] = eval_chars
        for name, value in sizes.items():
            check_at_least(name, value, 1)
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be >= 0 and < 1, got {dropout}")
        self.data_dir = data_dir
        self.vocab_size = vocab_size
        self.embedding_size = embedding_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.dropout = dropout
        self.bptt = bptt
        self.eval_streams = eval_streams
        self.eval_chars = eval_chars
        self.reset()

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
        text = self._text["train"]
        length = len(text) // self.batch_size
        if length <= self.bptt:
            raise ValueError(
                f"batch_size * (bptt + 1) must be <= {len(text)}, the symbols of the training "
                f"text, got {self.batch_size} * ({self.bptt} + 1)"
            )
        self._streams = text[: self.batch_size * length].view(self.batch_size, length)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in a pass over the streams."""
        return (self._streams.shape[1] - 1) // self.bptt

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield inputs and targets (the inputs one symbol on), each (batch_size, bptt), int64."""
        for index in range(start, self.steps_per_epoch):
            first = index * self.bptt
            window = self._streams[:, first : first + self.bptt + 1].long()
            yield Batch(window[:, :-1], window[:, 1:], epoch, index, self.batch_size)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy over the symbols of the batch, in nats.

        A batch that is given again (a closure called twice) starts from the same state again;
        the next batch starts where this one ended.
        """
        position = (batch.epoch, batch.index)
        if position != self._position:
            self._entering = self._leaving if batch.index > 0 else None
            self._position = position
        logits, state = model(batch.inputs, self._entering)
        self._leaving = (state[0].detach(), state[1].detach())
        return F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())

    def measure(self, model: nn.Module, split: str) -> dict[str, float]:
        """Loss and perplexity over the whole split, summed in float64."""
        text = self._text[split][: self.eval_chars]
        num_symbols = len(text)
        length = -(-num_symbols // self.eval_streams)
        missing = length * self.eval_streams - num_symbols
        targets = F.pad(text.long(), (0, missing), value=_IGNORED).view(-1, length)
        before = F.pad(text.long(), (1, missing - 1 if missing else -1), value=ptb.NEWLINE)
        inputs = before.view(-1, length)
        total = torch.zeros((), dtype=torch.float64, device=text.device)
        state: State | None = None
        for first in range(0, length, _EVAL_LENGTH):
            chunk = slice(first, first + _EVAL_LENGTH)
            logits, state = model(inputs[:, chunk], state)
            total += F.cross_entropy(
                logits.flatten(0, 1),
                targets[:, chunk].flatten(),
                ignore_index=_IGNORED,
                reduction="sum",
            )
        loss = total.item() / num_symbols
        # exp overflows at 710, where no perplexity means anything.
        return {"loss": loss, "perplexity": math.inf if loss > 700 else math.exp(loss)}

    @contextlib.contextmanager
    def curvature_pass(self, batch: Batch) -> Iterator[CurvatureInfo]:
        """A sample is one stream's sequence, its loss the sum over bptt symbols."""
        weight = 1 / batch.targets.numel()
        weights = torch.full((batch.num_samples,), weight, device=batch.targets.device)
        yield CurvatureInfo(batch.num_samples, 0, weights)

    def state_dict(self) -> dict[str, Any]:
        """Position of the last batch, and the state before and after it where there is one."""
        state: dict[str, Any] = {}
        if self._position is not None:
            state["epoch"], state["index"] = self._position
        for name, pair in (("entering", self._entering), ("leaving", self._leaving)):
            if pair is not None:
                state[f"{name}_hidden"], state[f"{name}_cell"] = pair
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the carried state, on the device of the text."""
        self.reset()
        if "epoch" in state:
            self._position = (state["epoch"], state["index"])
        self._entering = self._pair(state, "entering")
        self._leaving = self._pair(state, "leaving")

    def _pair(self, state: dict[str, Any], name: str) -> State | None:
        if f"{name}_hidden" not in state:
            return None
        device = self._streams.device
        return state[f"{name}_hidden"].to(device), state[f"{name}_cell"].to(device)

    def reset(self) -> None:
        """Forget the carried state: the next batch starts from zeros."""
        self._position: tuple[int, int] | None = None
        self._entering: State | None = None
        self._leaving: State | None = None
