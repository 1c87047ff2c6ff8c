"""KrADagrad* against a block-by-block float64 transcription, its limits and hard inputs."""

import io

import pytest
import torch

from optimizers import KrADagradStar, Shampoo
from optimizers.linalg.krad import T_RULES
from tests.optimizers import reference_kradagrad as reference

# A vector, a matrix with blocks that do not divide it, 3 and 4 modes, and the smallest.
SHAPES = [(7,), (6, 9), (13, 5), (3, 4, 5), (4, 3, 3, 3), (4, 4), (1,), ()]
FLOAT64 = dict.fromkeys(("statistics_dtype", "root_dtype", "apply_dtype"), "float64")
BLOCK = 6
# Both sides are float64 and differ by the order of sums, 1e-16 a step, in 20 steps; roots of
# eigenvalues down to 1e-3 multiply it by 30 at most. Measured: 3e-14.
CLOSE = {"rtol": 1e-11, "atol": 1e-12}
AUTHORS = {
    "t_rule": "trace_dim",
    "initial_scale": 100.0,
    "root_shift": 1e-8,
    "graft": "sgd",
    "momentum_rule": "in_place_nesterov",
    "weight_decay_rule": "l2",
    "root_schedule": "multiples",
}


def normal(shapes, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(s, generator=generator, dtype=torch.float64).to(dtype) for s in shapes]


STARTS = normal(SHAPES, 0)
GRADS = [normal(SHAPES, 21 + step) for step in range(20)]


def run(starts, grads, **options):
    params = [start.clone().requires_grad_() for start in starts]
    optimizer = KrADagradStar(params, **options)
    for step_grads in grads:
        for parameter, grad in zip(params, step_grads, strict=True):
            parameter.grad = grad.clone()
        optimizer.step()
    return [parameter.detach() for parameter in params], optimizer


def compare(options, **equations):
    ours, optimizer = run(STARTS, GRADS, lr=0.1, block_size=BLOCK, **FLOAT64, **options)
    theirs = reference.kradagrad_star(STARTS, GRADS, lr=0.1, block_size=BLOCK, **equations)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)
    assert optimizer.state["shared"]["fallbacks"] == 0


def every(freq, start=1):
    return lambda t: t >= start and (t - start) % freq == 0


@pytest.mark.parametrize("freq", [1, 5])
@pytest.mark.parametrize("rule", ["frobenius", "trace", "trace_dim"])
def test_equals_the_equations(rule, freq):
    options = {"t_rule": rule, "update_freq": freq, "momentum": 0.9}
    compare(options, rule=rule, due=every(freq), momentum=0.9)


@pytest.mark.parametrize("freq", [1, 5])
@pytest.mark.parametrize(
    "extra",
    [
        {"damping": 0.1},
        {"beta2": 0.9},
        {"beta2": 0.9, "damping": 0.05},
        {"start_step": 4},
        {"weight_decay": 0.2, "momentum_rule": "nesterov"},
    ],
    ids=str,
)
def test_equals_the_equations_with_options(extra, freq):
    options = {"update_freq": freq, "momentum": 0.9, **extra}
    start = extra.get("start_step", 1)
    compare(options, rule="frobenius", due=every(freq, start), momentum=0.9, **extra)


@pytest.mark.parametrize("freq", [1, 5])
@pytest.mark.parametrize("weight_decay", [0.0, 0.2])
def test_equals_the_authors(weight_decay, freq):
    options = {**AUTHORS, "update_freq": freq, "weight_decay": weight_decay}
    compare(
        options,
        rule="trace_dim",
        due=lambda t: t % freq == 0,
        initial=100.0,
        shift=1e-8,
        graft=True,
        momentum=0.9,
        momentum_rule="in_place_nesterov",
        weight_decay=weight_decay,
    )


@pytest.mark.parametrize("freq", [1, 5])
def test_equals_algorithm_1_as_printed(freq):
    options = {"swap_factors": True, "update_freq": freq, "momentum": 0.0}
    compare(options, rule="frobenius", due=every(freq), swap=True)


def test_swapping_matters_for_square_matrices_alone():
    options = {"update_freq": 1, "block_size": BLOCK, **FLOAT64}
    printed = run(STARTS, GRADS, swap_factors=True, **options)[0]
    corrected = run(STARTS, GRADS, **options)[0]
    same = [torch.equal(a, b) for a, b in zip(printed, corrected, strict=True)]
    # (6, 9) has a block of (6, 6).
    assert same == [shape not in ((6, 9), (4, 4)) for shape in SHAPES]


