"""Full-matrix AdaGrad: the exact, cubic-time method that low-rank and block methods approximate."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from optimizers.base import (
    DTYPES,
    PreconditionedOptimizer,
    dtype_name,
    require,
    require_common,
)
from optimizers.common import flat
from optimizers.linalg.eigh import eigh
from optimizers.telemetry import Spectrum

MAX_DIM = 5000


def inverse_root_product(matrix: Tensor, vector: Tensor, damping: float) -> tuple[Tensor, Tensor]:
    """Compute (H^{1/2} + damping I)^{-1} v and the eigenvalues of H. O(d^3).

    Args:
        matrix: H, shape (d, d), symmetric, positive semi-definite up to round-off.
        vector: v, shape (d,), dtype of `matrix`.
        damping: added to the square roots of the eigenvalues; > 0.
    Returns:
        The product, shape (d,), and the eigenvalues, shape (d,), ascending, both in H's dtype.
    Raises:
        torch.linalg.LinAlgError: if the eigendecomposition does not converge.
    """
    eigenvalues, V = eigh(matrix)
    scale = eigenvalues.clamp(min=0).sqrt_().add_(damping)
    return V.mv(V.T.mv(vector).div_(scale)), eigenvalues


class FullMatrixAdagrad(PreconditionedOptimizer):
    """AdaGrad with the full second-moment matrix over all parameters of all groups.

        H_t = H_{t-1} + g_t g_t^T                                       beta2 = 1
        H_t = beta2 H_{t-1} + (1 - beta2) g_t g_t^T                     beta2 < 1
        x  <- (1 - lr weight_decay) x - lr (H_t^{1/2} + damping I)^{-1} v_t
        v_t = momentum v_{t-1} + g_t

    [Duchi et al. 2011, eq. 1; "full" and "full, window" of Agarwal et al. 2019, fig. 2]
    beta2 < 1 is the matrix analogue of `torch.optim.RMSprop`, without bias correction.
    H is dense, with O(d^3) time a step. Memory: 8 (d^2 + 3 d) bytes, in float32 4 (d^2 + 3 d); a
    step allocates two matrices of H's size more. The root is never formed, only applied to one
    vector in H's own eigenvectors, so that no residual of it is known.

    Args:
        params: parameters or groups; lr and weight_decay may differ by group.
        lr: >= 0.
        damping: added to the square roots of the eigenvalues of H; > 0; units of gradient.
        beta2: in (0, 1].
        momentum: in [0, 1).
        weight_decay: decoupled; >= 0.
        preconditioner_dtype: of H and its root: float64 or float32, as dtype or name.
    Raises:
        ValueError: on a value outside these ranges, or at the first step if d > 5000.
    """

    numerics_version = 1

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        damping: float = 1e-4,
        beta2: float = 1.0,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        preconditioner_dtype: torch.dtype | str = torch.float64,
    ) -> None:
        defaults = {
            "lr": lr,
            "damping": damping,
            "beta2": beta2,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "preconditioner_dtype": dtype_name(preconditioner_dtype, "preconditioner_dtype"),
        }
        super().__init__(params, defaults)

    def _check(self, options: dict[str, Any]) -> None:
        require_common(options)
        dtype_name(options["preconditioner_dtype"], "preconditioner_dtype", ("float32", "float64"))

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        if "model" in self.state:
            raise ValueError("parameter groups must be added before the first step")
        super().add_param_group(param_group)

    def spectra(self) -> list[Spectrum]:
        """Eigenvalues of H of the last step; nothing before the first."""
        state = self.state.get("model")
        if state is None or len(state["eigenvalues"]) == 0:
            return []
        eigenvalues = state["eigenvalues"]
        # The backward error of a symmetric eigensolver is of the order d eps |H|.
        unit = len(eigenvalues) * torch.finfo(eigenvalues.dtype).eps
        resolution = unit * float(eigenvalues[-1])
        on_cpu = eigenvalues.to(device="cpu", dtype=torch.float64, copy=True)
        return [
            Spectrum("model", "second_moment", on_cpu, resolution, fallbacks=state["fallbacks"]),
        ]

    def _update(self) -> None:
        options = flat.shared_options(self.param_groups)
        state = self._model_state(options)
        grad = state["grad"]
        if not flat.gather_gradients(self.param_groups, grad):
            return
        beta2, momentum = options["beta2"], options["momentum"]
        weight = 1.0 if beta2 == 1 else 1 - beta2
        second_moment = torch.addr(state["second_moment"], grad, grad, beta=beta2, alpha=weight)
        v = torch.add(grad, state["momentum_buffer"], alpha=momentum) if momentum else grad
        # A positive semi-definite matrix is finite when its trace is; NaN anywhere reaches it.
        finite = math.isfinite(float(second_moment.trace()))
        try:
            update, eigenvalues = inverse_root_product(
                second_moment if finite else state["second_moment"], v, options["damping"]
            )
        except torch.linalg.LinAlgError:
            finite = False
        if not finite:
            state["fallbacks"] += 1
            return
        state["second_moment"], state["eigenvalues"] = second_moment, eigenvalues
        if momentum:
            state["momentum_buffer"] = v
        flat.apply_update(self.param_groups, update)

    def _model_state(self, options: dict[str, Any]) -> dict[str, Any]:
        if "model" not in self.state:
            dim = flat.num_values(self.param_groups)
            require(dim <= MAX_DIM, "number of parameters", f"<= {MAX_DIM} (dense matrix)", dim)
            flat.flat_dtype(self.param_groups)
            like = {
                "dtype": DTYPES[options["preconditioner_dtype"]],
                "device": flat.all_parameters(self.param_groups)[0].device,
            }
            self.state["model"] = {
                "second_moment": torch.zeros(dim, dim, **like),
                "momentum_buffer": torch.zeros(dim, **like),
                "grad": torch.zeros(dim, **like),
                "eigenvalues": torch.zeros(0, **like),
                "fallbacks": 0,
            }
        return self.state["model"]
