"""Grafting: the direction of one method with the step length of another, per parameter tensor.

[Agarwal et al. 2020, "Disentangling adaptive gradient methods from learning rates"]
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class Graft(ABC):
    """Abstract: the method whose step length is taken over.

    Lists run over the parameters with a gradient; accumulators are in the working dtype.
    """

    # Accumulators of the parameter's size that it keeps in the parameter's state.
    accumulators: tuple[str, ...] = ()

    @abstractmethod
    def directions(
        self, grads: list[Tensor], states: Sequence[dict[str, Any]], options: dict[str, Any]
    ) -> list[Tensor]:
        """The method's own steps for lr = 1; renews its accumulators in place."""

    def norms(self, directions: list[Tensor], grad_norms: list[Tensor]) -> list[Tensor] | None:
        """Frobenius norms that the updates are scaled to; None leaves them alone."""
        return list(torch._foreach_norm(directions))


class NoGraft(Graft):
    """Keep the preconditioned update's own length."""

    def directions(self, grads, states, options):
        return grads

    def norms(self, directions, grad_norms):
        return None


class SGDGraft(NoGraft):
    """The raw gradient's length."""

    def norms(self, directions, grad_norms):
        return grad_norms


class AdagradGraft(Graft):
    """torch.optim.Adagrad's: g / (sqrt(sum g^2) + eps), the sum including this gradient."""

    accumulators = ("graft_sum",)

    def directions(self, grads, states, options):
        sums = [state["graft_sum"] for state in states]
        grads = _as(sums, grads)
        torch._foreach_addcmul_(sums, grads, grads)
        scales = torch._foreach_sqrt(sums)
        torch._foreach_add_(scales, options["graft_eps"])
        return list(torch._foreach_div(grads, scales))


class AdamGraft(Graft):
    """torch.optim.Adam's with betas (0, graft_beta2): momentum comes after grafting."""

    accumulators = ("graft_exp_avg_sq",)

    def directions(self, grads, states, options):
        beta2 = options["graft_beta2"]
        averages = [state["graft_exp_avg_sq"] for state in states]
        grads = _as(averages, grads)
        torch._foreach_mul_(averages, beta2)
        torch._foreach_addcmul_(averages, grads, grads, value=1 - beta2)
        corrections = []
        for state in states:
            state["graft_step"] = state.get("graft_step", 0) + 1
            corrections.append((1 - beta2 ** state["graft_step"]) ** 0.5)
        scales = torch._foreach_sqrt(averages)
        torch._foreach_div_(scales, corrections)
        torch._foreach_add_(scales, options["graft_eps"])
        return list(torch._foreach_div(grads, scales))


GRAFTS: dict[str, Graft] = {
    "none": NoGraft(),
    "sgd": SGDGraft(),
    "adagrad": AdagradGraft(),
    "adam": AdamGraft(),
}


def _as(accumulators: list[Tensor], grads: list[Tensor]) -> list[Tensor]:
    return [grad.to(one.dtype) for one, grad in zip(accumulators, grads, strict=True)]


def rescale_(updates: list[Tensor], norms: list[Tensor]) -> None:
    """Scale each update in place to the norm given, a 0-d tensor; a zero update stays zero."""
    scales = torch._foreach_norm(updates)
    # 1e-16 as in the authors' code: far below any norm that float32 gradients have
    torch._foreach_add_(scales, 1e-16)
    torch._foreach_mul_(updates, torch._foreach_div(norms, scales))
