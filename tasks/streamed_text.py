"""Language modelling of a text that is read as parallel streams, by models that carry a state."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tasks.base import Batch, CurvatureInfo, Task
from tasks.carried import CarriedState
from tasks.checks import check_choice, check_sizes
from tasks.curvature import equal_weights
from tasks.data import ptb
from tasks.data.store import content_hash, require
from tasks.data.streams import Streams, frequency_loss, mean_loss, perplexity


class StreamedText(Task):
    """Predict the next symbol of the Penn Treebank; a subclass gives symbols, model and loss.

    Training text is cut into `batch_size` contiguous streams; batch k of an epoch holds symbols
    k * bptt to (k + 1) * bptt of every stream, counted from the epoch's first, and the state of the
    model is carried, detached, from batch to batch (truncated back-propagation through time). Each
    epoch begins with a zero state; what is left of the text at its end is not used.

    Evaluation predicts every symbol of the split exactly once, from the symbol before it and the
    carried state. The split is cut into `eval_streams` contiguous streams that run side by side,
    each from a zero state; the symbol before the split's first one is taken to be an end of line.
    The result does not depend on batch_size or bptt. Metrics: loss in nats a symbol, and
    perplexity = exp(loss).

    Args:
        data_dir: folder of the data sets.
        vocab_size: numbers of symbols are below it.
        bptt: symbols a stream contributes to a batch.
        eval_streams: streams in evaluation; more are faster, and each begins without context.
        evaluated: symbols of a split that are evaluated, under the name of this option; None for
            all.
        shifted: whether an epoch begins at a drawn symbol of the first `bptt`, or at the first.
        carried: names of the state's tensors.
    Raises:
        ValueError: on an option out of range.
    """

    splits = ptb.SPLITS
    files: tuple[str, ...]  # of the splits
    end_of_line: int

    def __init__(
        self,
        *,
        data_dir: str,
        vocab_size: int,
        bptt: int,
        eval_streams: int,
        evaluated: Mapping[str, int | None],
        shifted: bool,
        carried: Sequence[str],
        **common: Any,
    ) -> None:
        super().__init__(**common)
        check_choice("data", self.data, ("ptb",))
        check_sizes({"bptt": bptt, "eval_streams": eval_streams}, evaluated)
        self.data_dir = data_dir
        self.vocab_size = vocab_size
        self.bptt = bptt
        self.eval_streams = eval_streams
        (self.num_evaluated,) = evaluated.values()
        self.shifted = shifted
        self._carried = CarriedState(carried)

    @abc.abstractmethod
    def read(self, folder: Path) -> dict[str, np.ndarray]:
        """Read and encode the text of each split, shape (n,), any integer type."""

    def data_hash(self) -> str:
        """Hash of the three files, from the committed list."""
        return content_hash(self.data, self.files)

    def setup(self, device: torch.device | str, dtype: torch.dtype) -> None:
        """Verify, read and encode the text; `dtype` does not matter, as symbols are integers."""
        texts = self.read(require(self.data, self.data_dir, self.files))
        self._text = {split: torch.from_numpy(text).to(device) for split, text in texts.items()}
        seed = self.seed if self.shifted else None
        self._streams = Streams.of(self._text["train"], self.batch_size, self.bptt, seed)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in a pass over the streams."""
        return len(self._streams)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield inputs and targets (the inputs one symbol on), each (batch_size, bptt), int64."""
        return self._streams.epoch(epoch, start)

    def measure(self, model: nn.Module, split: str) -> dict[str, float]:
        """Loss and perplexity over the whole split, summed in float64."""
        text = self._text[split][: self.num_evaluated]
        loss = mean_loss(model, text, self.eval_streams, self.end_of_line)
        return {"loss": loss, "perplexity": perplexity(loss)}

    def facts(self) -> dict[str, float]:
        """`trivial`: the target's metric from the frequencies of the training symbols."""
        text = self._text[self.target.split][: self.num_evaluated]
        loss = frequency_loss(self._text["train"], text, self.vocab_size)
        return self.trivial({"loss": loss, "perplexity": perplexity(loss)})

    def curvature_pass(self, batch: Batch) -> contextlib.AbstractContextManager[CurvatureInfo]:
        """A sample is one stream's sequence, its loss the sum over bptt symbols.

        Terms of the loss on activations are means over streams as well: each has its share of
        them. A weight that embedding and read-out share belongs to no layer.
        """
        return equal_weights(batch, batch.targets.numel())

    def state_dict(self) -> dict[str, Any]:
        """Position of the last batch, and the state before and after it where there is one."""
        return self._carried.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the carried state, on the device of the text."""
        self._carried.load_state_dict(state, self._streams.symbols.device)

    def reset(self) -> None:
        """Forget the carried state: the next batch starts from zeros."""
        self._carried.reset()
