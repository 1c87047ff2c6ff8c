"""Newton's method: dense Hessian, affine invariance, indefinite curvature, refusals."""

import pytest
import torch

from optimizers import Newton, state_bytes
from optimizers.newton import hessian
from tests.optimizers.test_line_search import closure_of

A = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, -1.0], [1.0, 0.0, 3.0]], dtype=torch.float64)


def convex(x):
    """Strictly convex, with a Hessian that varies: softplus and a quadratic."""
    inputs = torch.arange(12.0, dtype=torch.float64).sin().view(4, 3)
    return torch.nn.functional.softplus(inputs @ x).sum() + 0.5 * (x @ x)


def start():
    return torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)


def run(loss, x, num_steps, **options):
    x = x.clone().requires_grad_()
    optimizer = Newton([x], **options)
    for _ in range(num_steps):
        optimizer.step(closure_of(optimizer, lambda: loss(x)))
    return x.detach(), optimizer


def test_hessian_of_several_shapes_is_that_of_the_flat_vector():
    def loss(a, b, c):
        return (a.sum() * b**2).sum() + (b * c).sum() ** 3 + c.exp() @ c

    a, b, c = torch.tensor(0.5), torch.tensor([[1.0, 2.0]]), torch.tensor([0.3, -0.7])
    parts = [part.double().requires_grad_() for part in (a, b, c)]
    flat = torch.cat([part.detach().reshape(-1) for part in parts])
    expected = torch.autograd.functional.hessian(
        lambda v: loss(v[0].view(()), v[1:3].view(1, 2), v[3:]), flat
    )
    ours = hessian(loss(*parts), parts, torch.float64)
    torch.testing.assert_close(ours, expected, rtol=1e-13, atol=1e-13)


def test_a_hessian_through_what_has_no_batching_rule():
    """Pooling of images in the layout channels_last, of which vmap cannot ask how they lie."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=generator)
    weight = torch.randn(2, 3, 3, 3, dtype=torch.float64, generator=generator).requires_grad_()

    def of(x):
        pooled = torch.max_pool2d(torch.conv2d(x, weight).tanh(), 2)
        return hessian(pooled.pow(2).sum(), [weight], torch.float64)

    last = images.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(of(images), of(last), rtol=1e-12, atol=1e-12)


def test_equals_the_transcription():
    x = start()
    for _ in range(20):
        H = torch.autograd.functional.hessian(convex, x)
        g = torch.autograd.functional.jacobian(convex, x)
        x = x - 0.5 * torch.linalg.solve(H + 0.1 * torch.eye(3, dtype=x.dtype), g)
    ours, _ = run(convex, start(), 20, lr=0.5, damping=0.1)
    torch.testing.assert_close(ours, x, rtol=1e-12, atol=1e-12)


def test_a_hessian_kept_for_some_steps_equals_the_transcription():
    x, ages = start(), []
    for t in range(20):
        if t % 5 == 0:
            H = torch.autograd.functional.hessian(convex, x)
        x = x - 0.5 * torch.linalg.solve(H, torch.autograd.functional.jacobian(convex, x))
    ours, optimizer = run(convex, start(), 20, lr=0.5, damping=1e-300, update_freq=5)
    torch.testing.assert_close(ours, x, rtol=1e-12, atol=1e-12)
    assert optimizer.spectra()[0].staleness == 4
    for num_steps in range(1, 8):
        ages.append(run(convex, start(), num_steps, update_freq=3)[1].spectra()[0].staleness)
    assert ages == [0, 1, 2, 0, 1, 2, 0]


def test_does_not_depend_on_an_affine_change_of_parameters():
    ours, _ = run(convex, start(), 4, damping=1e-300)
    inverse = torch.linalg.inv(A)
    changed, _ = run(lambda y: convex(A @ y), inverse @ start(), 4, damping=1e-300)
    torch.testing.assert_close(A @ changed, ours, rtol=1e-11, atol=1e-11)


def test_a_quadratic_takes_one_step():
    x, optimizer = run(lambda x: 0.5 * x @ A @ A.T @ x - x.sum(), start(), 1, damping=1e-300)
    expected = torch.linalg.solve(A @ A.T, torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(x, expected, rtol=1e-13, atol=1e-13)
    (spectrum,) = optimizer.spectra()
    assert spectrum.kind == "hessian"
    torch.testing.assert_close(spectrum.eigenvalues, torch.linalg.eigvalsh(A @ A.T))


def test_a_saddle_attracts_the_signed_and_repels_the_absolute_method():
    def saddle(x):
        return x[0] ** 2 - x[1] ** 2 + 0 * x[2]

    x = torch.tensor([1.0, 0.1, 0.0], dtype=torch.float64)
    signed, _ = run(saddle, x, 1, curvature="signed")
    absolute, _ = run(saddle, x, 1)
    # damping 1e-8 of a curvature of 2.
    torch.testing.assert_close(signed, torch.zeros_like(x), rtol=0, atol=1e-8)
    expected = torch.tensor([0.0, 0.2, 0.0], dtype=torch.float64)
    torch.testing.assert_close(absolute, expected, rtol=0, atol=1e-8)


def test_a_condition_number_beyond_the_dtype_does_no_harm():
    # 1e12: in float32 the small eigenvalues come out as round-off of either sign, down to 1e-12.
    rotation = torch.linalg.qr(torch.sin(torch.arange(400.0, dtype=torch.float64)).view(20, 20))[0]
    H = ((rotation * torch.logspace(0, -12, 20)) @ rotation.T).float()
    x, _ = run(lambda x: 0.5 * x @ H @ x, torch.ones(20), 20)
    before = 0.5 * torch.ones(20) @ H @ torch.ones(20)
    assert float(0.5 * x @ H @ x) < 1e-5 * float(before)
    assert float(x.norm()) < 2 * 20**0.5


def test_linear_losses_and_groups():
    x, y = torch.ones(2, requires_grad=True), torch.ones(1, requires_grad=True)
    optimizer = Newton([{"params": [x]}, {"params": [y], "lr": 0.5}], lr=1.0, damping=0.5)
    optimizer.step(closure_of(optimizer, lambda: x.sum() + 2 * y.sum()))
    torch.testing.assert_close(x.detach(), torch.full((2,), -1.0))
    torch.testing.assert_close(y.detach(), torch.full((1,), -1.0))


def test_memory_is_as_the_docstring_says():
    x = torch.ones(40, requires_grad=True)
    optimizer = Newton([x])
    optimizer.step(closure_of(optimizer, lambda: x @ x))
    assert state_bytes(optimizer) == 4 * (40**2 + 40)


def test_refusals():
    x = torch.ones(2001, requires_grad=True)
    optimizer = Newton([x])
    with pytest.raises(ValueError, match=r"number of parameters must be <= 2000.*got 2001"):
        optimizer.step(closure_of(optimizer, lambda: x @ x))
    with pytest.raises(ValueError, match=r"^closure must be a function .*, got None$"):
        optimizer.step()
    with pytest.raises(ValueError, match=r"^curvature must be one of absolute, signed, got abs$"):
        Newton([x], curvature="abs")


def test_a_hessian_that_is_not_finite_changes_nothing():
    # x^1.5 at 0 has gradient 0 and an infinite second derivative.
    x = torch.zeros(2, requires_grad=True)
    optimizer = Newton([x])
    optimizer.step(closure_of(optimizer, lambda: (x**1.5).sum() + x.sum()))
    assert torch.equal(x, torch.zeros(2))
    assert optimizer.state["shared"] == {"fallbacks": 1}
    assert optimizer.spectra() == []
