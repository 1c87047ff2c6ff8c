"""Analytic centre of a polytope: the log-barrier (GGT, Fig. 2 right)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tasks.base import Batch, Task, check_at_least, check_choice
from tasks.models.parameter import FreeParameter, add_grad
from tasks.synthetic import (
    SampleBatches,
    anisotropic_covariance,
    gaussian_samples,
    minimize_newton,
)


class Barrier(Task):
    """Minimise mean_i -log(w'x_i + c_i) from w = 0, with c_i uniform on [0, 1].

    The x_i are those of `Logistic` [Agarwal et al. 2019, sec. 4.1]. Outside the domain (some
    w'x_i + c_i <= 0) the loss is +inf: such a run has diverged.

    Metrics on "train": loss, and suboptimality = loss - optimum, both in float64 (rounding may
    leave a suboptimality of about -1e-16).

    Args:
        num_samples, dim: size of the instance.
        condition: condition number of the covariance.
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
        instance_seed: int,
        batch_size: int | None,
        **common: Any,
    ) -> None:
        super().__init__(batch_size=num_samples if batch_size is None else batch_size, **common)
        check_choice("data", self.data, ("synthetic",))
        check_at_least("num_samples", num_samples, 1)
        check_at_least("dim", dim, 1)
        self.num_samples = num_samples
        self.dim = dim
        self.condition = condition
        self.instance_seed = instance_seed

    def data_hash(self) -> str:
        """Nothing is read: the instance follows from the options."""
        return ""

    def make_model(self) -> nn.Module:
        """The point w = 0, shape (dim,), which lies in the domain."""
        return FreeParameter(torch.zeros(self.dim))

    def instance(self) -> tuple[Tensor, Tensor]:
        """Generate the data: inputs (num_samples, dim) and offsets (num_samples,), float64."""
        generator = torch.Generator().manual_seed(self.instance_seed)
        covariance = anisotropic_covariance(self.dim, self.condition, generator)
        inputs = gaussian_samples(self.num_samples, covariance, generator)
        return inputs, torch.rand(self.num_samples, dtype=torch.float64, generator=generator)

    def setup(self, device: torch.device | str, dtype: torch.dtype) -> None:
        """Generate the instance and solve it (O(num_samples dim^2) a Newton iteration)."""
        inputs, offsets = self.instance()
        point = minimize_newton(
            lambda weight: barrier_derivatives(inputs, offsets, weight), inputs.new_zeros(self.dim)
        )
        self._optimum = barrier_derivatives(inputs, offsets, point)[0].item()
        self._inputs, self._offsets = inputs.to(device), offsets.to(device)
        self._batches = SampleBatches(
            self._inputs.to(dtype), self._offsets.to(dtype), self.batch_size, self.seed
        )

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch; 1 for the full batch."""
        return len(self._batches)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield inputs (batch, dim) and offsets (batch,)."""
        return self._batches.epoch(epoch, start)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """mean -log(w'x + c); +inf outside the domain and where w is not a number."""
        return -_log_in_domain(model(batch.inputs) + batch.targets).mean()

    def backward(self, model: nn.Module, batch: Batch) -> Tensor:
        """The gradient in closed form: half the cost of the graph at this size."""
        weight = model.weight
        with torch.no_grad():
            slack = torch.addmv(batch.targets, batch.inputs, weight)
            pull = torch.where(slack > 0, slack.reciprocal(), 0).div_(-batch.num_samples)
            add_grad(weight, torch.mv(batch.inputs.mT, pull))
            return -_log_in_domain(slack).mean()

    def measure(self, model: nn.Module, split: str) -> dict[str, float]:
        """Loss and suboptimality over all samples, computed in float64."""
        slack = self._inputs @ model.weight.double() + self._offsets
        loss = -_log_in_domain(slack).mean().item()
        return {"loss": loss, "suboptimality": loss - self._optimum}

    def facts(self) -> dict[str, float]:
        """The optimum of this instance."""
        return {"optimum": self._optimum}


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
