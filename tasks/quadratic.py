"""An ill-conditioned matrix quadratic (KrADagrad, Fig. 1)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tasks.base import Batch, Task
from tasks.checks import check_at_least, check_choice, check_number
from tasks.models.parameter import FreeParameter, add_grad
from tasks.synthetic import random_rotation


class Quadratic(Task):
    """Minimise tr(X' A X B) over X (dim, dim), with A and B positive definite.

    A = Q diag(s) Q', and B likewise with a Q of its own, where
    s_i = max_eigenvalue * condition^(-t_i^spectrum_exponent) with t_i = linspace(0, 1, dim)
    [the published notebook; the paper only gives the condition number]. X starts from N(0, 1).
    Loss and gradient 2 A X B are computed in float64, and the gradient is cast to X's dtype, so
    that a method's own precision is what is compared. The optimum is 0, at X = 0.

    There is no data: a batch has neither inputs nor targets, and an epoch is one step.
    Metric on "train": loss.

    Args:
        dim: rows and columns of X.
        condition: condition number of A and of B, >= 1.
        spectrum_exponent: how late the spectrum falls, > 0.
        max_eigenvalue: of A and of B, > 0.
        instance_seed: of A and B, apart from the run's seed, which draws X.
    Raises:
        ValueError: on an option out of range.
    """

    def __init__(
        self,
        *,
        dim: int,
        condition: float,
        spectrum_exponent: float,
        max_eigenvalue: float,
        instance_seed: int,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        check_choice("data", self.data, ("synthetic",))
        check_at_least("dim", dim, 1)
        check_number("condition", condition, least=1)
        check_number("spectrum_exponent", spectrum_exponent, above=0)
        check_number("max_eigenvalue", max_eigenvalue, above=0)
        self.dim = dim
        self.condition = condition
        self.spectrum_exponent = spectrum_exponent
        self.max_eigenvalue = max_eigenvalue
        self.instance_seed = instance_seed

    def data_hash(self) -> str:
        """Nothing is read: the instance follows from the options."""
        return ""

    def make_model(self) -> nn.Module:
        """The matrix X, entries N(0, 1), shape (dim, dim)."""
        return FreeParameter(torch.randn(self.dim, self.dim))

    def instance(self) -> tuple[Tensor, Tensor]:
        """Generate A and B, each (dim, dim), float64."""
        generator = torch.Generator().manual_seed(self.instance_seed)
        powers = torch.linspace(0, 1, self.dim, dtype=torch.float64) ** self.spectrum_exponent
        spectrum = self.max_eigenvalue * self.condition**-powers
        rotations = [random_rotation(self.dim, generator) for _ in range(2)]
        a, b = ((q * spectrum) @ q.mT for q in rotations)
        return (a + a.mT) / 2, (b + b.mT) / 2

    def setup(self, device: torch.device | str, dtype: torch.dtype) -> None:
        """Generate the instance; `dtype` does not matter, as A and B stay float64."""
        check_at_least("instance_seed", self.instance_seed, 0)
        a, b = self.instance()
        self._a, self._b = a.to(device), b.to(device)

    @property
    def steps_per_epoch(self) -> int:
        """One: the problem is deterministic."""
        return 1

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield one empty batch."""
        if start == 0:
            yield Batch(None, None, epoch, 0, 1)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """tr(X' A X B), float64."""
        x = model.weight.double()
        return (x * (self._a @ x @ self._b)).sum()

    def backward(self, model: nn.Module, batch: Batch) -> Tensor:
        """The gradient 2 A X B in closed form: two products of matrices instead of six."""
        weight = model.weight
        with torch.no_grad():
            x = weight.double()
            product = self._a @ x @ self._b
            add_grad(weight, (2 * product).to(weight.dtype))
            return (x * product).sum()

    def measure(self, model: nn.Module, split: str) -> dict[str, float]:
        """The loss, in float64."""
        x = model.weight.double()
        return {"loss": (x * (self._a @ x @ self._b)).sum().item()}

    def facts(self) -> dict[str, float]:
        """The optimum, 0."""
        return {"optimum": 0.0}
