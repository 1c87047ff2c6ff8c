"""Online convex optimisation: a stream of losses whose best fixed point in hindsight is known."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tasks.base import Batch, Task
from tasks.checks import check_at_least, check_choice, check_number
from tasks.models.parameter import FreeParameter, add_grad
from tasks.streams import STREAMS, Shape, comparators, horizons


class OnlineConvex(Task):
    """Meet the losses f_1 ... f_T of a stream one by one, from W = 0; T is `max_steps`.

    The training loss of step t is f_t(W_t), so that the regret after k steps is the sum of the
    first k training losses minus the fact `comparator_k`: the least sum of f_1 ... f_k over the
    ball |W|_F <= radius. The iterates are not kept in that ball, which is the optimizer's affair.
    `optimum` is the comparator of the whole stream divided by T: the mean training loss minus it
    is the regret divided by T. An epoch is the stream.

    Metrics on "train": loss, the mean of all f_t at the present point, and suboptimality.

    Args:
        stream: "box", |<u_a v_b', W> - b_t| with b_t = +-c, which is linear in a rotated box;
            "absolute", |<A_t, W> - b_t| without noise; "logistic", log(1 + exp(-y_t <A_t, W>));
            "least_squares", |W'x_t - y_t|^2 / 2. The first three are 1-Lipschitz (|A_t|_F = 1), the
            last is exp-concave [Yang et al. 2021, app. D].
        rows, columns: m and n of W.
        condition: of the covariances of rows and of columns of what is drawn; of the chances of
            coordinates of "box".
        radius: of the ball.
        noise: standard deviation of the noise of least squares.
        instance_seed: of the stream, apart from the run's seed.
        common: of `Task`.
    Raises:
        ValueError: on an option out of range.
    """

    def __init__(
        self,
        *,
        stream: str,
        rows: int,
        columns: int,
        condition: float,
        radius: float,
        noise: float,
        instance_seed: int,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        check_choice("data", self.data, ("synthetic",))
        check_choice("stream", stream, tuple(STREAMS))
        check_at_least("rows", rows, 1)
        check_at_least("columns", columns, 1)
        check_number("condition", condition, least=1)
        check_number("radius", radius, above=0)
        check_number("noise", noise, least=0)
        self.stream = STREAMS[stream]
        self.shape = Shape(self.max_steps, rows, columns, condition, radius, noise)
        self.instance_seed = instance_seed

    def data_hash(self) -> str:
        """Nothing is read: the stream follows from the options."""
        return ""

    def make_model(self) -> nn.Module:
        """The matrix W = 0, shape (rows, columns)."""
        return FreeParameter(torch.zeros(self.shape.rows, self.shape.columns))

    def setup(self, device: torch.device | str, dtype: torch.dtype) -> None:
        """Draw the stream and find its comparators, in float64 on the CPU."""
        check_at_least("instance_seed", self.instance_seed, 0)
        generator = torch.Generator().manual_seed(self.instance_seed)
        drawn = self.stream.draw(self.shape, generator)
        steps = horizons(self.shape.count)
        sums = comparators(self.stream, drawn, self.shape.radius, steps)
        self._facts = {f"comparator_{k}": value for k, value in zip(steps, sums, strict=True)}
        self._optimum = sums[-1] / self.shape.count
        self._exact = drawn.inputs.to(device), drawn.targets.to(device)
        self._inputs, self._targets = (tensor.to(dtype) for tensor in self._exact)

    @property
    def steps_per_epoch(self) -> int:
        """T: the whole stream."""
        return self.shape.count

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the stream's inputs (m, n), or (m,) for least squares, and targets in its order."""
        for index in range(start, self.shape.count):
            yield Batch(self._inputs[index], self._targets[index], epoch, index, 1)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """f_t at the model's point."""
        return self.stream.loss(model.weight, batch.inputs, batch.targets)[0]

    def backward(self, model: nn.Module, batch: Batch) -> Tensor:
        """The gradient in closed form; at a kink of "absolute" it is 0."""
        with torch.no_grad():
            loss, grad = self.stream.loss(model.weight, batch.inputs, batch.targets)
        add_grad(model.weight, grad)
        return loss

    def measure(self, model: nn.Module, split: str) -> dict[str, float]:
        """Mean loss of the present point over the whole stream, in float64, minus the optimum."""
        loss = self.stream.loss(model.weight.double(), *self._exact)[0].mean().item()
        return {"loss": loss, "suboptimality": loss - self._optimum}

    def facts(self) -> dict[str, float]:
        """The comparators: `optimum`, a mean, and `comparator_k`, sums over the first k steps."""
        return {"optimum": self._optimum, **self._facts}
