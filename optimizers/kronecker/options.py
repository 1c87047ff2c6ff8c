"""Options of the optimizers that keep a factor a mode, and what they may be."""

from __future__ import annotations

import math
from typing import Any

import torch

from optimizers.base import (
    DTYPES,
    dtype_name,
    require,
    require_choice,
    require_common,
    require_flag,
    require_number,
)
from optimizers.common.momentum import MOMENTUM_RULES, START_RULES
from optimizers.kronecker.grafting import GRAFTS
from optimizers.kronecker.roots import ROOT_METHODS

CHOICES = {
    "momentum_rule": MOMENTUM_RULES,
    "start_rule": START_RULES,
    "weight_decay_rule": ("decoupled", "l2"),
    "graft": GRAFTS,
    "root_method": ROOT_METHODS,
    "root_schedule": ("from_start", "from_first", "multiples"),
}
DTYPE_OPTIONS = {
    "statistics_dtype": tuple(DTYPES),
    "root_dtype": ("float32", "float64"),
    "apply_dtype": tuple(DTYPES),
}


def with_dtype_names(options: dict[str, Any]) -> dict[str, Any]:
    """The options with the three dtypes by name, as checkpoints hold them.

    Raises:
        ValueError: if one is not a dtype that its place can have.
    """
    return options | {
        name: dtype_name(options[name], name, allowed) for name, allowed in DTYPE_OPTIONS.items()
    }


def check_kronecker_options(options: dict[str, Any]) -> None:
    """Check the options of one group.

    Raises:
        ValueError: naming the option, its range and the value.
    """
    require_common(options)
    for name, allowed in CHOICES.items():
        require_choice(options[name], name, allowed)
    for name, dtypes in DTYPE_OPTIONS.items():
        dtype_name(options[name], name, dtypes)
    exponent = options["exponent"]
    require_number(exponent, "exponent", ends="()", optional=True)
    if options["root_method"].startswith("coupled_newton") and exponent is not None:
        whole = math.isfinite(1 / exponent) and abs(1 / exponent - round(1 / exponent)) < 1e-9
        require(whole, "exponent", f"1/p with an integer p for {options['root_method']}", exponent)
    for name in ("initial_scale", "floor", "graft_eps"):
        require_number(options[name], name)
    require_number(options["graft_beta2"], "graft_beta2", 0, 1, "()")
    require_flag(options["merge_dims"], "merge_dims")


def work_dtype(options: dict[str, Any]) -> torch.dtype:
    """dtype of stacked gradients and updates: wide enough for statistics and application."""
    dtype = torch.promote_types(DTYPES[options["statistics_dtype"]], DTYPES[options["apply_dtype"]])
    return torch.promote_types(dtype, torch.float32)
