"""Losses of a reconstruction: how far a model's outputs are from the pixels of its input."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class ReconstructionLoss:
    """A loss of one image, and what it can and cannot reach.

    Args:
        per_image: (outputs, pixels), both (n, num_pixels) -> loss of each image, (n,).
        bound: pixels (n, num_pixels) -> the least loss that any outputs give each image, (n,).
        constant: mean image (num_pixels,) -> the outputs that, given for every image, make the
            mean loss least, (num_pixels,).
        needs_unit_range: whether pixels must lie in [0, 1].
    """

    per_image: Callable[[Tensor, Tensor], Tensor]
    bound: Callable[[Tensor], Tensor]
    constant: Callable[[Tensor], Tensor]
    needs_unit_range: bool


def softmax_cross_entropy(outputs: Tensor, pixels: Tensor) -> Tensor:
    """-sum_j x_j log softmax(z)_j: pixels as unnormalised class probabilities, (n,).

    With S = sum_j x_j this is S times the cross-entropy of the distribution x / S.
    """
    return F.cross_entropy(outputs, pixels, reduction="none")


def distribution_entropy(pixels: Tensor) -> Tensor:
    """S H(x / S) = S log S - sum_j x_j log x_j of each image, (n,); an empty image has 0."""
    total = pixels.sum(1)
    return torch.xlogy(total, total) - torch.xlogy(pixels, pixels).sum(1)


def summed_binary_cross_entropy(outputs: Tensor, pixels: Tensor) -> Tensor:
    """-sum_j x_j log sigmoid(z_j) + (1 - x_j) log(1 - sigmoid(z_j)), (n,)."""
    return F.binary_cross_entropy_with_logits(outputs, pixels, reduction="none").sum(1)


def summed_binary_entropy(pixels: Tensor) -> Tensor:
    """-sum_j x_j log x_j + (1 - x_j) log(1 - x_j) of each image, (n,)."""
    return -(torch.xlogy(pixels, pixels) + torch.xlogy(1 - pixels, 1 - pixels)).sum(1)


def mean_squared_error(outputs: Tensor, pixels: Tensor) -> Tensor:
    """Mean over the pixels of (z_j - x_j)^2, (n,)."""
    return F.mse_loss(outputs, pixels, reduction="none").mean(1)


def half_squared_error(outputs: Tensor, pixels: Tensor) -> Tensor:
    """Half the sum over the pixels of (z_j - x_j)^2, (n,)."""
    return F.mse_loss(outputs, pixels, reduction="none").sum(1) / 2


def zero(pixels: Tensor) -> Tensor:
    """0 for each image, (n,)."""
    return pixels.new_zeros(len(pixels))


# The least probability of a constant prediction: a pixel that is 0 in all training images would
# else make an image in which it is not infinitely bad.
_LEAST = 1e-6

LOSSES: Mapping[str, ReconstructionLoss] = {
    # KrADagrad's code: nn.CrossEntropyLoss with the pixels as targets [Mei et al. 2023].
    "softmax_ce": ReconstructionLoss(
        softmax_cross_entropy, distribution_entropy, lambda mean: mean.clamp(min=_LEAST).log(), True
    ),
    # What second-order methods are mostly compared with on MNIST and CURVES [Goldfarb et al. 2020].
    "bce_sum": ReconstructionLoss(
        summed_binary_cross_entropy,
        summed_binary_entropy,
        lambda mean: mean.clamp(_LEAST, 1 - _LEAST).logit(),
        True,
    ),
    # KrADagrad's on FACES.
    "mse": ReconstructionLoss(mean_squared_error, zero, lambda mean: mean, False),
    # Goldfarb's on FACES.
    "half_squared_error": ReconstructionLoss(half_squared_error, zero, lambda mean: mean, False),
}
