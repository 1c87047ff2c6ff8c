"""NDCG and recall on cases worked by hand."""

import math

import pytest
import torch

from tasks.ranking import ndcg, recall, top_items

SCORES = torch.tensor([[0.9, 0.8, 0.7, 0.6, 0.5], [0.1, 0.5, 0.2, 0.4, 0.3]])


def test_what_was_seen_is_not_recommended():
    seen = torch.tensor([[1.0, 0, 0, 1, 0], [0, 0, 0, 0, 0]])
    assert top_items(SCORES, seen, 3).tolist() == [[1, 2, 4], [1, 3, 4]]
    # As many as there are, those that were seen behind.
    top = top_items(SCORES, seen, 100)
    assert top[0, :3].tolist() == [1, 2, 4]
    assert sorted(top[0, 3:].tolist()) == [0, 3]


def test_ndcg_by_hand():
    top = torch.tensor([[1, 2, 4], [1, 3, 4], [0, 1, 2]])
    hidden = torch.tensor([[0.0, 0, 1, 0, 0], [0, 1, 0, 0, 1], [0, 0, 0, 1, 0]])
    # The second in rank alone; the first and the third of two; none.
    expected = [
        1 / math.log2(3),
        (1 + 1 / math.log2(4)) / (1 + 1 / math.log2(3)),
        0.0,
    ]
    assert ndcg(top, hidden).tolist() == pytest.approx(expected, rel=1e-12)


def test_the_best_ranking_has_one_though_more_is_hidden_than_ranked():
    top = torch.tensor([[0, 1]])
    hidden = torch.tensor([[1.0, 1, 1, 1, 0]])
    assert ndcg(top, hidden).tolist() == [1.0]
    assert recall(top, hidden).tolist() == [1.0]


def test_recall_by_hand():
    top = torch.tensor([[1, 2, 4], [1, 3, 4], [1, 3, 4]])
    hidden = torch.tensor([[1.0, 0, 1, 0, 0], [0, 1, 0, 0, 0], [1, 1, 1, 1, 0]])
    # One of two; one of one; two of the three that fit.
    assert recall(top, hidden).tolist() == pytest.approx([1 / 2, 1, 2 / 3], rel=1e-12)
