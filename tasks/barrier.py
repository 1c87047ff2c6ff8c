"""Analytic centre of a polytope: the log-barrier (GGT, Fig. 2 right)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tasks.base import Batch
from tasks.convex import ConvexProblem
from tasks.models.parameter import add_grad
from tasks.synthetic import (
    anisotropic_covariance,
    gaussian_samples,
    minimize_newton,
)


class Barrier(ConvexProblem):
    """Minimise mean_i -log(w'x_i + c_i) from w = 0, with c_i uniform on [0, 1].

    The x_i are those of `Logistic` [Agarwal et al. 2019, sec. 3.1]. Outside the domain (some
    w'x_i + c_i <= 0) the loss is +inf: such a run has diverged. Options and metrics are those of
    `ConvexProblem`.
    """

    def instance(self) -> tuple[Tensor, Tensor]:
        """Generate the data: inputs (num_samples, dim) and offsets (num_samples,), float64."""
        generator = torch.Generator().manual_seed(self.instance_seed)
        covariance = anisotropic_covariance(self.dim, self.condition, generator)
        inputs = gaussian_samples(self.num_samples, covariance, generator)
        return inputs, torch.rand(self.num_samples, dtype=torch.float64, generator=generator)

    def optimum(self, inputs: Tensor, targets: Tensor) -> float:
        """By Newton's method, which stays within the domain."""
        point = minimize_newton(
            lambda weight: barrier_derivatives(inputs, targets, weight), inputs.new_zeros(self.dim)
        )
        return barrier_derivatives(inputs, targets, point)[0].item()

    def value(self, products: Tensor, targets: Tensor) -> Tensor:
        """mean -log(w'x + c); +inf outside the domain and where w is not a number."""
        return -_log_in_domain(products + targets).mean()

    def backward(self, model: nn.Module, batch: Batch) -> Tensor:
        """The gradient in closed form: half the cost of the graph at this size."""
        weight = model.weight
        with torch.no_grad():
            slack = torch.addmv(batch.targets, batch.inputs, weight)
            pull = torch.where(slack > 0, slack.reciprocal(), 0).div_(-batch.num_samples)
            add_grad(weight, torch.mv(batch.inputs.mT, pull))
            return -_log_in_domain(slack).mean()


def barrier_derivatives(
    inputs: Tensor, offsets: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Value (+inf outside the domain), gradient (d,) and Hessian (d, d) of the mean barrier."""
    slack = inputs @ weight + offsets
    inverse = slack.reciprocal()
    grad = -(inputs.mT @ inverse) / len(inputs)
    hessian = (inputs.mT * inverse.square()) @ inputs / len(inputs)
    return -_log_in_domain(slack).mean(), grad, hessian


def _log_in_domain(slack: Tensor) -> Tensor:
    # log would give NaN below 0, and a comparison with NaN is false: both become log 0 = -inf.
    return torch.where(slack > 0, slack, 0).log()
