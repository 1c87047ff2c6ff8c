"""NG+ against its transcription, equation by equation."""

import pytest
import torch

from tests.optimizers import reference_ng_plus as reference
from tests.optimizers.ng_plus_models import Dense, Images, Tensors, Text, train
from tests.optimizers.ng_plus_runs import COMMON, NUM_STEPS, assert_same, make

READINGS = {
    "eqs. 4-7": {},
    "weight decay": {"weight_decay": 0.1},
    "left": {"side": "left"},
    "right": {"side": "right"},
    "eq. 11": {"beta2": 0.7},
    "eq. 12": {"statistic": "minibatch", "beta2": 0.9, "gamma": 0.5, "initial": 0.1},
    "eq. 18": {"block_size": 3},
    "eq. 18 right": {"block_size": 4, "side": "right"},
    "eq. 18 of 12": {"block_size": 2, "statistic": "minibatch", "beta2": 1.0},
    "eq. 19": {
        "statistic": "minibatch",
        "beta2": 1.0,
        "initial": 0.5,
        "damping": 0.0,
        "momentum": 0.0,
        "radius": 1.5,
    },
    "S_k": {"curvature_samples": 2},
    "eq. 14": {"method": "low_rank"},
}


@pytest.mark.parametrize("update_freq", [1, 5])
@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("cls", [Dense, Images, Text, Tensors])
def test_twenty_steps_of_the_equations(cls, reading, update_freq):
    options = {**COMMON, **READINGS[reading], "update_freq": update_freq}
    model, other = cls(), cls()
    train(model, make(model, **options), range(NUM_STEPS))
    options.pop("method", None)
    batches = [other.batch(step) for step in range(NUM_STEPS)]
    reference.ng_plus(other, other.losses, batches, list(other.matrices), **options)
    assert_same(model, other)
    assert not torch.allclose(next(model.parameters()), next(cls().parameters()))


@pytest.mark.parametrize("options", [{}, {"statistic": "minibatch", "beta2": 1.0}])
def test_single_precision_stays_close(options):
    """Five steps: round-off of float32, 6e-8, times the condition of L + damping I, below 1e3."""
    model, other = Text(), Text()
    train(model, make(model, update_freq=2, **options), range(5))
    names = ("statistics_dtype", "root_dtype", "apply_dtype")
    other.float()
    train(other, make(other, update_freq=2, **options, **dict.fromkeys(names, "float32")), range(5))
    assert_same(model, other.double(), rtol=1e-4, atol=1e-5)
