"""Language modelling of the Penn Treebank with a transformer, on characters or byte pairs."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.base import Batch, CurvatureInfo, Task
from tasks.checks import check_at_least, check_choice, check_flag, check_number, check_sizes
from tasks.curvature import equal_weights
from tasks.data import ptb
from tasks.data.encoding import ENCODINGS
from tasks.data.store import content_hash, require
from tasks.data.streams import IGNORED, frequency_loss, perplexity
from tasks.models.gpt import GPT
from tasks.seeding import seeded

_EVAL_SYMBOLS = 8192  # symbols in a pass: bounds memory, changes nothing else


class PTBGPT(Task):
    """Predict the next symbol of the Penn Treebank with a decoder-only transformer.

    Training text is cut into windows of `context` symbols, one after the other; an epoch goes
    through them in a fresh seeded permutation, `batch_size` at a time (those left over are not
    used). The loss is the mean over symbols, in nats.

    Evaluation predicts every symbol of the split exactly once, in the same kind of windows: from
    those before it in its window and the one before the window, so from 1 to `context` symbols.
    The symbol before the split's first one is taken to be an end of line. Metrics: loss in nats a
    symbol, perplexity = exp(loss), and bits_per_char, the loss in bits over the characters that
    the symbols stand for, which compares across vocabularies.

    Args:
        data_dir: folder of the data sets.
        symbols: "characters", or "bpe": byte pairs learned from the training text.
        vocab_size: 50 for characters; the size of the learned vocabulary, >= 256, for bpe.
        context, width, num_layers, num_heads, dropout, tied: of the model (`GPT`).
        eval_symbols: symbols of a split that are evaluated; None for all.
    Raises:
        ValueError: on an option out of range.
    """

    splits = ptb.SPLITS

    def __init__(
        self,
        *,
        data_dir: str,
        symbols: str,
        vocab_size: int,
        context: int,
        width: int,
        num_layers: int,
        num_heads: int,
        dropout: float,
        tied: bool,
        eval_symbols: int | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        check_choice("data", self.data, ("ptb",))
        check_choice("symbols", symbols, tuple(ENCODINGS))
        check_at_least("vocab_size", vocab_size, ENCODINGS[symbols].least)
        sizes = {"context": context, "width": width, "num_layers": num_layers}
        check_sizes(sizes | {"num_heads": num_heads}, {"eval_symbols": eval_symbols})
        check_number("dropout", dropout, least=0, below=1)
        check_flag("tied", tied)
        if width % num_heads:
            raise ValueError(f"width must be a multiple of num_heads = {num_heads}, got {width}")
        self.data_dir = data_dir
        self.symbols = symbols
        self.vocab_size = vocab_size
        self.context = context
        self.width = width
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.dropout = dropout
        self.tied = tied
        self.eval_symbols = eval_symbols

    def data_hash(self) -> str:
        """Hash of the three character files, which the byte pairs are learned from as well."""
        return content_hash(self.data, ptb.CHAR_FILES)

    def make_model(self) -> nn.Module:
        """The transformer with GPT-2's initial values."""
        return GPT(
            self.vocab_size,
            self.context,
            self.width,
            self.num_layers,
            self.num_heads,
            self.dropout,
            self.tied,
        )

    def setup(self, device: torch.device | str, dtype: torch.dtype) -> None:
        """Verify, read and encode the text; `dtype` does not matter, as symbols are integers."""
        folder = require(self.data, self.data_dir, ptb.CHAR_FILES)
        read = {
            split: ptb.read_symbols(folder / file)
            for split, file in zip(self.splits, ptb.CHAR_FILES, strict=True)
        }
        encoded = ENCODINGS[self.symbols].encode(read, self.vocab_size)
        self._text = {s: torch.from_numpy(text).to(device) for s, text in encoded.texts.items()}
        self._lengths = torch.from_numpy(encoded.lengths).to(device)
        self._newline = encoded.newline
        text = self._text["train"]
        if len(text) <= self.batch_size * self.context:
            raise ValueError(
                f"batch_size * context must be < {len(text)}, the symbols of the training text, "
                f"got {self.batch_size} * {self.context}"
            )
        # Each window has the first symbol of the next one, as its last target.
        self._windows = text.unfold(0, self.context + 1, self.context)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches of windows."""
        return len(self._windows) // self.batch_size

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield inputs and targets (the inputs one symbol on), each (batch_size, context)."""
        order = torch.randperm(len(self._windows), generator=seeded(self.seed, epoch))
        order = order.to(self._windows.device)
        for index in range(start, self.steps_per_epoch):
            first = index * self.batch_size
            chosen = self._windows[order[first : first + self.batch_size]].long()
            yield Batch(chosen[:, :-1], chosen[:, 1:], epoch, index, self.batch_size)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy over the symbols of the batch, in nats."""
        return F.cross_entropy(model(batch.inputs).flatten(0, 1), batch.targets.flatten())

    def measure(self, model: nn.Module, split: str) -> dict[str, float]:
        """Loss, perplexity and bits per character of the whole split, summed in float64."""
        text = self._text[split][: self.eval_symbols].long()
        missing = -len(text) % self.context
        targets = F.pad(text, (0, missing), value=IGNORED).view(-1, self.context)
        inputs = F.pad(text, (1, missing), value=0)[:-1].view(-1, self.context)
        inputs[0, 0] = self._newline
        total = torch.zeros((), dtype=torch.float64, device=text.device)
        rows = max(1, _EVAL_SYMBOLS // self.context)
        for x, y in zip(inputs.split(rows), targets.split(rows), strict=True):
            logits = model(x).flatten(0, 1)
            total += F.cross_entropy(logits, y.flatten(), ignore_index=IGNORED, reduction="sum")
        return self._metrics(total.item(), text)

    def _metrics(self, nats: float, text: Tensor) -> dict[str, float]:
        """Metrics of a text whose symbols cost that many nats together."""
        num_chars = self._lengths[text.long()].sum().item()
        loss = nats / len(text)
        return {
            "loss": loss,
            "perplexity": perplexity(loss),
            "bits_per_char": nats / math.log(2) / num_chars,
        }

    def facts(self) -> dict[str, float]:
        """`trivial`: the target's metric from the frequencies of the training symbols."""
        text = self._text[self.target.split][: self.eval_symbols]
        loss = frequency_loss(self._text["train"], text, self.vocab_size)
        return self.trivial(self._metrics(loss * len(text), text))

    def curvature_pass(self, batch: Batch) -> contextlib.AbstractContextManager[CurvatureInfo]:
        """A sample is one window, its loss the sum over its symbols."""
        return equal_weights(batch, batch.targets.numel())
