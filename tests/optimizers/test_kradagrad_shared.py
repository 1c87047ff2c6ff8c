"""What both KrADagrads have in common: coupled Newton roots, long dimensions, staleness, memory."""

import pytest
import torch

from optimizers import KrADagrad, KrADagradStar, state_bytes
from tests.optimizers import reference_kradagrad as reference

CLASSES = [KrADagradStar, KrADagrad]
EQUATIONS = {KrADagradStar: reference.kradagrad_star, KrADagrad: reference.kradagrad}
SHAPES = [(7,), (6, 9), (13, 5), (3, 4, 5), (4, 3, 3, 3), (4, 4), (1,), ()]
FLOAT64 = dict.fromkeys(("statistics_dtype", "root_dtype", "apply_dtype"), "float64")
BLOCK = 6


def normal(shapes, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]


STARTS = normal(SHAPES, 0)
GRADS = [normal(SHAPES, 21 + step) for step in range(20)]


def with_leader(grad, seed, size=30.0):
    """Add the product of a random unit vector for each mode: a leading singular value, apart."""
    leader = torch.full((), size, dtype=torch.float64)
    for vector in normal([(n,) for n in grad.shape], seed):
        leader = leader.unsqueeze(-1) * vector / vector.norm()
    return grad + leader


def run(cls, starts, grads, **options):
    params = [start.clone().requires_grad_() for start in starts]
    optimizer = cls(params, lr=0.1, **options)
    for step_grads in grads:
        for parameter, grad in zip(params, step_grads, strict=True):
            parameter.grad = grad.clone()
        optimizer.step()
    return [parameter.detach() for parameter in params], optimizer


def compare(cls, grads, close, equations, **options):
    ours, optimizer = run(cls, STARTS, grads, block_size=BLOCK, **FLOAT64, **options)

    def due(t):
        return (t - 1) % options["update_freq"] == 0

    theirs = EQUATIONS[cls](STARTS, grads, lr=0.1, block_size=BLOCK, due=due, **equations)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, **close)
    return optimizer


@pytest.mark.parametrize("freq", [1, 5])
@pytest.mark.parametrize("cls", CLASSES)
def test_spectral_norm_equals_the_equations(cls, freq):
    """With a leading singular value, on which 120 power iterations converge to round-off."""
    grads = [
        [with_leader(grad, 100 * step + p) for p, grad in enumerate(found)]
        for step, found in enumerate(GRADS)
    ]
    options = {"momentum": 0.9, "update_freq": freq}
    equations = {"rule": "spectral", "momentum": 0.9}
    # As with the other rules: float64 sums in another order. Measured: 6e-14.
    close = {"rtol": 1e-11, "atol": 1e-11}
    compare(cls, grads, close, equations, t_rule="spectral", norm_iterations=120, **options)


@pytest.mark.parametrize("freq", [1, 5])
@pytest.mark.parametrize("cls", CLASSES)
def test_coupled_newton_equals_the_equations(cls, freq):
    options = {"root_method": "coupled_newton", "momentum": 0.9, "update_freq": freq}
    # It ends at its own tolerance, where small eigenvalues of L are not yet exact. Measured: 4e-7.
    close = {"rtol": 1e-5, "atol": 1e-6}
    optimizer = compare(cls, GRADS, close, {"rule": "frobenius", "momentum": 0.9}, **options)
    assert optimizer.state["shared"]["fallbacks"] == 0
    # It knows no eigenvalues: the roots are not those of the other method.
    buckets = [state for key, state in optimizer.state.items() if "/" in str(key)]
    assert not any(bool(state["eigenvalues_0"].any()) for state in buckets)


@pytest.mark.parametrize("cls", CLASSES)
def test_a_long_dimension_is_cut(cls):
    """5000 in blocks of 1024, four and one of 904: the first step has a closed form in each.

    From L = I the singular values s of a block G become s (1 - s^2/t)^(1/2), t = 1 + ||s^2||; in
    KrADagrad* by a fourth root from each side, in KrADagrad by a square root from the left.
    """
    G = torch.randn(5000, 3, generator=torch.Generator().manual_seed(1)) / 30
    options = {"momentum": 0.0, "block_size": 1024, "update_freq": 1}
    ours, optimizer = run(cls, [torch.zeros(5000, 3)], [[G]], **options)
    blocks = []
    for block in G.double().split(1024):
        U, s, Vh = torch.linalg.svd(block, full_matrices=False)
        t = 1 + (s**4).sum().sqrt()
        blocks.append(-0.1 * (U * (s * (1 - s**2 / t) ** 0.5)) @ Vh)
    # float32 roots of eigenvalues from 0.4 to 1: some roundings of 6e-8, relatively.
    expected = torch.cat(blocks)
    error = (ours[0].double() - expected).norm() / expected.norm()
    assert float(error) < 3e-6
    sizes = {key: len(s["factor_0"]) for key, s in optimizer.state.items() if "/" in str(key)}
    assert sizes == {"0/1024x3": 4, "0/904x3": 1}


@pytest.mark.parametrize("cls", CLASSES)
def test_staleness_counts_the_steps_since_the_last_root(cls):
    """Roots in steps 1, 6 and 11; residuals of a stale root are not round-off."""
    params = [start.clone().requires_grad_() for start in STARTS]
    optimizer = cls(params, block_size=BLOCK, update_freq=5, **FLOAT64)
    for step, grads in enumerate(GRADS[:13], start=1):
        for parameter, grad in zip(params, grads, strict=True):
            parameter.grad = grad
        optimizer.step()
        spectra = optimizer.spectra()
        assert {spectrum.staleness for spectrum in spectra} == {(step - 1) % 5}
        worst = max(spectrum.root_residual for spectrum in spectra)
        assert (worst < 1e-10) == (step in (1, 6, 11))


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize(
    ("graft", "num_accumulators"), [("none", 0), ("sgd", 0), ("adam", 1), ("adagrad", 1)]
)
@pytest.mark.parametrize("cls", CLASSES)
def test_memory_is_as_stated(cls, graft, num_accumulators, dtype):
    """Bytes: per mode n^2 (statistic + apply) + n root; d (momentum + accumulators)."""
    starts = [start.float() for start in STARTS]
    grads = [[grad.float() for grad in GRADS[0]]]
    options = {"block_size": BLOCK, "statistics_dtype": dtype, "graft": graft}
    optimizer = run(cls, starts, grads, **options)[1]
    blocks = [
        [part.stop - part.start for part in cut]
        for shape in SHAPES
        for cut in reference.cuts(reference.merged(shape, BLOCK), BLOCK)
    ]
    size = {"float32": 4, "float64": 8, "bfloat16": 2}[dtype]
    per_mode = sum(n * n * (size + 4) + n * 4 for block in blocks for n in block)
    # Buffers are as wide as the widest of statistic, application and float32.
    stated = per_mode + sum(start.numel() for start in starts) * max(size, 4) * (
        1 + num_accumulators
    )
    assert state_bytes(optimizer) == pytest.approx(stated, rel=0.05)
