"""How well a ranking finds what was hidden: NDCG and recall of its first k items."""

from __future__ import annotations

import torch
from torch import Tensor


def top_items(scores: Tensor, seen: Tensor, k: int) -> Tensor:
    """The k items of the highest scores, those that were seen last.

    Args:
        scores: one an item, shape (users, items).
        seen: > 0 at items that cannot be recommended any more, shape (users, items).
        k: at most as many as there are items count.
    Returns:
        Items, the best first, int64, shape (users, min(k, items)).
    """
    return scores.masked_fill(seen > 0, -torch.inf).topk(min(k, scores.shape[1]), dim=1).indices


def ndcg(top: Tensor, hidden: Tensor) -> Tensor:
    """Normalised discounted cumulative gain of the first k items; hidden items count alike.

        DCG = sum_{r=1}^k [item of rank r is hidden] / log2(r + 1),   NDCG = DCG / (that of the
        best ranking, with all of the min(k, n) hidden items in front)        [Liang et al. 2018]

    Args:
        top: items by rank, shape (users, k).
        hidden: 1 at each user's hidden items, of which there is one at least, else 0, shape
            (users, items).
    Returns:
        float64, shape (users,).
    """
    ranks = torch.arange(top.shape[1], dtype=torch.float64, device=top.device)
    discounts = 1 / torch.log2(ranks + 2)
    gained = (hidden.gather(1, top).double() * discounts).sum(1)
    most = hidden.sum(1).long().clamp(max=top.shape[1])
    return gained / discounts.cumsum(0)[most - 1]


def recall(top: Tensor, hidden: Tensor) -> Tensor:
    """Share of min(k, n) of the n hidden items that is among the first k [Liang et al. 2018].

    Args:
        top, hidden: as in `ndcg`.
    Returns:
        float64, shape (users,).
    """
    found = hidden.gather(1, top).double().sum(1)
    return found / hidden.sum(1).clamp(max=top.shape[1]).double()
