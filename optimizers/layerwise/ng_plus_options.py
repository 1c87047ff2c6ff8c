"""The options of NG+ and what they may be."""

from __future__ import annotations

import math
from typing import Any

from optimizers.base import (
    dtype_name,
    is_number,
    require,
    require_choice,
    require_common,
    require_count,
    require_number,
)
from optimizers.layerwise.ng_plus_curvature import SIDES


def check_options(options: dict[str, Any]) -> None:
    """Check the options of one group of `NGPlus`.

    Raises:
        ValueError: naming the option, its range and the value.
    """
    # beta2 may be 0 here, damping sometimes, and the sizes None.
    shared = {k: v for k, v in options.items() if k not in ("beta2", "damping", "block_size")}
    require_common(shared)
    require_choice(options["statistic"], "statistic", ("samples", "minibatch"))
    minibatch = options["statistic"] == "minibatch"
    require_number(options["beta2"], "beta2", 0, 1, "[]" if minibatch else "[)")
    require_number(options["initial"], "initial")
    online = minibatch and options["beta2"] == 1 and options["initial"] > 0
    require_number(options["damping"], "damping", ends="[)" if online else "()")
    for name in ("block_size", "sketch_size", "curvature_samples"):
        if options[name] is not None:
            require_count(options[name], name)
    require_count(options["seed"], "seed", 0)
    require_choice(options["side"], "side", SIDES)
    require_choice(options["method"], "method", ("dense", "low_rank"))
    require_choice(options["sample"], "sample", ("sequence", "token"))
    require_number(options["gamma"], "gamma", ends="()")
    if options["method"] == "low_rank":
        plain = not minibatch and options["beta2"] == 0
        need = "dense unless statistic is samples and beta2 is 0"
        require(plain, "method", need, "low_rank")
    if options["radius"] is not None:
        fits = minibatch and is_number(options["radius"], 0, math.inf, "()")
        need = "null, or > 0 with statistic minibatch"
        require(fits, "radius", need, options["radius"])
    for name in ("statistics_dtype", "apply_dtype"):
        dtype_name(options[name], name)
    dtype_name(options["root_dtype"], "root_dtype", ("float32", "float64"))
