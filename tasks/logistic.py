"""Logistic regression on anisotropic data (GGT, Fig. 2 left)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.base import Batch, Task, check_at_least, check_choice
from tasks.models.parameter import FreeParameter, add_grad
from tasks.synthetic import (
    SampleBatches,
    anisotropic_covariance,
    gaussian_samples,
    minimize_newton,
)


class Logistic(Task):
    """Minimise mean_i log(1 + exp(-y_i w'x_i)) from w = 0.

    The x_i are Gaussian with a rotated covariance whose eigenvalues run from 1 to 1/condition
    [Agarwal et al. 2019, sec. 4.1]. The hidden w* is a random normal, scaled so that the
    logits w*'x have standard deviation 1 over the population. With labels "sampled" y_i is +1
    with probability sigmoid(w*'x_i), which gives the figure's range of losses; with "hyperplane"
    y_i = sign(w*'x_i) as the paper is printed: separable, so the infimum is 0 and not attained.

    Metrics on "train": loss, and suboptimality = loss - optimum, both in float64 (rounding may
    leave a suboptimality of about -1e-16).

    Args:
        num_samples, dim: size of the instance.
        condition: condition number of the covariance.
        labels: "sampled" or "hyperplane".
        instance_seed: of the data, apart from the run's seed.
        batch_size: None for all samples.
    Raises:
        ValueError: on an option out of range.
    """

    def __init__(
        self,
        *,
        num_samples: int,
        dim: int,
        condition: float,
        labels: str,
        instance_seed: int,
        batch_size: int | None,
        **common: Any,
    ) -> None:
        super().__init__(batch_size=num_samples if batch_size is None else batch_size, **common)
        check_choice("data", self.data, ("synthetic",))
        check_choice("labels", labels, ("sampled", "hyperplane"))
        check_at_least("num_samples", num_samples, 1)
        check_at_least("dim", dim, 1)
        self.num_samples = num_samples
        self.dim = dim
        self.condition = condition
        self.labels = labels
        self.instance_seed = instance_seed

    def data_hash(self) -> str:
        """Nothing is read: the instance follows from the options."""
        return ""

    def make_model(self) -> nn.Module:
        """The weight vector w = 0, shape (dim,)."""
        return FreeParameter(torch.zeros(self.dim))

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

    def setup(self, device: torch.device | str, dtype: torch.dtype) -> None:
        """Generate the instance and solve it (O(num_samples dim^2) a Newton iteration)."""
        inputs, labels = self.instance()
        self._optimum = self._solve(inputs, labels)
        self._inputs, self._labels = inputs.to(device), labels.to(device)
        self._batches = SampleBatches(
            self._inputs.to(dtype), self._labels.to(dtype), self.batch_size, self.seed
        )

    def _solve(self, inputs: Tensor, labels: Tensor) -> float:
        if self.labels == "hyperplane":
            return 0.0
        point = minimize_newton(
            lambda weight: logistic_derivatives(inputs, labels, weight), inputs.new_zeros(self.dim)
        )
        return logistic_derivatives(inputs, labels, point)[0].item()

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch; 1 for the full batch."""
        return len(self._batches)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield inputs (batch, dim) and labels +-1 (batch,)."""
        return self._batches.epoch(epoch, start)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """mean log(1 + exp(-y w'x)), without overflow."""
        return -F.logsigmoid(batch.targets * model(batch.inputs)).mean()

    def backward(self, model: nn.Module, batch: Batch) -> Tensor:
        """The gradient in closed form: half the cost of the graph at this size."""
        weight = model.weight
        with torch.no_grad():
            margins = batch.targets * torch.mv(batch.inputs, weight)
            pull = torch.sigmoid(-margins).mul_(batch.targets).div_(-batch.num_samples)
            add_grad(weight, torch.mv(batch.inputs.mT, pull))
            return -F.logsigmoid(margins).mean()

    def measure(self, model: nn.Module, split: str) -> dict[str, float]:
        """Loss and suboptimality over all samples, computed in float64."""
        weight = model.weight.double()
        loss = -F.logsigmoid(self._labels * (self._inputs @ weight)).mean().item()
        return {"loss": loss, "suboptimality": loss - self._optimum}

    def facts(self) -> dict[str, float]:
        """The optimum of this instance (the infimum 0 for hyperplane labels)."""
        return {"optimum": self._optimum}


def logistic_derivatives(
    inputs: Tensor, labels: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Value, gradient (d,) and Hessian (d, d) of the mean logistic loss at weight (d,)."""
    margins = labels * (inputs @ weight)
    pull = torch.sigmoid(-margins)
    grad = -(inputs.mT @ (labels * pull)) / len(inputs)
    hessian = (inputs.mT * (pull * (1 - pull))) @ inputs / len(inputs)
    return -F.logsigmoid(margins).mean(), grad, hessian
