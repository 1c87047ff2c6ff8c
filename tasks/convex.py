"""The convex problems of GGT's Fig. 2: Gaussian samples, one weight vector, a known optimum."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tasks.base import Batch, Task
from tasks.checks import check_at_least, check_choice, check_number
from tasks.models.parameter import FreeParameter
from tasks.synthetic import SampleBatches


class ConvexProblem(Task):
    """Minimise mean_i l(w'x_i, t_i) from w = 0; a subclass gives the instance and l.

    Metrics on "train": loss, and suboptimality = loss - optimum, both in float64 (rounding may
    leave a suboptimality of about -1e-16).

    Args:
        num_samples, dim: size of the instance.
        condition: condition number of the covariance of the x_i.
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
        check_number("condition", condition, least=1)
        self.num_samples = num_samples
        self.dim = dim
        self.condition = condition
        self.instance_seed = instance_seed

    @abc.abstractmethod
    def instance(self) -> tuple[Tensor, Tensor]:
        """Generate inputs x (num_samples, dim) and targets t (num_samples,), both float64."""

    @abc.abstractmethod
    def optimum(self, inputs: Tensor, targets: Tensor) -> float:
        """The least loss of an instance, or its infimum."""

    @abc.abstractmethod
    def value(self, products: Tensor, targets: Tensor) -> Tensor:
        """The mean loss, from w'x (batch,) and t (batch,)."""

    def data_hash(self) -> str:
        """Nothing is read: the instance follows from the options."""
        return ""

    def make_model(self) -> nn.Module:
        """The weight vector w = 0, shape (dim,)."""
        return FreeParameter(torch.zeros(self.dim))

    def setup(self, device: torch.device | str, dtype: torch.dtype) -> None:
        """Generate the instance and solve it (O(num_samples dim^2) a Newton iteration)."""
        check_at_least("instance_seed", self.instance_seed, 0)
        inputs, targets = self.instance()
        self._optimum = self.optimum(inputs, targets)
        self._inputs, self._targets = inputs.to(device), targets.to(device)
        self._batches = SampleBatches(
            self._inputs.to(dtype), self._targets.to(dtype), self.batch_size, self.seed
        )

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch; 1 for the full batch."""
        return len(self._batches)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield inputs (batch, dim) and targets (batch,)."""
        return self._batches.epoch(epoch, start)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean loss over the batch; `model` gives w'x."""
        return self.value(model(batch.inputs), batch.targets)

    def measure(self, model: nn.Module, split: str) -> dict[str, float]:
        """Loss and suboptimality over all samples, computed in float64."""
        loss = self.value(self._inputs @ model.weight.double(), self._targets).item()
        return {"loss": loss, "suboptimality": loss - self._optimum}

    def facts(self) -> dict[str, float]:
        """The optimum of this instance."""
        return {"optimum": self._optimum}
