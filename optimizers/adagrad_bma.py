"""AdaGrad with a block mean approximation of the full matrix [Lu et al. 2018, Algorithm 1]."""

from __future__ import annotations

import contextlib
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
    require_choice,
    require_common,
    require_number,
)
from optimizers.common import flat
from optimizers.common.gradients import require_dense
from optimizers.common.partition import PARTITIONS, Layout, layout
from optimizers.linalg import block_mean
from optimizers.linalg.eigh import MAX_SINGLE_THREADED, threads
from optimizers.telemetry import Spectrum

MAX_BLOCKS = 5000
# Up to this size a second thread costs more than it gives, even on an idle machine: 277,000 values
# take 1.0 ms on one thread and 1.3 on two.
MAX_SINGLE_THREADED_VALUES = 2**18


class AdagradBMA(PreconditionedOptimizer):
    """AdaGrad whose full matrix is approximated by means over blocks [Lu et al. 2018].

        r <- r + g^2,   z = (r + damping)^{1/2},   u_i, v_i = sums of g, z over block i
        U <- U + u u^T,   W = I + (U - diag U) / (v v^T),   D = S^{-1/2} (W^{-1/2} - I) S^{-1/2}
        y = z^{-1/2} g,   y^i <- y^i + sum_j D_ij (sum of y over block j)
        x <- (1 - lr weight_decay) x - lr z^{-1/2} y

    that is, x <- x - lr Z^{-1/2} F^{-1/2} Z^{-1/2} g with F = I + the expansion of the block means;
    one block alone is diagonal AdaGrad. W is positive semi-definite, as |sums of g| <= v.

    Departure from the paper: line 18 of Algorithm 1 adds D u with u the sums of the raw g, which is
    neither symmetric nor of the same units as y (`block_sums="gradient"`, reading `printed`).
    A correction reaches every value of a block, also one whose own gradients were all zero: its
    step is the correction over damping^{1/4}, so that damping must not be negligible there.
    A gradient that is not finite, or too large to square, skips the step: a fallback.

    Cost: O(d + L^3 / update_freq) and on CUDA one host synchronisation a step; the L x L algebra is
    on the CPU. Memory: d numbers of `statistics_dtype` and 8 (2 L^2 + L) bytes, 4 L^2 fewer with
    float32 roots; five vectors of length d beside the state are work space. Groups cannot be added
    after the first step.

    No apply_dtype: D multiplies L sums only. No bfloat16: a sum of squares would stop to grow when
    a square is 1/256 of it.

    Args:
        params: parameters or groups; lr and weight_decay may differ by group, the rest must agree.
        lr: >= 0.
        partition: "layer" (each tensor a block: weights and biases apart), "unit" (a block a slice
            along the first dimension of a tensor of two or more), "group" (along the first two of a
            tensor of three or more, that is a convolution kernel), "element". Tensors of fewer
            dimensions are as in the partition before; a vector (bias) is one block in all but
            "element".
        damping: the paper's epsilon, added to the sums of squares r; > 0; squared gradient.
        eigenvalue_floor: eigenvalues of W below it are raised to it; in (0, 1]. Small blocks are
            dependent in the first steps (single values wholly, W of rank one in the first).
        update_freq: steps from one D to the next; r and U are renewed in each.
        weight_decay: decoupled; >= 0.
        block_sums: of what D multiplies the sums, "preconditioned" (y) or "gradient" (printed).
        statistics_dtype: of r and of a step's vectors: float32 or float64, as dtype or name.
        root_dtype: of the root of W and of D: float64 or float32. U is float64 in any case.
    Raises:
        ValueError: on a value outside these ranges, or at the first step if L > 5000.
    """

    numerics_version = 1
    cpu_state = frozenset({"U", "root", "eigenvalues"})

    # Work space, g, z, y and z^{-1/2}, (4, d), and a vector that changes places with r. Allocated
    # anew in every step it would cost more in page faults than what is computed in it.
    _work: Tensor | None = None
    _spare: Tensor | None = None

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        partition: str = "layer",
        damping: float = 1e-8,
        eigenvalue_floor: float = 1e-3,
        update_freq: int = 1,
        weight_decay: float = 0.0,
        block_sums: str = "preconditioned",
        statistics_dtype: torch.dtype | str = torch.float32,
        root_dtype: torch.dtype | str = torch.float64,
    ) -> None:
        defaults = {
            "lr": lr,
            "partition": partition,
            "damping": damping,
            "eigenvalue_floor": eigenvalue_floor,
            "update_freq": update_freq,
            "weight_decay": weight_decay,
            "block_sums": block_sums,
            "statistics_dtype": dtype_name(statistics_dtype, "statistics_dtype"),
            "root_dtype": dtype_name(root_dtype, "root_dtype"),
        }
        super().__init__(params, defaults)

    def _check(self, options: dict[str, Any]) -> None:
        require_common(options)
        require_choice(options["partition"], "partition", PARTITIONS)
        require_number(options["eigenvalue_floor"], "eigenvalue_floor", 0, 1, "(]")
        require_choice(options["block_sums"], "block_sums", ("preconditioned", "gradient"))
        for name in ("statistics_dtype", "root_dtype"):
            dtype_name(options[name], name, ("float32", "float64"))

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        if "model" in self.state:
            raise ValueError("parameter groups must be added before the first step")
        super().add_param_group(param_group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a checkpoint.

        Raises:
            ValueError: if it belongs to a model of another size.
        """
        if "model" in state_dict["state"]:
            dim = len(state_dict["state"]["model"]["sum_of_squares"])
            own = flat.num_values(self.param_groups)
            require(dim == own, "the saved statistic's length", f"{own}, as the model", dim)
        super().load_state_dict(state_dict)

    def spectra(self) -> list[Spectrum]:
        """Eigenvalues of W as of the last D; nothing before the first step.

        The residual is that of the eigenvalues of the root against those of W, raised.
        """
        state = self.state.get("model")
        if state is None or len(state["eigenvalues"]) == 0:
            return []
        eigenvalues = state["eigenvalues"].clone()
        # An entry of W carries the round-off of sums in the dtype of the statistics.
        unit = len(eigenvalues) * torch.finfo(state["sum_of_squares"].dtype).eps
        return [
            Spectrum(
                "model",
                "block_means",
                eigenvalues,
                unit * float(eigenvalues[-1]),
                root_residual=self._residual(state),
                fallbacks=state["fallbacks"],
                staleness=state["staleness"],
            )
        ]

    def _update(self) -> None:
        options = flat.shared_options(self.param_groups)
        parameters = flat.all_parameters(self.param_groups)
        grads = [parameter.grad for parameter in parameters]
        if all(grad is None for grad in grads):
            return
        require_dense(self.param_groups)
        blocks = layout(tuple(parameter.shape for parameter in parameters), options["partition"])
        state = self._model_state(options, blocks)
        small = len(state["sum_of_squares"]) <= MAX_SINGLE_THREADED_VALUES
        # A larger decomposition is faster on several.
        alone = small and blocks.num_blocks <= MAX_SINGLE_THREADED
        with threads(1) if alone else contextlib.nullcontext():
            self._descend(state, blocks, parameters, grads)

    def _descend(
        self,
        state: dict[str, Any],
        blocks: Layout,
        parameters: list[Tensor],
        grads: list[Tensor | None],
    ) -> None:
        """One step, or a fallback."""
        options, r = self.param_groups[0], state["sum_of_squares"]
        rows, inverse_root_z, squares = self._workspace(r)
        g, z, y = rows
        blocks.gather(grads, g)
        torch.addcmul(r, g, g, out=squares)
        torch.add(squares, options["damping"], out=z).sqrt_()
        torch.rsqrt(z, out=inverse_root_z)
        torch.mul(g, inverse_root_z, out=y)
        sums = blocks.block_sums(rows).to(device="cpu", dtype=torch.float64)
        if not self._renew_root(state, sums, blocks, options):
            state["fallbacks"] += 1
            return
        state["sum_of_squares"], self._spare = squares, r
        multiplied = sums[2] if options["block_sums"] == "preconditioned" else sums[0]
        root = state["root"]
        blocks.add_to_blocks(y, (root @ multiplied.to(root.dtype)).to(y))
        y.mul_(inverse_root_z)
        flat.apply_updates(self.param_groups, blocks.scatter(y, parameters))

    def _renew_root(
        self, state: dict[str, Any], sums: Tensor, blocks: Layout, options: dict[str, Any]
    ) -> bool:
        """Commit U and, where it is due, D; False and no trace if a number is not finite.

        `sums` holds the block sums of g, z and y, shape (3, L). The sums of z, or those of y, are
        finite only if every gradient and every sum of squares is.
        """
        u, v = sums[0], sums[1]
        U = torch.addr(state["U"], u, u)
        if not math.isfinite(float(sums.sum() + U.trace())):
            return False
        due = len(state["eigenvalues"]) == 0 or state["staleness"] + 1 >= options["update_freq"]
        if due:
            dtype = DTYPES[options["root_dtype"]]
            given = (U, v, blocks.root_sizes, options["eigenvalue_floor"])
            try:
                root, eigenvalues = block_mean.second_moment_root(*given, dtype)
            except torch.linalg.LinAlgError:
                return False
            state["root"], state["eigenvalues"] = root, eigenvalues.double()
        state["staleness"] = 0 if due else state["staleness"] + 1
        state["U"] = U
        return True

    def _residual(self, state: dict[str, Any]) -> float:
        options = self.param_groups[0]
        shapes = tuple(p.shape for p in flat.all_parameters(self.param_groups))
        roots = layout(shapes, options["partition"]).root_sizes
        raised = state["eigenvalues"].clamp(min=options["eigenvalue_floor"])
        return block_mean.root_residual(state["root"], raised, roots)

    def _workspace(self, r: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rows g, z and y, whose block sums are taken together, z^{-1/2}, and the next r."""
        if self._work is None or self._work.dtype != r.dtype or self._work.device != r.device:
            self._work, self._spare = r.new_empty(4, len(r)), torch.empty_like(r)
        return self._work[:3], self._work[3], self._spare

    def _model_state(self, options: dict[str, Any], blocks: Layout) -> dict[str, Any]:
        if "model" not in self.state:
            flat.flat_dtype(self.param_groups)
            L = blocks.num_blocks
            require(L <= MAX_BLOCKS, "number of blocks", f"<= {MAX_BLOCKS} (dense matrix)", L)
            dim = flat.num_values(self.param_groups)
            dtype = DTYPES[options["statistics_dtype"]]
            device = flat.all_parameters(self.param_groups)[0].device
            self.state["model"] = {
                "sum_of_squares": torch.zeros(dim, dtype=dtype, device=device),
                "U": torch.zeros(L, L, dtype=torch.float64),
                "root": torch.zeros(L, L, dtype=DTYPES[options["root_dtype"]]),
                "eigenvalues": torch.zeros(0, dtype=torch.float64),
                "staleness": 0,
                "fallbacks": 0,
            }
        return self.state["model"]
