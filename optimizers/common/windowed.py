"""What GGT and its authors' reading share: momentum, one window over the model, one step."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from optimizers.base import (
    DTYPES,
    PreconditionedOptimizer,
    dtype_name,
    require,
    require_common,
    require_count,
)
from optimizers.common import flat
from optimizers.linalg.window import LowRankWindow
from optimizers.telemetry import Spectrum


class WindowedOptimizer(PreconditionedOptimizer):
    """Abstract base: preconditions one vector by a window of the last r vectors over all groups.

    State, in `state["window"]`: the window itself (`rows`, `gram`, `count`), `momentum_buffer` and
    `update` of length d, `eigenvalues` of the last step's Gram matrix, `fallbacks`. Memory: window,
    two vectors and r^2 numbers; nothing of the order of d is allocated in a step.

    `window_dtype` is the only precision to choose: all that is of length r or r x r is float64, and
    the root is never formed, only applied to one vector, so that no residual of it is known.

    lr and weight_decay may differ by group, all other options must agree (ValueError in `step`).
    """

    cpu_state = frozenset({"gram", "eigenvalues"})

    @abstractmethod
    def _accumulate(self, momentum_buffer: Tensor, grad: Tensor, options: dict[str, Any]) -> None:
        """Renew the momentum buffer in place from the gradient, both of shape (d,)."""

    @abstractmethod
    def _coefficients(
        self, window: LowRankWindow, products: Tensor, options: dict[str, Any]
    ) -> tuple[Tensor, float, Tensor]:
        """Return c (n,), a and the eigenvalues (n,): the preconditioned vector is a v + G c."""

    def _check(self, options: dict[str, Any]) -> None:
        require_common(options)
        require_count(options["window"], "window")
        dtype_name(options["window_dtype"], "window_dtype")

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        if "window" in self.state:
            raise ValueError("parameter groups must be added before the first step")
        super().add_param_group(param_group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a checkpoint.

        Raises:
            ValueError: if its window belongs to a model of another size.
        """
        if "window" in state_dict["state"]:
            dim = state_dict["state"]["window"]["rows"].shape[1]
            own = flat.num_values(self.param_groups)
            require(dim == own, "the saved window's length", f"{own}, as the model", dim)
        super().load_state_dict(state_dict)

    def spectra(self) -> list[Spectrum]:
        """Eigenvalues of G^T G of the last step, no residual; nothing before the first."""
        state = self.state.get("window")
        if state is None or len(state["eigenvalues"]) == 0:
            return []
        eigenvalues = state["eigenvalues"].clone()
        resolution = LowRankWindow(state).resolution * max(float(eigenvalues[-1]), 0.0)
        return [
            Spectrum("window", "gram", eigenvalues, resolution, fallbacks=state["fallbacks"]),
        ]

    def _update(self) -> None:
        options = flat.shared_options(self.param_groups)
        state = self._window_state(options)
        if not flat.gather_gradients(self.param_groups, state["update"]):
            return
        window, grad, v = LowRankWindow(state), state["update"], state["momentum_buffer"]
        if not _norms_fit(v, grad, window.working_dtype):
            state["fallbacks"] += 1
            return
        self._accumulate(v, grad, options)
        from_gradient = options.get("window_source", "momentum") == "gradient"
        if from_gradient and options["momentum"] != 0:
            products = window.push(grad, v)[1]
        else:
            products = window.push(grad if from_gradient else v)[0]
        try:
            c, multiple, state["eigenvalues"] = self._coefficients(window, products, options)
        except torch.linalg.LinAlgError:
            state["fallbacks"] += 1
            return
        update = window.combine(c, state["update"])
        if multiple != 0:
            update.add_(v, alpha=multiple)
        flat.apply_update(self.param_groups, update)

    def _window_state(self, options: dict[str, Any]) -> dict[str, Any]:
        if "window" not in self.state:
            dim = flat.num_values(self.param_groups)
            dtype = flat.flat_dtype(self.param_groups)
            device = flat.all_parameters(self.param_groups)[0].device
            window = LowRankWindow.create(
                options["window"], dim, DTYPES[options["window_dtype"]], device
            )
            self.state["window"] = window.state | {
                "momentum_buffer": torch.zeros(dim, dtype=dtype, device=device),
                "update": torch.zeros(dim, dtype=dtype, device=device),
                "eigenvalues": torch.zeros(0, dtype=torch.float64),
                "fallbacks": 0,
            }
        return self.state["window"]


def _norms_fit(momentum_buffer: Tensor, grad: Tensor, dtype: torch.dtype) -> bool:
    """Whether every inner product that this gradient can enter stays finite in `dtype`.

    By Cauchy and Schwarz the largest is the square of the new momentum, at most (|v| + |g|)^2. It
    is asked before anything is overwritten: a bad gradient leaves no trace. False for NaN.
    """
    bound = float(torch.linalg.vector_norm(momentum_buffer) + torch.linalg.vector_norm(grad))
    return bound * bound < torch.finfo(dtype).max
