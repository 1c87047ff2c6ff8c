"""Both KrADagrads over a thousand steps with beta2 < 1: what is not seen again must not stop them.

The growth of unseen directions ends at `ceiling`; round-off that breaks the symmetry must not grow.
"""

import pytest
import torch

from optimizers import KrADagrad, KrADagradStar
from optimizers.kronecker.inverse_factors import MAX_EXCESS
from tests.optimizers import reference_kradagrad as reference

CLASSES = [KrADagradStar, KrADagrad]
FLOAT64 = dict.fromkeys(("statistics_dtype", "root_dtype", "apply_dtype"), "float64")
BETA2 = 0.9
NUM_STEPS = 1000


def gradients(shape, hidden, num_steps=NUM_STEPS):
    generator = torch.Generator().manual_seed(5)
    grads = torch.randn(num_steps, *shape, generator=generator, dtype=torch.float64)
    if hidden == "row":
        grads[:, 0] = 0
    elif hidden == "row for long":
        grads[: num_steps - 50, 0] = 0
    elif hidden == "sum of rows":
        grads -= grads.mean(1, keepdim=True)
    return grads


def run(cls, grads, **options):
    """Parameter and optimizer after all gradients, and how far each of the last steps went."""
    x = torch.zeros(grads.shape[1:], dtype=grads.dtype, requires_grad=True)
    options = {"lr": 1e-2, "beta2": BETA2, "momentum": 0.0, "merge_dims": False, **options}
    optimizer = cls([x], **options)
    moved = []
    for grad in grads:
        before = x.detach().clone()
        x.grad = grad
        optimizer.step()
        moved.append(float((x.detach() - before).norm()))
    return x.detach(), optimizer, moved[-50:]


def eigenvalues(optimizer):
    state = next(v for key, v in optimizer.state.items() if "/" in str(key))
    factors = [value for name, value in state.items() if name.startswith("factor")]
    return [torch.linalg.eigvalsh(factor.double()) for factor in factors]


def every(freq):
    return lambda t: (t - 1) % freq == 0


@pytest.mark.parametrize("freq", [1, 5])
@pytest.mark.parametrize("cls", CLASSES)
def test_a_row_long_without_gradient_equals_the_equations(cls, freq):
    """And it matters that its eigenvalue was cut when its gradients come back."""
    grads = gradients((4, 3), "row for long")
    options = {"lr": 1e-2, "beta2": BETA2, "rule": "frobenius", "due": every(freq)}
    starts, steps = [torch.zeros(4, 3)], [[grad] for grad in grads]
    if cls is KrADagradStar:
        cap, equations = 100.0, reference.kradagrad_star
    else:
        cap, equations = 100.0**0.5, reference.kradagrad
    expected = equations(starts, steps, block_size=4, ceiling=cap, **options)[0]
    x, optimizer, moved = run(cls, grads, update_freq=freq, ceiling=100.0, **FLOAT64)
    # Forgetting takes earlier round-off away: 1e-16 a step, times the condition number of 1e4.
    torch.testing.assert_close(x, expected, rtol=0, atol=1e-12)
    assert optimizer.state["shared"]["fallbacks"] == 0
    assert min(moved) > 1e-3
    free = equations(starts, steps, block_size=4, **options)[0]
    assert float((free - expected).norm()) > 1e-3


@pytest.mark.parametrize("freq", [5, 300])
@pytest.mark.parametrize("hidden", ["nothing", "row", "sum of rows"])
@pytest.mark.parametrize("cls", CLASSES)
def test_a_thousand_steps_in_float32(cls, hidden, freq):
    """Without a step skipped; in roots every 300 steps the factors are cut between them."""
    grads = gradients((12, 9), hidden).float()
    x, optimizer, moved = run(cls, grads, update_freq=freq)
    assert optimizer.state["shared"] == {
        "step": NUM_STEPS,
        "fallbacks": 0,
        "bounds": optimizer.state["shared"]["bounds"],
    }
    assert min(moved) > 1e-3
    assert bool(x.isfinite().all())
    ceiling = 1e4 if cls is KrADagradStar else 1e3
    for values in eigenvalues(optimizer):
        # One step of growth may come after the cut.
        assert float(values.max()) < 1.001 * MAX_EXCESS * ceiling / BETA2
        # Round-off of the largest eigenvalue.
        assert float(values.min()) > -1e-6 * float(values.max())


@pytest.mark.parametrize("cls", CLASSES)
def test_single_precision_follows_double(cls):
    """Asymmetry of L is not lowered by eq. 13 and would grow to 1 in 130 steps."""
    grads = gradients((12, 9), "nothing", num_steps=400)
    exact, double, _ = run(cls, grads, update_freq=1, **FLOAT64)
    single, optimizer, _ = run(cls, grads.float(), update_freq=1)
    # Condition numbers of the factors are about 5, round-off 1e-7.
    torch.testing.assert_close(single.double(), exact, rtol=0, atol=1e-5 * float(exact.abs().max()))
    for a, b in zip(eigenvalues(optimizer), eigenvalues(double), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=0)


@pytest.mark.parametrize("cls", CLASSES)
def test_the_bound_falls_back_to_the_factors(cls):
    """At each root; between them it grows by 1 / beta2, and it is never below the eigenvalues."""
    x = torch.zeros(6, 5, dtype=torch.float64, requires_grad=True)
    optimizer = cls([x], beta2=BETA2, update_freq=10, merge_dims=False, **FLOAT64)
    for step, grad in enumerate(gradients((6, 5), "row", num_steps=60), start=1):
        x.grad = grad
        optimizer.step()
        bound = optimizer.state["shared"]["bounds"][0]
        largest = max(float(values.max()) for values in eigenvalues(optimizer))
        assert bound >= (1 - 1e-12) * largest
        if step % 10 == 1:
            # The Frobenius norm of at most 6 eigenvalues.
            assert bound <= 6**0.5 * largest


@pytest.mark.parametrize("cls", CLASSES)
def test_damping_alone_bounds_the_factors(cls):
    """L / beta2 - damping (L / beta2)^2 comes to rest at beta2 (1 - beta2) / damping."""
    _, optimizer, _ = run(cls, gradients((4, 3), "row"), damping=0.01, update_freq=5)
    values = eigenvalues(optimizer)[0][..., -1]
    torch.testing.assert_close(values, torch.full_like(values, 9.0), rtol=1e-3, atol=0)
    assert optimizer.state["shared"]["fallbacks"] == 0


@pytest.mark.parametrize("cls", CLASSES)
def test_damping_needs_a_long_memory(cls):
    """L / beta2 - damping (L / beta2)^2 stays positive for beta2 > 1/4 alone."""
    x = torch.zeros(3, 2, requires_grad=True)
    with pytest.raises(ValueError, match=r"^beta2 must be > 0\.25 with damping, got 0\.25$"):
        cls([x], beta2=0.25, damping=0.1)
    cls([x], beta2=0.25)
    grads = torch.zeros(100, 3, 2, dtype=torch.float64)
    for beta2 in (0.26, 0.5):
        _, optimizer, _ = run(cls, grads, beta2=beta2, damping=0.1, update_freq=1, **FLOAT64)
        assert optimizer.state["shared"]["fallbacks"] == 0
        assert min(float(values.min()) for values in eigenvalues(optimizer)) > 0


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("bad", [0.5, float("inf"), float("nan"), "high", True, None])
def test_ceiling_is_checked(cls, bad):
    with pytest.raises(ValueError, match=r"^ceiling must be "):
        cls([torch.zeros(2, requires_grad=True)], ceiling=bad)
