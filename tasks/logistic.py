"""Logistic regression on anisotropic data (GGT, Fig. 2 left)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.base import Batch
from tasks.checks import check_choice
from tasks.convex import ConvexProblem
from tasks.models.parameter import add_grad
from tasks.synthetic import (
    anisotropic_covariance,
    gaussian_samples,
    minimize_newton,
)


class Logistic(ConvexProblem):
    """Minimise mean_i log(1 + exp(-y_i w'x_i)) from w = 0.

    The x_i are Gaussian with a rotated covariance whose eigenvalues run from 1 to 1/condition
    [Agarwal et al. 2019, sec. 3.1]. The hidden w* is a random normal, scaled so that the
    logits w*'x have standard deviation 1 over the population. With labels "sampled" y_i is +1
    with probability sigmoid(w*'x_i), which gives the figure's range of losses; with "hyperplane"
    y_i = sign(w*'x_i) as the paper is printed: separable, so the infimum is 0 and not attained.

    Args:
        labels: "sampled" or "hyperplane".
        common: of `ConvexProblem` and `Task`.
    Raises:
        ValueError: on an option out of range.
    """

    def __init__(self, *, labels: str, **common: Any) -> None:
        super().__init__(**common)
        check_choice("labels", labels, ("sampled", "hyperplane"))
        self.labels = labels

    def instance(self) -> tuple[Tensor, Tensor]:
        """Generate the data: inputs (num_samples, dim) and labels +-1 (num_samples,), float64."""
        generator = torch.Generator().manual_seed(self.instance_seed)
        covariance = anisotropic_covariance(self.dim, self.condition, generator)
        inputs = gaussian_samples(self.num_samples, covariance, generator)
        normal = torch.randn(self.dim, dtype=torch.float64, generator=generator)
        logits = inputs @ (normal / (normal @ covariance @ normal).sqrt())
        # Drawn for both kinds of labels, so that the inputs do not depend on the kind.
        uniform = torch.rand(self.num_samples, dtype=torch.float64, generator=generator)
        threshold = torch.sigmoid(logits) if self.labels == "sampled" else (logits > 0).double()
        return inputs, torch.where(uniform < threshold, 1.0, -1.0).double()

    def optimum(self, inputs: Tensor, targets: Tensor) -> float:
        """By Newton's method; 0 for hyperplane labels, an infimum that no w attains."""
        if self.labels == "hyperplane":
            return 0.0
        point = minimize_newton(
            lambda weight: logistic_derivatives(inputs, targets, weight), inputs.new_zeros(self.dim)
        )
        return logistic_derivatives(inputs, targets, point)[0].item()

    def value(self, products: Tensor, targets: Tensor) -> Tensor:
        """mean log(1 + exp(-y w'x)), without overflow."""
        return -F.logsigmoid(targets * products).mean()

    def backward(self, model: nn.Module, batch: Batch) -> Tensor:
        """The gradient in closed form: half the cost of the graph at this size."""
        weight = model.weight
        with torch.no_grad():
            margins = batch.targets * torch.mv(batch.inputs, weight)
            pull = torch.sigmoid(-margins).mul_(batch.targets).div_(-batch.num_samples)
            add_grad(weight, torch.mv(batch.inputs.mT, pull))
            return -F.logsigmoid(margins).mean()


def logistic_derivatives(
    inputs: Tensor, labels: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Value, gradient (d,) and Hessian (d, d) of the mean logistic loss at weight (d,)."""
    margins = labels * (inputs @ weight)
    pull = torch.sigmoid(-margins)
    grad = -(inputs.mT @ (labels * pull)) / len(inputs)
    hessian = (inputs.mT * (pull * (1 - pull))) @ inputs / len(inputs)
    return -F.logsigmoid(margins).mean(), grad, hessian
