"""Two dependent parameters: why gradient descent zig-zags (AdaGrad-BMA, section 2 and Fig. 1)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tasks.base import Batch, Task
from tasks.checks import check_choice, check_number, check_numbers
from tasks.models.parameter import FreeParameter

PARAMETRIZATIONS = ("theta", "whitened")


class Quadratic2D(Task):
    """Minimise f = 1/2 theta' Q theta over theta in the plane, Q = [[1, c], [c, 1]].

    Q = U diag(1 + c, 1 - c) U', with its axes at 45 degrees to the parameters'. The model holds
    theta, or the whitened xi = diag(1 + c, 1 - c)^{1/2} U' theta, in which f = 1/2 xi' xi and the
    gradient points away from the optimum. (The paper prints U for U'.) The optimum is 0, at 0.

    Gradient descent with exact line search multiplies f by c^2 at most in each step, and by just
    that from a start whose gradient has equal parts along both axes of Q; whitened, it is at the
    optimum after one step.

    There is no data: a batch has neither inputs nor targets, an epoch is one step, and nothing
    depends on the seed. Loss and gradient are computed in float64 and cast to the parameters'
    dtype. Metrics on "train": loss, theta1, theta2.

    Args:
        coupling: c, between -1 and 1.
        start: theta of the model, two numbers.
        parametrization: what the model holds, "theta" or "whitened".
        num_tensors: 1: a vector of two values, `weight`; 2: two vectors of one, which makes two
            blocks for methods that know the model tensor by tensor.
    Raises:
        ValueError: on an option out of range.
    """

    def __init__(
        self,
        *,
        coupling: float,
        start: Sequence[float],
        parametrization: str,
        num_tensors: int,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        check_choice("data", self.data, ("synthetic",))
        check_number("coupling", coupling, above=-1, below=1)
        check_numbers("start", start, 2, "be two finite numbers")
        check_choice("parametrization", parametrization, PARAMETRIZATIONS)
        if num_tensors not in (1, 2) or isinstance(num_tensors, bool):
            raise ValueError(f"num_tensors must be 1 or 2, got {num_tensors}")
        self.coupling = coupling
        self.start = tuple(start)
        self.parametrization = parametrization
        self.num_tensors = num_tensors

    def data_hash(self) -> str:
        """Nothing is read: the instance is in the options."""
        return ""

    def matrices(self) -> tuple[Tensor, Tensor]:
        """Q, and the map from the model's values to theta, each (2, 2), float64."""
        c = self.coupling
        q = torch.tensor([[1, c], [c, 1]], dtype=torch.float64)
        if self.parametrization == "theta":
            return q, torch.eye(2, dtype=torch.float64)
        axes = torch.tensor([[1, 1], [1, -1]], dtype=torch.float64) / math.sqrt(2)
        eigenvalues = torch.tensor([1 + c, 1 - c], dtype=torch.float64)
        return q, axes / eigenvalues.sqrt()

    def make_model(self) -> nn.Module:
        """The point of `start`, in the model's parametrization."""
        _, to_theta = self.matrices()
        start = torch.tensor(self.start, dtype=torch.float64)
        values = torch.linalg.solve(to_theta, start).float()
        return FreeParameter(values) if self.num_tensors == 1 else Coordinates(values)

    def setup(self, device: torch.device | str, dtype: torch.dtype) -> None:
        """Make the instance; `dtype` does not matter, as it stays float64."""
        q, to_theta = self.matrices()
        self._to_theta = to_theta.to(device)
        self._hessian = (to_theta.mT @ q @ to_theta).to(device)

    @property
    def steps_per_epoch(self) -> int:
        """One: the problem is deterministic."""
        return 1

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield one empty batch."""
        if start == 0:
            yield Batch(None, None, epoch, 0, 1)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """f, float64."""
        point = values_of(model)
        return point @ self._hessian @ point / 2

    def measure(self, model: nn.Module, split: str) -> dict[str, float]:
        """f in float64, and where theta is."""
        point = values_of(model)
        theta1, theta2 = (self._to_theta @ point).tolist()
        loss = (point @ self._hessian @ point / 2).item()
        return {"loss": loss, "theta1": theta1, "theta2": theta2}

    def facts(self) -> dict[str, float]:
        """The optimum, and the factor of f in a step of gradient descent with exact line search."""
        rate = self.coupling**2 if self.parametrization == "theta" else 0.0
        return {"optimum": 0.0, "line_search_rate": rate}


class Coordinates(nn.Module):
    """A point whose coordinates are parameters of their own, each a vector of one value."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.values = nn.ParameterList(value.clone() for value in values.split(1))


def values_of(model: nn.Module) -> Tensor:
    """The values of the whole model as one vector, float64."""
    return torch.cat([parameter.double() for parameter in model.parameters()])
