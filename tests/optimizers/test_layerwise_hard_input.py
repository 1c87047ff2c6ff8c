"""NG+, K-FAC and AdaGrad-BMA on nearly singular statistics, and over a thousand steps."""

import itertools

import pytest
import torch
from torch import nn

from optimizers import KFAC, AdagradBMA, NGPlus
from tests.optimizers.ng_plus_models import Dense, backward
from tests.optimizers.reference_adagrad_bma import corrected

SIZE = 8
# Singular values of activations and deltas: statistics have squares of them, condition 1e14.
SCALES = torch.logspace(0, -7, SIZE, dtype=torch.float64)


@pytest.fixture(autouse=True)
def one_thread():
    """Small tensors gain nothing from two threads and lose much where others need the core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Stretched(nn.Module):
    """A linear layer whose samples have activations and deltas of condition 1e7."""

    def __init__(self, dtype):
        super().__init__()
        self.layer = nn.Linear(SIZE, SIZE, bias=False, dtype=dtype)
        generator = torch.Generator().manual_seed(0)
        like = {"generator": generator, "dtype": torch.float64}
        Q, R, P = (torch.linalg.qr(torch.randn(SIZE, SIZE, **like))[0] for _ in range(3))
        self.inputs, self.deltas = Q * SCALES @ P, R * SCALES @ P
        with torch.no_grad():
            self.layer.weight.copy_(torch.eye(SIZE))

    def step(self, optimizer):
        """Parameters before the step and after it, and the gradient."""
        dtype = self.layer.weight.dtype
        before = self.layer.weight.detach().clone()
        weights = torch.full((SIZE,), 1 / SIZE, dtype=dtype)
        optimizer.zero_grad()
        with optimizer.record(SIZE, 0, weights):
            outputs = self.layer(self.inputs.to(dtype))
            (weights * (outputs * self.deltas.to(dtype)).sum(1)).sum().backward()
        optimizer.step()
        return before, self.layer.weight.detach(), self.layer.weight.grad

    def curvature(self):
        """L of NG+, and A and G of K-FAC."""
        a, g = self.inputs, self.deltas
        L = (g.T * a.square().sum(1)) @ g / SIZE
        return L, a.T @ a / SIZE, g.T @ g / SIZE


WIDE = dict.fromkeys(("statistics_dtype", "root_dtype", "apply_dtype"), "float64")
NG_PLUS = {
    "dense": {},
    "blocks": {"block_size": 3},
    "minibatch": {"statistic": "minibatch"},
    "sketched": {"sketch_size": 4},
}


@pytest.mark.parametrize("damping", [1e-3, 1e-12])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("variant", [*NG_PLUS, "kfac"])
def test_a_statistic_of_condition_1e14_gives_a_finite_descent(variant, dtype, damping):
    model = Stretched(dtype)
    wide = WIDE if dtype == torch.float64 else {}
    options = {"lr": 1.0, "momentum": 0.0, "damping": damping, **wide}
    if variant == "kfac":
        optimizer = KFAC(model.parameters(), model, **options)
    else:
        optimizer = NGPlus(model.parameters(), model, **options, **NG_PLUS[variant])
    before, after, grad = model.step(optimizer)
    step = (after - before).double()
    assert bool(step.isfinite().all())
    assert float((step * grad.double()).sum()) < 0
    assert all(bool(s.eigenvalues.isfinite().all()) for s in optimizer.spectra())
    # Conditions that a Cholesky factorisation in this dtype can do have none.
    if damping == 1e-3:
        assert optimizer.num_fallbacks == 0


# A direction errs by eps times the condition of L + damping I: 1e4, and 1e12 in float64. K-FAC's
# two factors have 3e3 and 3e6 each, which multiply.
@pytest.mark.parametrize(
    ("dtype", "damping", "tolerance"),
    [(torch.float32, 1e-3, 1e-2), (torch.float64, 1e-3, 1e-11), (torch.float64, 1e-12, 1e-2)],
)
@pytest.mark.parametrize("method", ["ng_plus", "kfac"])
def test_a_statistic_of_condition_1e14_is_inverted(method, dtype, damping, tolerance):
    model = Stretched(dtype)
    wide = WIDE if dtype == torch.float64 else {}
    options = {"lr": 1.0, "momentum": 0.0, "damping": damping, **wide}
    optimizer = {"ng_plus": NGPlus, "kfac": KFAC}[method](model.parameters(), model, **options)
    before, after, _ = model.step(optimizer)
    L, A, G = model.curvature()
    exact, eye = model.deltas.T @ model.inputs / SIZE, torch.eye(SIZE, dtype=torch.float64)
    if method == "ng_plus":
        D = torch.linalg.solve(L + damping * eye, exact)
    else:
        pi = (A.trace() / G.trace()).sqrt()
        D = torch.linalg.solve(G + damping**0.5 / pi * eye, exact)
        D = torch.linalg.solve(A + pi * damping**0.5 * eye, D.T).T
    error = (before.double() - after.double() - D).norm() / D.norm()
    assert float(error) < tolerance


@pytest.mark.parametrize("floor", [1e-3, 1e-10])
def test_block_means_of_condition_1e14(floor):
    """Gradients that differ by 1e-7 of themselves: W has eigenvalues 1 and below 1e-13."""
    generator = torch.Generator().manual_seed(1)
    like = {"generator": generator, "dtype": torch.float64}
    grads = torch.randn(SIZE, **like) + 1e-7 * torch.randn(20, SIZE, **like)
    x = torch.zeros(SIZE, dtype=torch.float64, requires_grad=True)
    options = {"lr": 0.1, "eigenvalue_floor": floor, "damping": 1e-12}
    optimizer = AdagradBMA([x], partition="element", statistics_dtype="float64", **options)
    for grad in grads:
        x.grad = grad
        before = x.detach().clone()
        optimizer.step()
        assert float((x.detach() - before) @ grad) < 0
    (spectrum,) = optimizer.spectra()
    assert spectrum.fallbacks == 0
    assert float(spectrum.eigenvalues[0]) < 1e-13 * float(spectrum.eigenvalues[-1])
    expected = corrected(
        torch.zeros(SIZE, dtype=torch.float64),
        lambda _, t: grads[t],
        20,
        lr=0.1,
        blocks=[[i] for i in range(SIZE)],
        eps=1e-12,
        floor=floor,
        update_freq=1,
    )
    # Round-off of 1e-16 in W over the floor's 1e-10, in directions that the gradients leave out.
    assert torch.allclose(x.detach(), expected, rtol=1e-5, atol=1e-6)


METHODS = {
    "ng_plus": lambda model: NGPlus(
        model.parameters(), model, lr=0.002, damping=0.3, beta2=0.95, update_freq=5
    ),
    "kfac": lambda model: KFAC(
        model.parameters(), model, lr=0.001, damping=0.1, statistics_freq=5, update_freq=10
    ),
    "adagrad_bma": lambda model: AdagradBMA(model.parameters(), lr=0.05, partition="unit"),
}


@pytest.mark.parametrize("method", METHODS)
def test_a_thousand_steps(method):
    """Least squares to the outputs of another network, in float32: no noise, so it goes on."""
    model, teacher = Dense().float(), Dense().float()
    with torch.no_grad():
        for p in teacher.parameters():
            p.mul_(1.5)
    batches = [model.batch(step, size=8).float() for step in range(10)]
    model.losses = lambda x: (model.net(x) - teacher.net(x).detach()).square().sum(1)

    def loss():
        with torch.no_grad():
            return float(sum(model.losses(x).mean() for x in batches))

    optimizer, losses = METHODS[method](model), [loss()]
    for step in range(1000):
        optimizer.zero_grad()
        x = batches[step % 10]
        if hasattr(optimizer, "wants_samples"):
            backward(model, optimizer, x)
        else:
            model.losses(x).mean().backward()
        optimizer.step()
        if step % 250 == 249:
            losses.append(loss())
    assert optimizer.num_fallbacks == 0
    assert all(late < early for early, late in itertools.pairwise(losses)), losses
    assert losses[-1] < 0.1 * losses[0]
