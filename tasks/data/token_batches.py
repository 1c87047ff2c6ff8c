"""Batches of sentence pairs of like length, by number of tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

TokenPair = tuple[list[int], list[int]]  # source and target, each with its end

_MULTIPLE = 8  # of a batch's sentences, as in fairseq


def by_tokens(
    pairs: Sequence[TokenPair],
    max_tokens: int,
    max_sentences: int,
    generator: torch.Generator | None = None,
) -> list[list[int]]:
    """Cut the pairs into batches of like length, as fairseq does but for their most tokens.

    Pairs are ordered by length of source, then of target. A batch takes pairs in this order while
    its longest side times its number of pairs is at most max_tokens; then it is cut to a multiple
    of 8 pairs, where it has so many, and the rest begins the next, unless a longer pair does not
    fit in with it; fairseq lets the batch have more than max_tokens then.

    Args:
        generator: shuffles pairs of equal lengths; None: they stay in order.
    Returns:
        Indices of the pairs of each batch, shortest first.
    Raises:
        ValueError: if a single pair has more than max_tokens.
    """
    shuffled = (
        range(len(pairs))
        if generator is None
        else torch.randperm(len(pairs), generator=generator).tolist()
    )
    lengths = [(len(source), len(target)) for source, target in pairs]
    order = sorted(shuffled, key=lengths.__getitem__)
    batches: list[list[int]] = []
    batch: list[int] = []
    longest = 0
    for index in order:
        length = max(lengths[index])
        if length > max_tokens:
            raise ValueError(
                f"max_tokens must be >= {length}, the longest sentence, got {max_tokens}"
            )
        while len(batch) == max_sentences or (len(batch) + 1) * max(longest, length) > max_tokens:
            whole = len(batch) // _MULTIPLE * _MULTIPLE or len(batch)
            batches.append(batch[:whole])
            batch = batch[whole:]
            longest = max((max(lengths[i]) for i in batch), default=0)
        batch.append(index)
        longest = max(longest, length)
    return [*batches, batch] if batch else batches


def padded(lines: Sequence[Sequence[int]], padding: int, device: torch.device | str) -> Tensor:
    """Stack lines of numbers, filled up at the right: (num_lines, longest), int64."""
    longest = max(len(line) for line in lines)
    rows = [[*line, *[padding] * (longest - len(line))] for line in lines]
    return torch.tensor(rows, dtype=torch.int64, device=device)
