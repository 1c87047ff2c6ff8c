"""Translation from German into English by a Transformer (NG+, Fig. 4)."""

from __future__ import annotations

import contextlib
import importlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.base import Batch, CurvatureInfo, Task
from tasks.checks import check_at_least, check_callable, check_choice, check_number, check_sizes
from tasks.curvature import equal_weights
from tasks.data import iwslt14, multi30k, tatoeba_de_en
from tasks.data.encoded_text import EncodedText, spaced
from tasks.data.joined_bpe import END, PADDING, START
from tasks.data.parallel_text import SPLITS
from tasks.data.store import content_hash, require
from tasks.data.token_batches import TokenPair, by_tokens, padded
from tasks.models.beam_search import BeamSearch, TransformerDecoder
from tasks.models.transformer import MAX_LENGTH
from tasks.seeding import seeded

SETS = {"iwslt14": iwslt14, "multi30k": multi30k, "tatoeba_de_en": tatoeba_de_en}
_EVAL_TOKENS = 4096  # of a batch in evaluation: bounds memory, changes nothing else
_SEARCHED = 128  # sentences that are searched side by side: bounds memory
_COMPOSITION, _ORDER = 0, 1  # what a generator is for


class Translation(Task):
    """Translate German sentences, in lower case, into English ones.

    Both languages share one vocabulary, learnt from the training text when the task is set up.
    Batches hold pairs of like length, at most max_tokens tokens with padding; which pairs are
    together follows from the seed, the batches' order from (seed, epoch). The loss is the mean
    over target tokens of the cross-entropy with label smoothing e, (1 - e)(-log p_y) +
    e/V sum_k -log p_k, in nats; each sentence's end counts as a token. Of several batches in a step
    (`accumulate`) each counts alike, however many tokens it has.

    Metrics over a whole split: `loss`, as in training; `nll`, without smoothing; `perplexity` =
    exp(nll); and `bleu` of the sentences that beam search finds: sacrebleu's, of text in lower
    case whose sub-words have been joined, with its own tokenisation (13a). Fairseq scores Moses's
    tokens instead, so that its BLEU is not the same number.

    Args:
        data_dir: folder of the data sets.
        vocab_size: of the joined vocabulary; characters and four marks are the least.
        model: makes the model from vocab_size and padding, as `Transformer` does.
        label_smoothing: e.
        max_tokens: in a batch: pairs times the longest side.
        search: how translations are found.
        bleu_sentences: sentences of a split that are translated, evenly spaced; None for all, 0
            for no BLEU.
        train_sentences, eval_sentences: pairs of the training text that are used, its first
            ones, and of a split that are evaluated, evenly spaced; None for all.
        common: see `Task`; batch_size is the most pairs in a batch.
    Raises:
        ValueError: on an option out of range.
    """

    splits = SPLITS

    def __init__(
        self,
        *,
        data_dir: str,
        vocab_size: int,
        model: Callable[..., nn.Module],
        label_smoothing: float,
        max_tokens: int,
        search: BeamSearch,
        bleu_sentences: int | None = None,
        train_sentences: int | None = None,
        eval_sentences: int | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        check_choice("data", self.data, tuple(SETS))
        limits = {"train_sentences": train_sentences, "eval_sentences": eval_sentences}
        check_sizes({"vocab_size": vocab_size, "max_tokens": max_tokens}, limits)
        if bleu_sentences is not None:
            check_at_least("bleu_sentences", bleu_sentences, 0)
        check_number("label_smoothing", label_smoothing, least=0, below=1)
        check_callable("model", model)
        check_callable("search", search)
        self.data_dir = data_dir
        self.vocab_size = vocab_size
        self._model = model
        self.label_smoothing = label_smoothing
        self.max_tokens = max_tokens
        self.search = search
        self.bleu_sentences = bleu_sentences
        self.train_sentences = train_sentences
        self.eval_sentences = eval_sentences

    def data_hash(self) -> str:
        """Hash of the set's files, from its list."""
        return content_hash(self.data, SETS[self.data].FILES, data_dir=self.data_dir)

    def make_model(self) -> nn.Module:
        """The Transformer with fairseq's initial values."""
        return self._model(vocab_size=self.vocab_size, padding=PADDING)

    def setup(self, device: torch.device | str, dtype: torch.dtype) -> None:
        """Verify, read and encode the text; `dtype` does not matter, as tokens are integers."""
        if self.bleu_sentences != 0:
            _sacrebleu()  # missing: said before training, and not after
        module = SETS[self.data]
        folder = require(self.data, self.data_dir, module.FILES)
        text = self._text = EncodedText(module.read(folder), self.vocab_size, self.train_sentences)
        longest = max(len(side) for pairs in text.tokens.values() for p in pairs for side in p)
        if longest > MAX_LENGTH:
            raise ValueError(
                f"vocab_size must be so large that no sentence has more than {MAX_LENGTH} tokens, "
                f"got {self.vocab_size} and a sentence of {longest}"
            )
        self._device = device
        pairs = text.tokens["train"]
        generator = seeded(self.seed, 0, _COMPOSITION)
        self._batches = [
            self._padded(pairs, indices)
            for indices in by_tokens(pairs, self.max_tokens, self.batch_size, generator)
        ]

    @property
    def steps_per_epoch(self) -> int:
        """Batches in a pass over the training text: the same in every epoch."""
        return len(self._batches)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield (source (n, S), target's tokens before (n, T)) and target (n, T), int64.

        Rows end with END and are filled up with PADDING; what comes before a target begins with
        END, as in fairseq.
        """
        generator = seeded(self.seed, epoch, _ORDER)
        order = torch.randperm(len(self._batches), generator=generator).tolist()
        for index in range(start, len(order)):
            source, target = self._batches[order[index]]
            yield Batch((source, _before(target)), target, epoch, index, len(source))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy with label smoothing over the target tokens, in nats."""
        logits = model(*batch.inputs)
        return self._cross_entropy(logits, batch.targets, self.label_smoothing, "mean")

    def measure(self, model: nn.Module, split: str) -> dict[str, float]:
        """Loss, nll and perplexity, summed in float64, and BLEU unless bleu_sentences is 0."""
        pairs = spaced(self._text.tokens[split], self.eval_sentences)
        num_tokens = sum(len(target) for _, target in pairs)
        totals = torch.zeros(2, dtype=torch.float64, device=self._device)
        tokens = max(_EVAL_TOKENS, *(len(side) for pair in pairs for side in pair))
        for indices in by_tokens(pairs, tokens, len(pairs)):
            source, target = self._padded(pairs, indices)
            logits = model(source, _before(target))
            for which, smoothing in enumerate((self.label_smoothing, 0.0)):
                totals[which] += self._cross_entropy(logits, target, smoothing, "sum")
        loss, nll = (totals / num_tokens).tolist()
        # exp overflows at 710, where no perplexity means anything.
        metrics = {"loss": loss, "nll": nll}
        metrics["perplexity"] = math.inf if nll > 700 else math.exp(nll)
        if self.bleu_sentences != 0:
            metrics["bleu"] = bleu(*self.translate(model, split))
        return metrics

    def translate(self, model: nn.Module, split: str) -> tuple[list[str], list[str]]:
        """Translate the `bleu_sentences` of a split; the model must be in eval mode.

        Returns:
            What beam search finds, and the references.
        """
        sources = [source for source, _ in spaced(self._text.tokens[split], self.bleu_sentences)]
        order = sorted(range(len(sources)), key=lambda index: len(sources[index]))
        found: dict[int, list[int]] = {}
        for first in range(0, len(order), _SEARCHED):
            indices = order[first : first + _SEARCHED]
            written = self._search(model, [sources[index] for index in indices])
            found |= dict(zip(indices, written, strict=True))
        hypotheses = self._text.decode([found[index] for index in range(len(sources))])
        return hypotheses, spaced(self._text.references[split], self.bleu_sentences)

    def _search(self, model: nn.Module, sources: list[list[int]]) -> list[list[int]]:
        decoder = TransformerDecoder(model, padded(sources, PADDING, self._device))
        lengths = torch.tensor([len(line) for line in sources], device=self._device)
        return self.search(decoder, lengths, end=END, banned=(START, PADDING), most=MAX_LENGTH)

    def _cross_entropy(
        self, logits: Tensor, targets: Tensor, smoothing: float, reduction: str
    ) -> Tensor:
        return F.cross_entropy(
            logits.flatten(0, 1),
            targets.flatten(),
            ignore_index=PADDING,
            label_smoothing=smoothing,
            reduction=reduction,
        )

    def _padded(self, pairs: list[TokenPair], indices: list[int]) -> tuple[Tensor, Tensor]:
        source, target = (
            padded([pairs[index][side] for index in indices], PADDING, self._device)
            for side in (0, 1)
        )
        return source, target

    def curvature_pass(self, batch: Batch) -> contextlib.AbstractContextManager[CurvatureInfo]:
        """A sample is a sentence pair, its loss the sum over the target's tokens."""
        return equal_weights(batch, int((batch.targets != PADDING).sum()))


def bleu(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """BLEU of a text, 0 to 100, as the command `sacrebleu` computes it."""
    # force: a text of few sentences that end in " ." would else be said to be tokenised.
    return _sacrebleu().corpus_bleu(hypotheses, [references], force=True).score


def _sacrebleu() -> Any:
    try:
        return importlib.import_module("sacrebleu")
    except ImportError as error:
        raise ValueError("BLEU needs sacrebleu: pip install 'kappa-bench[nlp]'") from error


def _before(target: Tensor) -> Tensor:
    """The token before each of the target's, END before the first."""
    return F.pad(target[:, :-1], (1, 0), value=END)
