"""NG+ in float64 as all its tests use it, and how near two models must be."""

import torch

from optimizers import NGPlus

FLOAT64 = dict.fromkeys(("statistics_dtype", "root_dtype", "apply_dtype"), "float64")
COMMON = {"lr": 0.02, "momentum": 0.8, "damping": 0.3}
NUM_STEPS = 20
# float64 against float64 in another order of summation; a damped inverse has condition 1e4 at most.
CLOSE = {"rtol": 1e-9, "atol": 1e-11}


def make(model, **options):
    return NGPlus(model.parameters(), model=model, **{**COMMON, **FLOAT64, **options})


def assert_same(model, other, **close):
    for (name, ours), theirs in zip(model.named_parameters(), other.parameters(), strict=True):
        assert torch.allclose(ours, theirs, **{**CLOSE, **close}), name
