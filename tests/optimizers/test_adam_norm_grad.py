"""AdamNormGrad against a transcription and torch's Adam, and its refusals."""

import math

import pytest
import torch
from torch import Tensor

from optimizers import AdamNormGrad, state_bytes
from tests.optimizers import reference

SHAPES = ((3, 2), (), (4,), (2, 3, 2), (1,), (2, 3, 1, 2))
START = torch.linspace(-1, 1, 36, dtype=torch.float64)


def transcription(x: Tensor, grads: Tensor, *, lr: float, eps: float, norm_eps: float) -> Tensor:
    """Adam [Kingma and Ba 2015] on h = g / (|g| + norm_eps) of one tensor, betas 0.8 and 0.99."""
    m, s = torch.zeros_like(x), torch.zeros_like(x)
    for t, g in enumerate(grads, start=1):
        h = g / (torch.sqrt((g**2).sum()) + norm_eps)
        m, s = 0.8 * m + 0.2 * h, 0.99 * s + 0.01 * h**2
        x = x - lr * math.sqrt(1 - 0.99**t) / (1 - 0.8**t) * m / (torch.sqrt(s) + eps)
    return x


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_transcription(shape):
    generator = torch.Generator().manual_seed(0)
    grads = torch.randn(20, *shape, generator=generator, dtype=torch.float64)
    x = torch.ones(shape, dtype=torch.float64, requires_grad=True)
    y = torch.ones(3, dtype=torch.float64, requires_grad=True)
    options = {"lr": 0.1, "eps": 1e-2, "norm_eps": 0.1}
    # Beside another tensor, whose norm must not matter.
    optimizer = AdamNormGrad([y, x], betas=(0.8, 0.99), **options)
    for t, grad in enumerate(grads):
        x.grad, y.grad = grad.clone(), None if t % 3 == 0 else 1e3 * torch.ones_like(y)
        optimizer.step()
    expected = transcription(torch.ones(shape, dtype=torch.float64), grads, **options)
    torch.testing.assert_close(x.detach(), expected, rtol=1e-13, atol=1e-13)
    counted = torch.full((13, 3), 1e3, dtype=torch.float64)
    expected = transcription(torch.ones(3, dtype=torch.float64), counted, **options)
    torch.testing.assert_close(y.detach(), expected, rtol=1e-13, atol=1e-13)


def test_is_torch_adam_on_gradients_of_norm_one():
    gradient = reference.noisy_quadratic(36, seed=0)
    parts, twins = reference.split(START, SHAPES), reference.split(START, SHAPES)
    ours = AdamNormGrad(parts, lr=0.1, eps=1e-20, norm_eps=1e-20)
    theirs = torch.optim.Adam(twins, lr=0.1, eps=1e-20)
    for t in range(20):
        for mine, twin, g in zip(
            parts, twins, reference.split(gradient(START, t), SHAPES), strict=True
        ):
            mine.grad, twin.grad = g.detach(), g.detach() / g.detach().norm()
        ours.step()
        theirs.step()
    end = reference.join(parts)
    torch.testing.assert_close(end, reference.join(twins), rtol=1e-12, atol=1e-12)


def test_steps_do_not_depend_on_the_scale_of_the_gradient():
    ends = []
    for scale in (1e-20, 1.0, 1e20):
        x = torch.ones(5, requires_grad=True)
        optimizer = AdamNormGrad([x], lr=0.1, norm_eps=1e-30)
        for t in range(5):
            x.grad = scale * torch.sin(torch.arange(5.0) + t)
            optimizer.step()
        ends.append(x.detach())
    # 1e-20 times a float32 is not exact; 1e-30 of 1e-20 is added to the norm.
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-5, atol=0)
    torch.testing.assert_close(ends[2], ends[1], rtol=1e-5, atol=0)


def test_weight_decay_is_decoupled():
    x = torch.full((3,), 2.0, requires_grad=True)
    x.grad = torch.zeros(3)
    AdamNormGrad([x], lr=0.1, weight_decay=0.5).step()
    torch.testing.assert_close(x.detach(), torch.full((3,), 1.9))


def test_memory_is_as_the_docstring_says():
    x = torch.ones(30, 10, dtype=torch.bfloat16, requires_grad=True)
    x.grad = torch.ones_like(x)
    optimizer = AdamNormGrad([x])
    optimizer.step()
    assert state_bytes(optimizer) == 2 * 4 * 300


def test_a_bad_gradient_leaves_no_trace_but_a_count():
    ends = []
    for spoil in (False, True):
        x, y = torch.ones(5, requires_grad=True), torch.ones(2, requires_grad=True)
        optimizer = AdamNormGrad([x, y])
        for t in range(6):
            y.grad = torch.full((2,), math.inf if spoil and t == 3 else 1.0)
            x.grad = torch.sin(torch.arange(5.0) + t)
            if spoil or t != 3:
                optimizer.step()
        ends.append(torch.cat([x.detach(), y.detach()]))
    assert torch.equal(*ends)
    assert optimizer.state["shared"]["fallbacks"] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"betas": (0.9, 1.0)}, r"betas must be two numbers in \[0, 1\), got \(0.9, 1.0\)"),
        ({"betas": (0.9,)}, r"betas must be two numbers in \[0, 1\), got \(0.9,\)"),
        ({"eps": 0.0}, "eps must be > 0, got 0.0"),
        ({"norm_eps": math.nan}, "norm_eps must be > 0, got nan"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        AdamNormGrad([torch.ones(1, requires_grad=True)], **options)
