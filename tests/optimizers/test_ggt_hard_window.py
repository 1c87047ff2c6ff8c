"""GGT's hard window against restarts of dense full-matrix AdaGrad."""

import io
import math

import pytest
import torch
from torch import Tensor

from optimizers import FullMatrixAdagrad, GGTHardWindow, state_bytes
from tests.optimizers import reference

SHAPES = ((3, 2), (), (4,), (1, 3, 3))
START = torch.linspace(-1, 1, 20, dtype=torch.float64)


def transcription(
    x: Tensor, gradient: reference.Gradient, num_steps: int, *, W: int, proximal: float
) -> Tensor:
    """Dense restarts: x <- x - lr [(sum of h h^T since the restart)^{1/2} + eps I]^{-1} h."""
    for t in range(num_steps):
        if t % W == 0:
            columns, x_0 = [], x
        h = gradient(x, t) + proximal * (x - x_0)
        columns.append(h)
        s, U = reference.root_and_basis(torch.stack(columns, dim=1))
        x = x - 0.1 * (U @ ((U.T @ h) / (s + 1e-2)))
    return x


def run(gradient, num_steps, parts=None, **options):
    parts = reference.split(START, SHAPES) if parts is None else parts
    groups = [{"params": parts[:2]}, {"params": parts[2:]}]
    optimizer = GGTHardWindow(groups, lr=0.1, damping=1e-2, window_dtype="float64", **options)
    return reference.run_on_parts(optimizer, parts, gradient, num_steps), optimizer


@pytest.mark.parametrize("proximal", [0.0, 0.7])
@pytest.mark.parametrize("W", [1, 5, 7, 30])
def test_equals_the_transcription(W, proximal):
    gradient = reference.noisy_quadratic(20, seed=0)
    ours, _ = run(gradient, 20, window=W, proximal=proximal)
    theirs = transcription(START, gradient, 20, W=W, proximal=proximal)
    # Singular values from the square of G: good to 1e-8 of the largest, over a damping of 1e-2.
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


def test_before_the_first_restart_it_is_full_matrix_adagrad():
    gradient = reference.noisy_quadratic(20, seed=1)
    ours, _ = run(gradient, 15, window=15)
    parts = reference.split(START, SHAPES)
    theirs = FullMatrixAdagrad(parts, lr=0.1, damping=1e-2)
    # The dense matrix is singular: the root of its round-off, some 1e-7, joins the damping.
    expected = reference.run_on_parts(theirs, parts, gradient, 15)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-7)


def test_a_restart_forgets_everything_but_the_point():
    gradient = reference.noisy_quadratic(20, seed=2)
    ours, _ = run(gradient, 12, window=6, proximal=0.3)
    half, _ = run(gradient, 6, window=6, proximal=0.3)
    rest, _ = run(
        lambda x, t: gradient(x, t + 6), 6, reference.split(half, SHAPES), window=6, proximal=0.3
    )
    assert torch.equal(ours, rest)


def test_the_spectrum_is_that_of_the_gradients_since_the_restart():
    grads = torch.randn(8, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    _, optimizer = run(lambda x, t: grads[t], 8, window=5)
    (spectrum,) = optimizer.spectra()
    expected = torch.linalg.eigvalsh(grads[5:] @ grads[5:].T)
    torch.testing.assert_close(spectrum.eigenvalues, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("bad", [math.nan, 1e200])
def test_a_bad_gradient_does_not_even_restart(bad):
    grads = torch.randn(9, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    spoilt = torch.cat([grads[:4], grads[4:5] * bad, grads[4:]])
    clean, _ = run(lambda x, t: grads[t], 9, window=4, proximal=0.3)
    ours, optimizer = run(lambda x, t: spoilt[t], 10, window=4, proximal=0.3)
    assert torch.equal(ours, clean)
    assert optimizer.spectra()[0].fallbacks == 1


@pytest.mark.parametrize("num_steps", [3, 4, 6])
def test_continues_from_a_checkpoint_bit_identically(num_steps):
    gradient = reference.noisy_quadratic(20, seed=3)
    whole, _ = run(gradient, num_steps + 6, window=4, proximal=0.3)
    half, optimizer = run(gradient, num_steps, window=4, proximal=0.3)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    parts = reference.split(half, SHAPES)
    restored = GGTHardWindow([{"params": parts[:2]}, {"params": parts[2:]}])
    restored.load_state_dict(torch.load(file, weights_only=True))
    end = reference.run_on_parts(restored, parts, lambda x, t: gradient(x, t + num_steps), 6)
    assert torch.equal(end, whole)


@pytest.mark.parametrize(("proximal", "vectors"), [(0.0, 2), (0.5, 3)])
def test_memory_is_as_the_docstring_says(proximal, vectors):
    x = torch.zeros(1000, requires_grad=True)
    x.grad = torch.ones(1000)
    optimizer = GGTHardWindow([x], window=30, proximal=proximal)
    optimizer.step()
    formula = 30 * 4 * 1000 + vectors * 4 * 1000 + 8 * 30**2
    assert state_bytes(optimizer) == pytest.approx(formula, rel=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "window must be an integer >= 1, got 0"),
        ({"proximal": -1.0}, "proximal must be >= 0, got -1.0"),
        ({"damping": math.nan}, "damping must be > 0, got nan"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        GGTHardWindow([torch.ones(1, requires_grad=True)], **options)
