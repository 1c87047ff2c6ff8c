"""LARS against a transcription, its trust ratio, limits and refusals."""

import math

import pytest
import torch
from torch import Tensor

from optimizers import LARS, state_bytes
from optimizers.lars import trust_ratio
from tests.optimizers import reference
from tests.optimizers.table import Network, make

SHAPES = ((3, 2), (), (4,), (2, 3, 2), (1,), (2, 3, 1, 2))
START = torch.linspace(-1, 1, 36, dtype=torch.float64)


def transcription(parts: list[Tensor], grads: list[list[Tensor]], adapt: list[bool]) -> None:
    """You et al. 2017 in the baseline's form; parts are changed in place."""
    lr, eta, decay, momentum = 0.5, 0.02, 0.1, 0.9
    v = [torch.zeros_like(w) for w in parts]
    for step in grads:
        for i, (w, g) in enumerate(zip(parts, step, strict=True)):
            rho = 1.0
            if adapt[i] and w.norm() > 0 and g.norm() > 0:
                rho = min(3.0, eta * w.norm() / (g.norm() + decay * w.norm() + 1e-5))
            v[i] = momentum * v[i] + torch.clamp(g + decay * w, -1.5, 1.5)
            w -= lr * rho * v[i]


def test_equals_the_transcription():
    generator = torch.Generator().manual_seed(0)
    grads = torch.randn(20, 36, generator=generator, dtype=torch.float64)
    parts = reference.split(START, SHAPES)
    vectors = [part for part in parts if part.ndim < 2]
    groups = [{"params": [p for p in parts if p.ndim >= 2]}, {"params": vectors, "adapt": False}]
    options = {"max_trust": 3.0, "max_value": 1.5, "trust_coefficient": 0.02, "weight_decay": 0.1}
    ours = reference.run_on_parts(LARS(groups, lr=0.5, **options), parts, lambda x, t: grads[t], 20)
    theirs = [part.detach() for part in reference.split(START, SHAPES)]
    dealt = [[g.detach() for g in reference.split(grad, SHAPES)] for grad in grads]
    transcription(theirs, dealt, [len(shape) >= 2 for shape in SHAPES])
    torch.testing.assert_close(ours, reference.join(theirs), rtol=1e-13, atol=1e-13)


def test_trust_ratio_by_hand():
    options = {"trust_coefficient": 0.1, "weight_decay": 0.5, "max_trust": 2.0, "eps": 1.0}
    assert trust_ratio(4.0, 1.0, **options) == 0.1 * 4 / (1 + 2 + 1)
    assert trust_ratio(0.0, 1.0, **options) == 1.0
    assert trust_ratio(4.0, 0.0, **options) == 1.0
    assert trust_ratio(1e9, 1.0, **{**options, "weight_decay": 0.0}) == 2.0


def test_without_adaptation_it_is_torch_sgd():
    parts, twins = reference.split(START, SHAPES), reference.split(START, SHAPES)
    gradient = reference.noisy_quadratic(36, seed=0)
    options = {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.1}
    ours = reference.run_on_parts(LARS(parts, adapt=False, **options), parts, gradient, 20)
    theirs = torch.optim.SGD(twins, **options)
    expected = reference.run_on_parts(theirs, twins, gradient, 20)
    torch.testing.assert_close(ours, expected, rtol=1e-13, atol=1e-13)


def test_steps_do_not_depend_on_the_scale_of_the_gradient():
    ends = []
    for scale in (1e-3, 1.0):
        x = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
        optimizer = LARS([x], weight_decay=0.0, eps=1e-30)
        for t in range(3):
            x.grad = scale * torch.sin(torch.arange(6.0, dtype=torch.float64) + t).view(2, 3)
            optimizer.step()
            optimizer.state[x]["momentum_buffer"].zero_()  # it sums gradients, not steps
        ends.append(x.detach())
    torch.testing.assert_close(*ends, rtol=1e-13, atol=1e-13)


def test_the_configuration_leaves_biases_and_norms_alone():
    optimizer = make("lars", Network(torch.float32), torch.float32)
    found = {
        name: (group["adapt"], group["weight_decay"])
        for group in optimizer.param_groups
        for name in group["param_names"]
    }
    plain, adapted = (False, 0.0), (True, 1e-4)
    assert found == {
        "conv.weight": adapted,
        "conv.bias": plain,
        "norm.weight": plain,
        "norm.bias": plain,
        "linear.weight": adapted,
        "linear.bias": plain,
    }


def test_memory_is_as_the_docstring_says():
    x = torch.ones(30, 10, requires_grad=True)
    x.grad = torch.ones_like(x)
    optimizer = LARS([x])
    optimizer.step()
    assert state_bytes(optimizer) == 4 * 300


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_bad_gradient_leaves_no_trace_but_a_count(bad):
    grads = torch.randn(6, 36, generator=torch.Generator().manual_seed(0))
    ends = []
    for spoil in (False, True):
        parts = [torch.ones(shape, requires_grad=True) for shape in SHAPES]
        optimizer = LARS(parts, lr=0.1)
        for t, grad in enumerate(grads):
            if spoil and t == 3:
                worse = grad.index_fill(0, torch.tensor([30]), bad)
                reference.run_on_parts(optimizer, parts, lambda x, _, g=worse: g, 1)
            reference.run_on_parts(optimizer, parts, lambda x, _, g=grad: g, 1)
        ends.append(reference.join(parts))
    assert torch.equal(*ends)
    assert optimizer.state["shared"]["fallbacks"] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trust_coefficient": 0.0}, r"trust_coefficient must be in \(0, 1\], got 0.0"),
        ({"max_trust": 0.0}, "max_trust must be > 0, got 0.0"),
        ({"max_value": -1.0}, "max_value must be > 0, got -1.0"),
        ({"eps": math.nan}, "eps must be > 0, got nan"),
        ({"adapt": 1}, "adapt must be true or false, got 1"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        LARS([torch.ones(1, requires_grad=True)], **options)
