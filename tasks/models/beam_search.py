"""Beam search for the best continuation, in batches of sentences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from tasks.checks import check_at_least, check_number
from tasks.models.transformer import KeysValues, Memory, Transformer


class Decoder(Protocol):
    """A model in the midst of writing: `beam` hypotheses (rows) for each of its sentences."""

    def advance(self, tokens: Tensor) -> Tensor:
        """Append a token to each row; log-probabilities of the next, (rows, vocab_size)."""
        ...

    def select(self, rows: Tensor, sentences: Tensor) -> None:
        """Keep these rows, in this order, which belong to these of the sentences."""
        ...


class TransformerDecoder:
    """A `Transformer` in the midst of writing; what it has read is kept as keys and values."""

    def __init__(self, model: Transformer, source: Tensor) -> None:
        self._model = model
        self._memory = model.encode(source)
        self._past: list[KeysValues] | None = None

    def advance(self, tokens: Tensor) -> Tensor:
        hidden, self._past = self._model.decode(tokens[:, None], self._memory, self._past)
        logits = self._model.readout(hidden[:, 0])
        # Totals of many tokens would be rounded to an eighth and more in bfloat16.
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return F.log_softmax(logits, dim=1)

    def select(self, rows: Tensor, sentences: Tensor) -> None:
        assert self._past is not None
        self._past = [(keys[rows], values[rows]) for keys, values in self._past]
        memory = self._memory
        if len(sentences) < len(memory.mask):
            kept = [(keys[sentences], values[sentences]) for keys, values in memory.keys_values]
            self._memory = Memory(kept, memory.mask[sentences])


@dataclass(frozen=True)
class BeamSearch:
    """How sentences are translated.

    Args:
        beam: hypotheses that are kept.
        length_penalty: hypotheses are ranked by log-probability / length^length_penalty.
        max_length_ratio, max_length_extra: a hypothesis has at most ratio * S + extra tokens for
            a source of S, the ends included.
    Raises:
        ValueError: on a value out of range.
    """

    beam: int
    length_penalty: float
    max_length_ratio: float
    max_length_extra: int

    def __post_init__(self) -> None:
        for name in ("beam", "max_length_extra"):
            check_at_least(name, getattr(self, name), 1)
        for name in ("length_penalty", "max_length_ratio"):
            check_number(name, getattr(self, name), least=0)

    def __call__(
        self,
        decoder: Decoder,
        source_lengths: Tensor,
        *,
        end: int,
        banned: tuple[int, ...],
        most: int,
    ) -> list[list[int]]:
        """Search for the translations of sources of these lengths: `beam_search`.

        Args:
            most: tokens that the decoder can write at most.
        """
        lengths = (self.max_length_ratio * source_lengths).long() + self.max_length_extra
        return beam_search(
            decoder,
            lengths.clamp(max=most),
            beam=self.beam,
            end=end,
            banned=banned,
            length_penalty=self.length_penalty,
        )


def beam_search(
    decoder: Decoder,
    max_lengths: Tensor,
    *,
    beam: int,
    end: int,
    banned: tuple[int, ...] = (),
    length_penalty: float = 1.0,
) -> list[list[int]]:
    """The best hypothesis found for each sentence, by log-probability / length^length_penalty.

    As in fairseq, but that a translation may be empty, and that the end counts in its greatest
    length: of the 2 * beam best continuations of a sentence's live hypotheses, those that
    end and are among the first `beam` are finished, and the first `beam` of the others live on; a
    sentence is done when `beam` hypotheses are finished or the longest length is reached, where
    the end is forced. The end token begins each hypothesis and counts in its length. beam=1 is
    greedy search; a beam as wide as there are hypotheses is exhaustive search.

    Args:
        decoder: given num_sentences * beam rows from its first step on.
        max_lengths: longest hypothesis of each sentence with its end, shape (num_sentences,).
        beam: hypotheses kept.
        end: number of the token that ends a sentence.
        banned: tokens never written.
        length_penalty: > 0 favours long hypotheses.
    Returns:
        Tokens of each sentence's hypothesis, without the end.
    """
    forbidden = torch.tensor(banned, dtype=torch.int64, device=max_lengths.device)
    finished = _Finished(max_lengths, end)
    alive = torch.arange(len(max_lengths), device=max_lengths.device)  # sentences not yet done
    num_finished = torch.zeros_like(alive)
    tokens = alive.new_full((len(alive), beam, 1), end)
    for length in range(1, int(max_lengths.max()) + 1):
        steps = decoder.advance(tokens[:, :, -1].flatten()).unflatten(0, (-1, beam))
        if length == 1:  # all rows are alike: one hypothesis lives
            totals = torch.full_like(steps[:, :, 0], -torch.inf)
            totals[:, 0] = 0.0
        candidates = totals[..., None] + _allowed(steps, forbidden, end, max_lengths == length)
        totals, parents, nexts = _best(candidates, 2 * beam)
        ended = ((nexts == end) & totals.isfinite())[:, :beam]
        scores = torch.where(ended, totals[:, :beam] / length**length_penalty, -torch.inf)
        finished.offer(alive, scores, tokens, parents)
        num_finished += ended.sum(1)

        totals, parents, nexts = _live(totals, parents, nexts, end, beam)
        going = ((num_finished < beam) & (max_lengths > length)).nonzero()[:, 0]
        if len(going) == 0:
            break
        totals, parents, nexts = totals[going], parents[going], nexts[going]
        decoder.select((going[:, None] * beam + parents).flatten(), going)
        history = tokens[going].gather(1, parents[..., None].expand(-1, -1, length))
        tokens = torch.cat([history, nexts[..., None]], dim=2)
        alive, num_finished, max_lengths = alive[going], num_finished[going], max_lengths[going]
    return finished.hypotheses()


class _Finished:
    """The best hypothesis of each sentence among those that have ended.

    Args:
        max_lengths: of the hypotheses, shape (num_sentences,).
        end: number of the token that ends a sentence.
    """

    def __init__(self, max_lengths: Tensor, end: int) -> None:
        self._end = end
        # float64, which holds the scores of any model as they are.
        self._scores = torch.full_like(max_lengths, -torch.inf, dtype=torch.float64)
        self._written = max_lengths.new_full((len(max_lengths), int(max_lengths.max())), end)

    def offer(self, sentences: Tensor, scores: Tensor, tokens: Tensor, parents: Tensor) -> None:
        """Keep what is better than the best so far.

        Args:
            sentences: whose hypotheses these are, shape (n,).
            scores: of the hypotheses, -inf of those that go on, shape (n, beam).
            tokens: live hypotheses before this step, the first of them `end`, (n, beam, length).
            parents: which of these each hypothesis goes on from, shape (n, >= beam).
        """
        score, rank = scores.double().max(1)
        better = score > self._scores[sentences]
        found = tokens[better, parents[better, rank[better]], 1:]
        missing = self._written.shape[1] - found.shape[1]
        self._scores[sentences[better]] = score[better]
        self._written[sentences[better]] = F.pad(found, (0, missing), value=self._end)

    def hypotheses(self) -> list[list[int]]:
        """Tokens of each sentence's hypothesis, without the end."""
        end = self._end
        return [row[: row.index(end)] if end in row else row for row in self._written.tolist()]


def _allowed(steps: Tensor, forbidden: Tensor, end: int, last: Tensor) -> Tensor:
    """Log-probabilities (n, beam, vocab_size) without what may not be written.

    Args:
        last: sentences that must end now, shape (n,).
    """
    steps = steps.index_fill(2, forbidden, -torch.inf)
    only_end = torch.full_like(steps, -torch.inf)
    only_end[:, :, end] = steps[:, :, end]
    return torch.where(last[:, None, None], only_end, steps)


def _best(candidates: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Totals, parents and tokens of the best of (n, beam, vocab_size), best first, (n, count)."""
    vocab_size = candidates.shape[2]
    flat = candidates.flatten(1)
    totals, indices = flat.topk(min(count, flat.shape[1]), dim=1)
    return totals, indices // vocab_size, indices % vocab_size


def _live(
    totals: Tensor, parents: Tensor, nexts: Tensor, end: int, beam: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The first `beam` candidates that do not end, of (n, count): they live on."""
    # Stable, so that they stay in the order of their totals. Each parent ends once at most, so
    # that 2 * beam candidates have enough of them.
    order = (nexts == end).int().argsort(dim=1, stable=True)[:, :beam]
    return totals.gather(1, order), parents.gather(1, order), nexts.gather(1, order)
