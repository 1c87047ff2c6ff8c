"""Text as parallel streams: how training cuts it, and how evaluation meets every symbol once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tasks.base import Batch
from tasks.seeding import seeded

IGNORED = -100  # target of a position that pads a stream: `cross_entropy` leaves it out
_EVAL_LENGTH = 100  # symbols a stream reads at a time: bounds memory, changes nothing else


@dataclass(frozen=True)
class Streams:
    """A text cut into contiguous streams that are read side by side.

    Batch k of an epoch holds symbols k * bptt to (k + 1) * bptt of every stream, counted from the
    epoch's first. What is left of the text at its end is not used (fewer than
    num_streams * (bptt + 1) symbols).

    Args:
        symbols: shape (num_streams, length), any integer type.
        bptt: symbols a stream contributes to a batch.
        seed: of the first symbol of an epoch, drawn from [0, bptt), so that over the epochs the
            cuts between batches fall everywhere; None: it is always 0.
    """

    symbols: Tensor
    bptt: int
    seed: int | None = None

    @classmethod
    def of(cls, text: Tensor, num_streams: int, bptt: int, seed: int | None = None) -> Streams:
        """Cut a text, shape (n,).

        Raises:
            ValueError: if it does not fill one batch.
        """
        length = len(text) // num_streams
        # With a drawn first symbol, bptt - 1 symbols more.
        needed = bptt + 1 if seed is None else 2 * bptt
        if length < needed:
            formula = "(bptt + 1)" if seed is None else "2 bptt"
            raise ValueError(
                f"batch_size * {formula} must be <= {len(text)}, the symbols of the training "
                f"text, got {num_streams} * {needed}"
            )
        return cls(text[: num_streams * length].view(num_streams, length), bptt, seed)

    def __len__(self) -> int:
        """Whole batches in an epoch, wherever it begins."""
        spare = 0 if self.seed is None else self.bptt - 1
        return (self.symbols.shape[1] - 1 - spare) // self.bptt

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield inputs and targets (the inputs one symbol on), (num_streams, bptt), int64."""
        offset = 0
        if self.seed is not None:
            generator = seeded(self.seed, epoch)
            offset = int(torch.randint(self.bptt, (), generator=generator))
        for index in range(start, len(self)):
            first = offset + index * self.bptt
            window = self.symbols[:, first : first + self.bptt + 1].long()
            yield Batch(window[:, :-1], window[:, 1:], epoch, index, len(window))


def mean_loss(
    predict: Callable[[Tensor, Any], tuple[Any, ...]], text: Tensor, num_streams: int, before: int
) -> float:
    """Mean cross-entropy in nats over a text, every symbol of which is predicted exactly once.

    The text is cut into contiguous streams that run side by side, each from a zero state. Sums are
    float64.

    Args:
        predict: (inputs (num_streams, length), state or None) -> (logits, state, ...).
        text: shape (n,), any integer type.
        num_streams: more are faster, and each begins without context.
        before: the symbol before the text's first one.
    """
    num_symbols = len(text)
    length = -(-num_symbols // num_streams)
    missing = length * num_streams - num_symbols
    targets = F.pad(text.long(), (0, missing), value=IGNORED).view(-1, length)
    shifted = F.pad(text.long(), (1, missing - 1 if missing else -1), value=before)
    inputs = shifted.view(-1, length)
    total = torch.zeros((), dtype=torch.float64, device=text.device)
    state: Any = None
    for first in range(0, length, _EVAL_LENGTH):
        chunk = slice(first, first + _EVAL_LENGTH)
        logits, state = predict(inputs[:, chunk], state)[:2]
        total += F.cross_entropy(
            logits.flatten(0, 1),
            targets[:, chunk].flatten(),
            ignore_index=IGNORED,
            reduction="sum",
        )
    return total.item() / num_symbols


def frequency_loss(train: Tensor, text: Tensor, vocab_size: int) -> float:
    """Mean cross-entropy in nats over a text of who knows how often each symbol occurs in train.

    One is added to every count, so that a symbol that train lacks is not impossible.

    Args:
        train, text: numbers of symbols, shape (n,), any integer type.
        vocab_size: numbers are below it.
    """
    counts = torch.bincount(train.long(), minlength=vocab_size).double() + 1
    return -(counts / counts.sum()).log()[text.long()].mean().item()


def perplexity(loss: float) -> float:
    """exp(loss); infinite where that overflows (at 710), where no perplexity means anything."""
    return math.inf if loss > 700 else math.exp(loss)