@pytest.mark.parametrize(
    ("options", "exponent"),
    [({"exponent": 0.3}, lambda k: 0.3), ({"ons": True}, lambda k: 1 / k)],
    ids=["exponent", "ons"],
)
def test_exponents(options, exponent):
    compare({"momentum": 0.0, **options}, rule="frobenius", due=every(20), exponent=exponent)


def test_one_step_has_a_closed_form():
    """From L = I the singular values s of G become s (1 - s^2/t)^(1/2), t = 1 + ||s^2||."""
    G = normal([(4, 6)], seed=9)[0]
    U, s, Vh = torch.linalg.svd(G, full_matrices=False)
    ours = run(
        [torch.zeros(4, 6).double()], [[G]], lr=1.0, momentum=0.0, merge_dims=False, **FLOAT64
    )
    t = 1 + (s**4).sum().sqrt()
    expected = -(U * (s * (1 - s**2 / t) ** 0.5)) @ Vh
    torch.testing.assert_close(ours[0][0], expected, rtol=0, atol=1e-13)


def test_tiny_gradients_leave_gradient_descent():
    """L stays I as long as |G|^2 is below round-off."""
    grads = [[1e-10 * g for g in step] for step in GRADS]
    zeros = [torch.zeros_like(start) for start in STARTS]
    ours = run(zeros, grads, lr=1.0, momentum=0.0, **FLOAT64)[0]
    for a, *gs in zip(ours, *grads, strict=True):
        torch.testing.assert_close(a, -sum(gs), rtol=0, atol=1e-22)


def ill_conditioned(n, seed=3):
    """Gradients that leave a factor with a condition number of about 1e7."""
    scales = torch.logspace(0, -4, n, dtype=torch.float64)
    return [[scales[:, None] * g * 30] for g in normal([(n, 2 * n)] * 40, seed)]


def test_positive_roots_survive_float32():
    """The update of single precision is that of double precision, where Shampoo's is not."""
    grads = ill_conditioned(32)
    starts = [torch.zeros(32, 64, dtype=torch.float64)]
    options = {"lr": 1.0, "momentum": 0.0, "update_freq": 1, "block_size": 64}

    def last_steps(cls, **extra):
        parameter = starts[0].clone().requires_grad_()
        optimizer = cls([parameter], **options, **extra)
        for (grad,) in grads:
            before = parameter.detach().clone()
            parameter.grad = grad
            optimizer.step()
        return parameter.detach() - before

    def error(cls, **extra):
        exact = last_steps(cls, **FLOAT64, **extra)
        return float((last_steps(cls, **extra) - exact).norm() / exact.norm())

    assert error(KrADagradStar) < 1e-3
    # The same gradients, inverse fourth roots: damping far below float32's round-off of S.
    assert error(Shampoo, damping=1e-10) > 10 * error(KrADagradStar)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, 1e20])
def test_a_gradient_that_cannot_be_used_skips_the_step(bad):
    starts = normal(SHAPES, 0, torch.float32)
    grads = [normal(SHAPES, 1 + step, torch.float32) for step in range(4)]
    ours, optimizer = run(starts, grads[:3], update_freq=2)
    before = copy_state(optimizer)
    params = optimizer.param_groups[0]["params"]
    for parameter, grad in zip(params, grads[3], strict=True):
        parameter.grad = grad
    params[1].grad[2, 3] = bad
    optimizer.step()
    assert optimizer.state["shared"]["fallbacks"] == 1
    optimizer.state["shared"]["fallbacks"] = 0
    assert equal(copy_state(optimizer), before)
    assert all(torch.equal(a, b.detach()) for a, b in zip(ours, params, strict=True))


def copy_state(optimizer):
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)["state"]


