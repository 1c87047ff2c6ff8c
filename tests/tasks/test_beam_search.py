"""Beam search against exhaustive and greedy search over a made-up language."""

import itertools
import math

import pytest
import torch

from tasks.models.beam_search import TransformerDecoder, beam_search
from tasks.models.transformer import Transformer

END = 2


class Table:
    """A language in which every prefix of every sentence has a distribution of its own."""

    def __init__(self, num_sentences, vocab_size, beam, sharpness=2.0):
        self.vocab_size, self.sharpness = vocab_size, sharpness
        self.prefixes = [(s,) for s in range(num_sentences) for _ in range(beam)]

    def log_probabilities(self, prefix):
        key = sum((token + 1) * 31**index for index, token in enumerate(prefix)) % 2**31
        generator = torch.Generator().manual_seed(key)
        logits = torch.randn(self.vocab_size, generator=generator, dtype=torch.float64)
        return (self.sharpness * logits).log_softmax(0)

    def advance(self, tokens):
        assert len(tokens) == len(self.prefixes)
        self.prefixes = [(*p, t) for p, t in zip(self.prefixes, tokens.tolist(), strict=True)]
        return torch.stack([self.log_probabilities(p) for p in self.prefixes])

    def select(self, rows, sentences):
        self.prefixes = [self.prefixes[row] for row in rows.tolist()]

    def score(self, sentence, hypothesis, penalty):
        prefix, total = (sentence, END), 0.0
        for token in (*hypothesis, END):
            total += self.log_probabilities(prefix)[token].item()
            prefix = (*prefix, token)
        return total / (len(hypothesis) + 1) ** penalty


def exhaustive(table, sentence, max_length, penalty, banned=()):
    others = [t for t in range(table.vocab_size) if t != END and t not in banned]
    every = itertools.chain.from_iterable(
        itertools.product(others, repeat=length) for length in range(max_length)
    )
    return list(max(every, key=lambda h: table.score(sentence, h, penalty)))


@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0, 2.0])
def test_a_wide_beam_is_exhaustive_search(penalty):
    # 3 + 9 + 27 hypotheses that live or end.
    max_lengths, beam = torch.tensor([4, 2, 1, 4, 3]), 60
    table = Table(5, 4, beam)
    found = beam_search(table, max_lengths, beam=beam, end=END, length_penalty=penalty)
    assert found == [exhaustive(table, s, n, penalty) for s, n in enumerate(max_lengths.tolist())]
    assert len({len(hypothesis) for hypothesis in found}) > 1


def test_banned_tokens_are_not_written():
    table = Table(6, 4, 60)
    lengths = torch.full((6,), 4)
    free = beam_search(table, lengths, beam=60, end=END)
    assert any(1 in hypothesis for hypothesis in free)
    table = Table(6, 4, 60)
    found = beam_search(table, lengths, beam=60, end=END, banned=(1, 3))
    assert found == [exhaustive(table, s, 4, 1.0, (1, 3)) for s in range(6)]


def test_a_beam_of_one_is_greedy_search():
    table = Table(8, 5, 1)
    found = beam_search(table, torch.full((8,), 9), beam=1, end=END)
    for sentence, hypothesis in enumerate(found):
        expected, prefix = [], (sentence, END)
        while len(expected) < 8:
            token = table.log_probabilities(prefix).argmax().item()
            if token == END:
                break
            expected.append(token)
            prefix = (*prefix, token)
        assert hypothesis == expected
    assert len({len(hypothesis) for hypothesis in found}) > 2


def test_a_wider_beam_finds_what_a_greedy_one_misses():
    scores = []
    for beam in (1, 3, 20):
        table = Table(20, 6, beam)
        found = beam_search(table, torch.full((20,), 5), beam=beam, end=END, length_penalty=0.0)
        scores.append(sum(table.score(s, h, 0.0) for s, h in enumerate(found)))
    assert scores[0] < scores[1] < scores[2]


def test_sentences_do_not_touch_each_other():
    lengths = torch.tensor([3, 9, 5, 1, 7, 9])
    table = Table(6, 6, 3, sharpness=1.0)
    together = beam_search(table, lengths, beam=3, end=END)
    for sentence in range(6):
        alone = Table(1, 6, 3, sharpness=1.0)
        alone.prefixes = [(sentence,)] * 3
        found = beam_search(alone, lengths[sentence : sentence + 1], beam=3, end=END)
        assert found == [together[sentence]]


def test_a_length_is_never_exceeded():
    class Endless(Table):
        def log_probabilities(self, prefix):
            logits = super().log_probabilities(prefix)
            logits[END] = -50.0
            return logits

    lengths = torch.tensor([1, 4, 6])
    found = beam_search(Endless(3, 5, 2), lengths, beam=2, end=END)
    assert [len(hypothesis) + 1 for hypothesis in found] == lengths.tolist()


def test_no_number_gives_an_empty_sentence():
    class Diverged(Table):
        def log_probabilities(self, prefix):
            return torch.full((self.vocab_size,), math.nan, dtype=torch.float64)

    assert beam_search(Diverged(2, 5, 3), torch.tensor([2, 4]), beam=3, end=END) == [[], []]


def test_the_transformer_is_searched_as_its_whole_forward_says():
    """Greedy and exhaustive search through the cache, against plain forward passes."""
    torch.manual_seed(0)
    model = Transformer(5, 8, 8, 2, 2, 0.0, 0.0, 0.0, padding=1).double().eval()
    for parameter in model.parameters():
        parameter.data += 0.4 * torch.randn_like(parameter)
    source = torch.tensor([[3, 4, 2], [4, 2, 1], [2, 1, 1]])
    lengths = torch.tensor([4, 3, 4])

    def score(row, hypothesis):
        tokens = torch.tensor([[END, *hypothesis, END]])
        steps = model(row, tokens[:, :-1]).log_softmax(2)
        return steps.gather(2, tokens[:, 1:, None]).sum().item() / (len(hypothesis) + 1)

    with torch.no_grad():
        decoder = TransformerDecoder(model, source)
        found = beam_search(decoder, lengths, beam=40, end=END, banned=(0, 1))
        for row, length, hypothesis in zip(source.split(1), lengths.tolist(), found, strict=True):
            every = itertools.chain.from_iterable(
                itertools.product((3, 4), repeat=n) for n in range(length)
            )
            assert hypothesis == list(max(every, key=lambda h, row=row: score(row, h)))
