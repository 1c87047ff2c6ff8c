"""Optimizers that evaluate the loss themselves: what ExactLineSearchGD and Newton share."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from optimizers.base import PreconditionedOptimizer, require

Closure = Callable[..., Tensor]


class ClosureOptimizer(PreconditionedOptimizer):
    """Abstract base: `step(closure)` evaluates the same batch as often as it needs.

    `closure()` zeroes the gradients, fills them anew at the present parameters and returns the
    loss; `closure(backward=False)` leaves `.grad` alone and returns the loss with its graph. It
    must be a function of the parameters alone: the same batch, the same random numbers.

        def closure(backward=True):
            loss = criterion(model(inputs), targets)
            if backward:
                optimizer.zero_grad()
                loss.backward()
            return loss

    A loss that is not finite skips the step: a fallback. Subclasses give `_search`.
    """

    needs_closure = True

    @abstractmethod
    def _search(self, closure: Closure, loss: Tensor) -> bool:
        """Update the parameters, whose gradients and finite loss the first call of `closure` gave.

        False, with parameters and state as they were, where something is not finite.
        """

    def step(self, closure: Closure | None = None) -> Any:
        """Update the parameters in place and return the loss before it.

        Raises:
            ValueError: without a closure.
        """
        if closure is None:
            raise ValueError(
                "closure must be a function closure(backward=True) that returns the loss, got None"
            )
        self._closure, self._loss = closure, None
        try:
            return super().step(self._evaluate)
        finally:
            del self._closure, self._loss

    def _evaluate(self) -> Any:
        self._loss = self._closure()
        return self._loss

    def _update(self) -> None:
        shared = self.state["shared"]
        shared.setdefault("fallbacks", 0)
        loss = torch.as_tensor(self._loss).detach()
        if not (math.isfinite(float(loss)) and self._search(self._closure, loss)):
            shared["fallbacks"] += 1


def loss_with_graph(closure: Closure) -> Tensor:
    """The loss at the present parameters, with gradients on.

    Raises:
        ValueError: if it has no graph.
    """
    with torch.enable_grad():
        loss = closure(backward=False)
    graph = isinstance(loss, Tensor) and loss.requires_grad
    require(graph, "closure(backward=False)", "a loss with its graph", loss)
    return loss
