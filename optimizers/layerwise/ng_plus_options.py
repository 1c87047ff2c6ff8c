"""The options of NG+ and what they may be."""

from __future__ import annotations

import math
from typing import Any

from optimizers.base import dtype_name, require, require_common, require_count
from optimizers.layerwise.ng_plus_curvature import SIDES, require_choice


def check_options(options: dict[str, Any]) -> None:
    """Check the options of one group of `NGPlus`.

    Raises:
        ValueError: naming the option, its range and the value.
    """
    # beta2 may be 0 here; the sizes may be None.
    given = {k: v for k, v in options.items() if v is not None and k != "beta2"}
    damping, initial, beta2 = (options[name] for name in ("damping", "initial", "beta2"))
    minibatch = options["statistic"] == "minibatch"
    online = minibatch and beta2 == 1 and initial > 0
    if online:
        require(damping >= 0, "damping", ">= 0", damping)
        given.pop("damping")
    require_common(given)
    for name in ("sketch_size", "curvature_samples"):
        if name in given:
            require_count(options[name], name)
    require_count(options["seed"], "seed", 0)
    require_choice(options["statistic"], "statistic", ("samples", "minibatch"))
    require_choice(options["side"], "side", SIDES)
    require_choice(options["method"], "method", ("dense", "low_rank"))
    require_choice(options["sample"], "sample", ("sequence", "token"))
    require(0 <= initial < math.inf, "initial", ">= 0", initial)
    require(0 < options["gamma"] < math.inf, "gamma", "> 0", options["gamma"])
    top = beta2 <= 1 if minibatch else beta2 < 1
    require(beta2 >= 0 and top, "beta2", "in [0, 1]" if minibatch else "in [0, 1)", beta2)
    if options["method"] == "low_rank":
        plain = not minibatch and beta2 == 0
        need = "dense unless statistic is samples and beta2 is 0"
        require(plain, "method", need, "low_rank")
    if options["radius"] is not None:
        fits = minibatch and options["radius"] > 0
        need = "null, or > 0 with statistic minibatch"
        require(fits, "radius", need, options["radius"])
    for name in ("statistics_dtype", "apply_dtype"):
        dtype_name(options[name], name)
    dtype_name(options["root_dtype"], "root_dtype", ("float32", "float64"))
