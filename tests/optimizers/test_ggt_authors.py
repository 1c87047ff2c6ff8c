"""The authors' reading of GGT against TensorFlow contrib's description and its test vector."""

import pytest
import torch

from optimizers import GGTAuthors, state_bytes
from tests.optimizers import reference


def test_three_steps_of_the_tensorflow_vector():
    start = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    grad = torch.tensor([0.1, 0.1, 0.01, 0.01], dtype=torch.float64)
    parts = reference.split(start, ((2,), (2,)))
    optimizer = GGTAuthors(parts, lr=1e-3, window=3, window_dtype="float64")
    path = reference.tensorflow_reading(start, [grad] * 3, lr=1e-3, window=3)
    for m, expected in zip((0.01, 0.019, 0.0271), path, strict=True):
        ours = reference.run_on_parts(optimizer, parts, lambda x, t: grad, 1)
        momentum = optimizer.state["window"]["momentum_buffer"]
        torch.testing.assert_close(momentum, m * grad / 0.1, rtol=1e-14, atol=0)
        # The vector lies in the window up to the ridge: 1/sqrt(1e-6) times round-off, 1e-16 each.
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("window", [1, 7])
@pytest.mark.parametrize("eps_outside", [1e-4, 1e3])
def test_thirty_steps_of_the_description(window, eps_outside):
    start = torch.linspace(-1, 1, 20, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    grads = torch.randn(30, 20, generator=generator, dtype=torch.float64)
    parts = reference.split(start, ((3, 2), (), (4,), (1, 3, 3)))
    groups = [{"params": parts[:2]}, {"params": parts[2:]}]
    optimizer = GGTAuthors(groups, window=window, eps_outside=eps_outside, window_dtype="float64")
    ours = reference.run_on_parts(optimizer, parts, lambda x, t: grads[t], 30)
    theirs = reference.tensorflow_reading(start, grads, lr=1e-3, window=window, eps=eps_outside)
    # As above; 30 steps.
    torch.testing.assert_close(ours, theirs[-1], rtol=0, atol=1e-11)
    assert (ours - start).norm() > 1e-3


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("bfloat16", 2), ("float64", 8)])
def test_memory_is_as_the_docstring_says(dtype, size):
    d, r = 3000, 20
    x = torch.ones(d, requires_grad=True)
    x.grad = torch.ones(d)
    optimizer = GGTAuthors([x], window=r, window_dtype=dtype)
    for _ in range(r):
        optimizer.step()
    assert state_bytes(optimizer) == size * r * d + 8 * d + 8 * (r**2 + r)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "lr must be >= 0, got -1.0"),
        ({"window": 0}, "window must be an integer >= 1, got 0"),
        ({"momentum": 1.5}, r"momentum must be in \[0, 1\), got 1.5"),
        ({"damping": 0.0}, "damping must be > 0, got 0.0"),
        ({"ridge": 0.0}, "ridge must be > 0, got 0.0"),
        ({"eps_outside": -1.0}, "eps_outside must be >= 0, got -1.0"),
    ],
)
def test_bad_hyperparameters(options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        GGTAuthors([torch.ones(2, requires_grad=True)], **options)