def equal(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


HARD = {
    "zero": torch.zeros(9, 12),
    "rank one": torch.outer(torch.linspace(1, 2, 9), torch.linspace(-1, 1, 12)),
    "repeated": torch.eye(9, 12),
    "kappa 1e14": torch.logspace(0, -7, 9)[:, None] * torch.eye(9, 12),
    "1e-20": torch.full((9, 12), 1e-20),
    "1e6": 1e6 * torch.eye(9, 12),
    "rows of sum zero": torch.eye(9, 12) - torch.eye(9, 12).mean(0),
}


@pytest.mark.parametrize("case", HARD)
@pytest.mark.parametrize("rule", T_RULES)
@pytest.mark.parametrize("freq", [1, 5])
def test_hard_gradients(case, rule, freq):
    ours, optimizer = run(
        [torch.ones(9, 12)],
        [[HARD[case]]] * 30,
        t_rule=rule,
        update_freq=freq,
        momentum=0.0,
        merge_dims=False,
    )
    assert bool(ours[0].isfinite().all())
    unit = 12 * torch.finfo(torch.float32).eps
    for mode in range(2):
        eigenvalues = torch.linalg.eigvalsh(optimizer.state["0/9x12"][f"factor_{mode}"].double())
        # In float32 L is known to a round-off of its largest eigenvalue, which only fell.
        assert float(eigenvalues.min()) > -unit
        assert float(eigenvalues.max()) <= 1 + unit
    # The update never points up: P is positive semidefinite.
    assert float((HARD[case] * (ours[0] - 1)).sum()) <= 0


def test_an_indefinite_factor_is_mended_and_counted():
    x = torch.zeros(5, 5, requires_grad=True)
    optimizer = KrADagradStar([x], update_freq=2, start_step=2, merge_dims=False)
    x.grad = torch.eye(5)
    optimizer.step()
    factor = optimizer.state["0/5x5"]["factor_1"]
    factor[0, 2, 2] = -0.5
    optimizer.step()
    assert optimizer.state["shared"]["fallbacks"] == 1
    assert float(torch.linalg.eigvalsh(factor[0]).min()) > -1e-6
    assert bool(x.isfinite().all())


def test_options_by_group():
    """Two groups with options of their own are two optimizers."""
    first, second = {"lr": 0.1, "damping": 0.1}, {"lr": 0.3, "t_rule": "trace", "update_freq": 5}
    params = [start.clone().requires_grad_() for start in STARTS]
    groups = [{"params": params[:3], **first}, {"params": params[3:], **second}]
    optimizer = KrADagradStar(groups, block_size=BLOCK, **FLOAT64)
    for grads in GRADS:
        for parameter, grad in zip(params, grads, strict=True):
            parameter.grad = grad
        optimizer.step()
    alone = run(STARTS[:3], [g[:3] for g in GRADS], block_size=BLOCK, **FLOAT64, **first)[0]
    alone += run(STARTS[3:], [g[3:] for g in GRADS], block_size=BLOCK, **FLOAT64, **second)[0]
    for a, b in zip(params, alone, strict=True):
        torch.testing.assert_close(a.detach(), b, rtol=1e-13, atol=1e-13)


def test_groups_may_come_later():
    x, y = (torch.zeros(3, 2, requires_grad=True) for _ in range(2))
    optimizer = KrADagradStar([x])
    x.grad = torch.ones(3, 2)
    optimizer.step()
    optimizer.add_param_group({"params": [y], "lr": 0.5})
    y.grad = torch.ones(3, 2)
    optimizer.step()
    assert bool((y < 0).all())


def test_spectra_are_those_of_the_factors():
    optimizer = run(STARTS, GRADS, block_size=BLOCK, update_freq=1, **FLOAT64)[1]
    spectra = {spectrum.name: spectrum for spectrum in optimizer.spectra()}
    factor = optimizer.state["0/6x6"]["factor_0"][0]
    spectrum = spectra["parameter 1[0].mode0"]
    assert spectrum.kind == "inverse_factor"
    assert spectrum.staleness == 0
    torch.testing.assert_close(spectrum.eigenvalues, torch.linalg.eigvalsh(factor))
    assert spectrum.root_residual < 1e-10


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("damping", -0.1, "damping must be >= 0, got -0.1"),
        ("damping", 1.0, "damping must be < beta2 / initial_scale = 1, got 1.0"),
        ("damping", float("nan"), "damping must be >= 0, got nan"),
        ("initial_scale", 0.0, "initial_scale must be > 0, got 0.0"),
        ("t_rule", "max", "t_rule must be one of spectral, frobenius, trace, trace_dim, got max"),
        ("norm_iterations", 0, "norm_iterations must be an integer >= 1, got 0"),
        ("root_shift", -1.0, "root_shift must be >= 0, got -1.0"),
        ("swap_factors", 1, "swap_factors must be true or false, got 1"),
        ("ons", "yes", "ons must be true or false, got yes"),
        ("beta2", 0.0, r"beta2 must be in \(0, 1\], got 0.0"),
        ("update_freq", 0, "update_freq must be an integer >= 1, got 0"),
    ],
)
def test_bad_options_are_named(name, value, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        KrADagradStar([torch.zeros(2, requires_grad=True)], **{name: value})


def test_sparse_gradients_are_refused():
    x = torch.zeros(3, requires_grad=True)
    x.grad = torch.ones(3).to_sparse()
    with pytest.raises(ValueError, match=r"^gradient of parameter 0 must be dense, got layout"):
        KrADagradStar([x]).step()
