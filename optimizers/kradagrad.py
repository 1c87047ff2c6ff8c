"""KrADagrad: one inverse factor a step, from gradients preconditioned by the others."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from optimizers.base import constructor_options, require, require_choice, require_flag
from optimizers.kronecker.buckets import Batch, Bucket, Piece
from optimizers.kronecker.inverse_factors import InverseFactorOptimizer
from optimizers.linalg.blocking import merge_shape
from optimizers.linalg.krad import age_, krad_, woodbury_
from optimizers.linalg.kron import multiply_mode, unfold


class Schedule(NamedTuple):
    """Which mode a step updates.

    Attributes:
        mode: takes the step, from 0, and a shape.
        of_tensor: the shape is that of the whole tensor, else that of the block.
    """

    mode: Callable[[int, Sequence[int]], int]
    of_tensor: bool = False


def cyclic(step: int, shape: Sequence[int]) -> int:
    """Each mode in its turn."""
    return step % len(shape)


def square_root(step: int, shape: Sequence[int]) -> int:
    """In turn for k^2 steps, then the largest mode but for the k steps from each square on.

    The other modes get O(sqrt(step)) updates.
    """
    num_modes = len(shape)
    if step < num_modes**2:
        return step % num_modes
    since_square = step - math.isqrt(step) ** 2
    return since_square if since_square < num_modes else list(shape).index(max(shape))


SCHEDULES: MappingProxyType[str, Schedule] = MappingProxyType(
    {
        "cyclic": Schedule(cyclic),
        "square_root": Schedule(square_root),
        "square_root_whole": Schedule(square_root, of_tensor=True),
    }
)


class KrADagrad(InverseFactorOptimizer):
    """KrADagrad on blocks of merged shapes [Mei et al. 2023, section 3.2 and appendix C.1].

        i    = mode of this step, by `schedule`
        Gt   = G with P_j applied to each mode j but i
        L_i <- L_i / beta2,   L_i <- L_i - damping L_i L_i^T            [appendix C.4]
        L_i <- L_i - L_i A L_i / t,   A = Gt_(i) Gt_(i)^T               [eq. 13]
        L_i <- (L_i^{-1} + A / t)^{-1}                                  [eq. 12], with `woodbury`
        t    = 1 + ||A L_i||                                            [Proposition 3.2]
        P_i  = (L_i + root_shift I)^(1/2) for modes touched since, every update_freq steps from the
               first on, as roots enter A
        U    = Gt x_i P_i
        m   <- momentum m + U
        x   <- (1 - lr weight_decay) x - lr m

    The L_i together approximate the inverse of the second moment, hence the exponent 1/2 for any
    number of modes. For matrices A is G R G^T, with R entering as the square of its root in use.

    Departure from the paper: appendix C.1 is not in the text at hand; the schedule, the stale roots
    and the tensor form are those of the authors' code.

    State: for each mode of each block two n_i x n_i matrices, of statistics_dtype and apply_dtype,
    and n_i eigenvalues of root_dtype; the momentum buffer, and one more for graft adagrad or adam,
    in the widest of the first two, float32 and the parameter's dtype. With the default dtypes 8 sum
    n_i^2 + 4 sum n_i + 4 d bytes, 8 d with such a graft. Not in the state: workspace of the size of
    two gradients, and of one more of each parameter of several blocks.

    Args:
        params: parameters or groups; all options may differ by group.
        lr: >= 0.
        momentum: in [0, 1).
        momentum_rule: "heavy_ball", "nesterov" or "in_place_nesterov" (the authors').
        weight_decay: >= 0.
        weight_decay_rule: "decoupled", or "l2": added to the update (the authors').
        damping: of the statistic, in [0, beta2 / initial_scale); 0 switches it off; units of
            squared gradient.
        floor: lower bound of a factor's eigenvalues in its root; >= 0.
        root_shift: added to them before; >= 0.
        initial_scale: > 0; 1 in the paper.
        beta2: in (0, 1], above 1/4 with damping. Without damping, a direction without gradient
            grows by 1/beta2 a step, and with eq. 13 any where 1 - A L / t is above beta2.
        ceiling: where that growth ends: eigenvalues of a factor are cut at initial_scale
            ceiling^(1/k) before its root is taken, k the most modes of a parameter of the group;
            >= 1, finite. Without effect for beta2 = 1.
        t_rule: "frobenius" (the paper), "spectral", "trace" or "trace_dim".
        norm_iterations: of the spectral norm's power iteration; >= 1.
        schedule: "square_root" of the block's shape, "square_root_whole" of the tensor's (the
            authors'), or "cyclic"; see the functions of these names.
        woodbury: eq. 12 in the place of its lower bound eq. 13, at the price of a linear solve.
        first_block_only: compute roots for the first block of a tensor alone and leave the others
            at the identity: the index error of the authors' code.
        update_freq: steps from one root to the next; >= 1.
        start_step: first preconditioned step, counted from 1; before it the graft's own step, or
            the gradient, is taken.
        start_rule: momentum before it: "same" or "aliased" (the authors' KrADagrad* and Shampoo).
        exponent: of all factors; > 0; None for 1/2.
        root_method: "eigh"; "coupled_newton", where `floor` has no effect; or
            "coupled_newton_authors", where `floor` is a ridge, as a share of the largest
            eigenvalue, `damping` has no effect, and a root is taken as it comes.
        block_size: largest dimension of a block; >= 1.
        merge_dims: multiply consecutive dimensions while the product is at most block_size.
        graft: whose norm a tensor's update takes: "none", "sgd", "adagrad" or "adam".
        graft_eps: in the denominators of adagrad and adam; >= 0.
        graft_beta2: of adam; in (0, 1).
        statistics_dtype: of factors: float32, float64 or bfloat16, as dtype or name.
        root_dtype: in which roots are computed: float32 or float64.
        apply_dtype: of roots and their products with the gradient: as statistics_dtype.
    Raises:
        ValueError: on a value outside these ranges.
    """

    numerics_version = 1

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        momentum: float = 0.9,
        momentum_rule: str = "heavy_ball",
        weight_decay: float = 0.0,
        weight_decay_rule: str = "decoupled",
        damping: float = 0.0,
        floor: float = 0.0,
        root_shift: float = 0.0,
        initial_scale: float = 1.0,
        beta2: float = 1.0,
        ceiling: float = 1e6,
        t_rule: str = "frobenius",
        norm_iterations: int = 2,
        schedule: str = "square_root",
        woodbury: bool = False,
        first_block_only: bool = False,
        update_freq: int = 20,
        start_step: int = 1,
        start_rule: str = "same",
        exponent: float | None = None,
        root_method: str = "eigh",
        block_size: int = 128,
        merge_dims: bool = True,
        graft: str = "none",
        graft_eps: float = 1e-8,
        graft_beta2: float = 0.999,
        statistics_dtype: torch.dtype | str = torch.float32,
        root_dtype: torch.dtype | str = torch.float32,
        apply_dtype: torch.dtype | str = torch.float32,
    ) -> None:
        super().__init__(params, {**constructor_options(locals()), "root_schedule": "from_first"})

    def _check(self, options: dict[str, Any]) -> None:
        super()._check(options)
        require_choice(options["schedule"], "schedule", SCHEDULES)
        for name in ("woodbury", "first_block_only"):
            require_flag(options[name], name)
        woodbury = options["woodbury"]
        solvable = options["statistics_dtype"] != "bfloat16"
        require(not woodbury or solvable, "woodbury", "false with bfloat16 statistics", woodbury)

    def _num_factors(self, options: dict[str, Any]) -> int:
        return max(1, *(parameter.ndim for parameter in options["params"]))

    def _exponent(self, num_modes: int, options: dict[str, Any]) -> float:
        return options["exponent"] or 0.5

    def _accumulate(self, batch: Batch, step: int, options: dict[str, Any]) -> None:
        update_ = woodbury_ if options["woodbury"] else krad_
        for mode, rows in _rows_by_mode(batch, step, options).items():
            where = slice(None) if rows is None else rows
            nearly = batch.grads[where]
            for other in range(batch.bucket.num_modes):
                if other != mode:
                    root = batch.state[f"root_{other}"][where]
                    nearly = multiply_mode(nearly.to(root.dtype), root, other)
            stored = batch.state[f"factor_{mode}"]
            factor = age_(stored[where], options["beta2"], options["damping"])
            columns = unfold(nearly, mode).to(factor.dtype)
            update_(factor, columns, options["t_rule"], options["norm_iterations"])
            if rows is not None:
                stored[rows] = factor
            # `_precondition` goes on from here: the gradient itself is not needed any more.
            batch.grads[where] = nearly.to(batch.grads.dtype)

    def _precondition(self, batch: Batch, step: int, options: dict[str, Any]) -> Tensor:
        for mode, rows in _rows_by_mode(batch, step, options).items():
            where = slice(None) if rows is None else rows
            root = batch.state[f"root_{mode}"][where]
            product = multiply_mode(batch.grads[where].to(root.dtype), root, mode)
            if rows is None:
                return product.contiguous()
            batch.spare[rows] = product.to(batch.spare.dtype)
        return batch.spare

    def _modes_due(
        self, bucket: Bucket, state: dict[str, Any], options: dict[str, Any]
    ) -> Iterable[int]:
        """Modes touched since the last root; the others would give the same root again."""
        now = self.state["shared"]["step"]
        params = options["params"]
        steps = [self.state.get(params[p], {}).get("root_step", 0) for p in set(bucket.positions)]
        since = max(min(steps), 0)
        if now - since > options["update_freq"]:
            return range(bucket.num_modes)
        window = range(since + 1, now + 1)
        return sorted({mode for t in window for mode in _ranges(bucket, bucket.pieces, t, options)})

    def _rows_due(self, bucket: Bucket, positions: list[int], options: dict[str, Any]) -> list[int]:
        rows = super()._rows_due(bucket, positions, options)
        return [r for r in rows if bucket.numbers[r] == 0 or not options["first_block_only"]]


def _ranges(
    bucket: Bucket, pieces: Iterable[Piece], step: int, options: dict[str, Any]
) -> dict[int, list[range]]:
    """Rows of the pieces that update each mode in this step, counted from 1."""
    schedule = SCHEDULES[options["schedule"]]
    found: dict[int, list[range]] = {}
    for piece in pieces:
        shape = bucket.shape
        if schedule.of_tensor:
            whole = options["params"][piece.position].shape
            shape = merge_shape(whole, options["block_size"], options["merge_dims"])
        mode = schedule.mode(step - 1, shape)
        found.setdefault(mode, []).append(range(piece.start, piece.stop))
    return found


def _rows_by_mode(batch: Batch, step: int, options: dict[str, Any]) -> dict[int, Tensor | None]:
    """Rows of the batch that update each mode in this step; None where all update the same."""
    schedule = SCHEDULES[options["schedule"]]
    if not schedule.of_tensor:
        return {schedule.mode(step - 1, batch.bucket.shape): None}
    found = _ranges(batch.bucket, batch.pieces, step, options)
    if len(found) == 1:
        return dict.fromkeys(found)
    return {
        mode: torch.tensor(list(itertools.chain(*ranges)), device=batch.grads.device)
        for mode, ranges in found.items()
    }
