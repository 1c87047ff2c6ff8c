"""What scores of items say of a user's clicks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


def bernoulli(logits: Tensor, clicks: Tensor) -> Tensor:
    """-sum_j x_j log sigmoid(l_j) + (1 - x_j) log(1 - sigmoid(l_j)) of each user, (n,)."""
    return F.binary_cross_entropy_with_logits(logits, clicks, reduction="none").sum(1)


def multinomial(logits: Tensor, clicks: Tensor) -> Tensor:
    """-sum_j x_j log softmax(l)_j of each user, (n,)."""
    return -(clicks * F.log_softmax(logits, dim=1)).sum(1)


@dataclass(frozen=True)
class Likelihood:
    """What a model's logits say of clicks.

    Args:
        loss: (logits, clicks), both (n, num_items) -> -log p of each user's clicks, (n,).
        constant: rates of clicks, (num_items,) -> the logits that say so of everybody,
            (num_items,).
    """

    loss: Callable[[Tensor, Tensor], Tensor]
    constant: Callable[[Tensor], Tensor]


LIKELIHOODS: Mapping[str, Likelihood] = {
    "bernoulli": Likelihood(bernoulli, torch.logit),
    "multinomial": Likelihood(multinomial, torch.log),
}
