"""Full-matrix AdaGrad against a dense transcription, its limits and its refusals."""

import math

import pytest
import torch

from optimizers import FullMatrixAdagrad, state_bytes
from tests.optimizers import reference

START = torch.linspace(-1, 1, 20, dtype=torch.float64)
SHAPES = ((3, 2), (), (4,), (1, 3, 3))


@pytest.mark.parametrize("beta2", [1.0, 0.9])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_equals_the_transcription(beta2, momentum):
    gradient = reference.noisy_quadratic(20, seed=0)
    parts = reference.split(START, SHAPES)
    groups = [{"params": parts[:2]}, {"params": parts[2:]}]
    optimizer = FullMatrixAdagrad(groups, lr=0.1, damping=1e-2, beta2=beta2, momentum=momentum)
    ours = reference.run_on_parts(optimizer, parts, gradient, 30)
    theirs = reference.full_adagrad(
        START, gradient, 30, lr=0.1, eps=1e-2, beta2=beta2, momentum=momentum
    )
    # In the first 20 steps H is singular: the root of its round-off, 1e-7, is added to the damping
    # where v has a share outside the range (momentum only: round-off else).
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6 if momentum else 1e-9)


def test_one_parameter_is_torch_rmsprop():
    x, y = torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True)
    ours = FullMatrixAdagrad([x], lr=0.01, damping=1e-3, beta2=0.9)
    theirs = torch.optim.RMSprop([y], lr=0.01, alpha=0.9, eps=1e-3)
    for t in range(20):
        x.grad, y.grad = torch.full((1,), math.sin(t + 1)), torch.full((1,), math.sin(t + 1))
        ours.step()
        theirs.step()
    torch.testing.assert_close(x.detach(), y.detach(), rtol=1e-5, atol=0)  # float32 over 20 steps


def test_spectrum_is_that_of_the_second_moment():
    grads = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    x = torch.zeros(3, requires_grad=True)
    optimizer = FullMatrixAdagrad([x])
    assert optimizer.spectra() == []
    for grad in grads:
        x.grad = grad.clone()
        optimizer.step()
    spectrum = optimizer.spectra()[0]
    expected = torch.linalg.eigvalsh(grads.double().T @ grads.double())
    torch.testing.assert_close(spectrum.eigenvalues, expected, rtol=1e-12, atol=0)
    assert 0 < spectrum.resolution < 1e-12 * float(expected[-1])


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e25])
def test_a_gradient_that_cannot_be_squared_leaves_no_trace_but_a_count(bad):
    grads = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
    ends = []
    for spoil in (False, True):
        x = torch.ones(5, requires_grad=True)
        optimizer = FullMatrixAdagrad([x], momentum=0.9, preconditioner_dtype="float32")
        for t, grad in enumerate(grads):
            if spoil and t == 4:
                x.grad = grad.clone().index_fill_(0, torch.tensor([3]), bad)
                optimizer.step()
            x.grad = grad.clone()
            optimizer.step()
        ends.append(x.detach())
    assert torch.equal(*ends)
    assert optimizer.spectra()[0].fallbacks == 1


def test_too_many_parameters_are_refused():
    x = torch.ones(5001, requires_grad=True)
    x.grad = torch.ones(5001)
    with pytest.raises(ValueError, match=r"number of parameters must be <= 5000.*got 5001"):
        FullMatrixAdagrad([x]).step()


@pytest.mark.parametrize(("dtype", "size"), [("float64", 8), ("float32", 4)])
def test_state_is_one_matrix_and_three_vectors(dtype, size):
    x = torch.ones(50, requires_grad=True)
    x.grad = torch.ones(50)
    optimizer = FullMatrixAdagrad([x], preconditioner_dtype=dtype)
    optimizer.step()
    assert state_bytes(optimizer) == size * (50 * 50 + 3 * 50)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "lr must be >= 0, got -1.0"),
        ({"momentum": 1.5}, r"momentum must be in \[0, 1\), got 1.5"),
        ({"beta2": 1.1}, r"beta2 must be in \(0, 1\], got 1.1"),
        ({"damping": 0.0}, "damping must be > 0, got 0.0"),
        ({"weight_decay": -1}, "weight_decay must be >= 0, got -1"),
        (
            {"preconditioner_dtype": "bfloat16"},
            "preconditioner_dtype must be one of float32, float64, got bfloat16",
        ),
    ],
)
def test_bad_hyperparameters(options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        FullMatrixAdagrad([torch.ones(2, requires_grad=True)], **options)
