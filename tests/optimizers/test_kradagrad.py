"""KrADagrad against a block-by-block float64 transcription, its schedules and hard inputs."""

import pytest
import torch

from optimizers import KrADagrad
from optimizers.kradagrad import SCHEDULES
from tests.optimizers import reference_kradagrad as reference

# A vector, matrices with blocks that do not divide them, 3 and 4 modes, and the smallest. (13, 5)
# and (5, 13) have blocks of one shape whose tensors have their largest mode elsewhere.
SHAPES = [(7,), (6, 9), (13, 5), (5, 13), (13, 6), (6, 13), (3, 4, 5), (4, 3, 3, 3), (1,), ()]
FLOAT64 = dict.fromkeys(("statistics_dtype", "root_dtype", "apply_dtype"), "float64")
BLOCK = 6
# Both sides are float64 and differ by the order of sums, 1e-16 a step, in 20 steps; roots of
# eigenvalues down to 1e-3 multiply it by 30 at most. Measured: 3e-15.
CLOSE = {"rtol": 1e-11, "atol": 1e-12}


def normal(shapes, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(s, generator=generator, dtype=torch.float64).to(dtype) for s in shapes]


STARTS = normal(SHAPES, 0)
GRADS = [normal(SHAPES, 21 + step) for step in range(20)]


def run(starts, grads, **options):
    params = [start.clone().requires_grad_() for start in starts]
    optimizer = KrADagrad(params, **options)
    for step_grads in grads:
        for parameter, grad in zip(params, step_grads, strict=True):
            parameter.grad = None if grad is None else grad.clone()
        optimizer.step()
    return [parameter.detach() for parameter in params], optimizer


def compare(options, **equations):
    ours, optimizer = run(STARTS, GRADS, lr=0.1, block_size=BLOCK, **FLOAT64, **options)
    theirs = reference.kradagrad(STARTS, GRADS, lr=0.1, block_size=BLOCK, **equations)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)
    assert optimizer.state["shared"]["fallbacks"] == 0


def every(freq):
    """Roots enter the statistics and are computed from the first step on."""
    return lambda t: (t - 1) % freq == 0


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
        {"woodbury": True},
        {"exponent": 1.0},
        {"weight_decay": 0.2, "momentum_rule": "nesterov"},
    ],
    ids=str,
)
def test_equals_the_equations_with_options(extra, freq):
    options = {"update_freq": freq, "momentum": 0.9, **extra}
    compare(options, rule="frobenius", due=every(freq), momentum=0.9, **extra)


@pytest.mark.parametrize("freq", [1, 5])
def test_equals_the_body_of_the_paper(freq):
    options = {"schedule": "cyclic", "update_freq": freq, "momentum": 0.0}
    compare(options, rule="frobenius", due=every(freq), cyclic=True)


@pytest.mark.parametrize("freq", [1, 5])
@pytest.mark.parametrize("weight_decay", [0.0, 0.2])
def test_equals_the_authors(weight_decay, freq):
    """With the roots of a tensor's first block alone, and a first step without its own root."""
    options = {
        "schedule": "square_root_whole",
        "first_block_only": True,
        "start_step": 2,
        "damping": 0.05,
        "root_shift": 1e-8,
        "update_freq": freq,
        "momentum_rule": "in_place_nesterov",
        "weight_decay": weight_decay,
        "weight_decay_rule": "l2",
    }
    compare(
        options,
        rule="frobenius",
        due=every(freq),
        whole_shape=True,
        first_block_only=True,
        plain_start=False,
        start_step=2,
        damping=0.05,
        shift=1e-8,
        momentum=0.9,
        momentum_rule="in_place_nesterov",
        weight_decay=weight_decay,
    )


def test_the_authors_leave_all_blocks_but_the_first_alone():
    """The index error changes tensors of several blocks, in those blocks, and nothing else."""
    options = {"update_freq": 1, "block_size": BLOCK, "momentum": 0.0, **FLOAT64}
    buggy = run(STARTS, GRADS, first_block_only=True, **options)[0]
    fixed = run(STARTS, GRADS, **options)[0]
    for shape, a, b in zip(SHAPES, buggy, fixed, strict=True):
        cuts = reference.cuts(reference.merged(shape, BLOCK), BLOCK)
        a, b = (x.reshape(reference.merged(shape, BLOCK)) for x in (a, b))
        # Batches of another size round differently.
        same = [bool(torch.allclose(a[cut], b[cut], rtol=0, atol=1e-12)) for cut in cuts]
        assert same == [number == 0 for number in range(len(cuts))]


def test_schedules():
    """A mode beside the largest is renewed O(sqrt(step)) times."""
    modes = [SCHEDULES["square_root"].mode(step, (3, 8)) for step in range(400)]
    assert modes[:12] == [0, 1, 0, 1, 0, 1, 1, 1, 1, 0, 1, 1]
    assert modes.count(0) == 2 + len(range(2, 20))
    assert [SCHEDULES["square_root"].mode(s, (8, 8)) for s in (4, 5, 6)] == [0, 1, 0]
    assert [SCHEDULES["square_root"].mode(s, (8, 40)) for s in (4, 5, 6)] == [0, 1, 1]
    assert [SCHEDULES["cyclic"].mode(s, (3, 8, 2)) for s in range(4)] == [0, 1, 2, 0]
    assert [name for name, schedule in SCHEDULES.items() if schedule.of_tensor] == [
        "square_root_whole"
    ]


def test_one_step_has_a_closed_form():
    """From L = R = I the first step touches L alone, with the exponent 1/2."""
    G = normal([(4, 6)], seed=9)[0]
    U, s, Vh = torch.linalg.svd(G, full_matrices=False)
    ours = run([torch.zeros(4, 6).double()], [[G]], lr=1.0, momentum=0.0, block_size=6, **FLOAT64)
    t = 1 + (s**4).sum().sqrt()
    expected = -(U * (s * (1 - s**2 / t) ** 0.5)) @ Vh
    torch.testing.assert_close(ours[0][0], expected, rtol=0, atol=1e-13)


def test_second_step_sees_the_first_root():
    """L moves by G R G^T: a matrix step after one on the other side."""
    first, second = (step[0] for step in (normal([(4, 6)], 1), normal([(4, 6)], 2)))
    _, optimizer = run(
        [torch.zeros(4, 6).double()],
        [[first], [second]],
        update_freq=1,
        schedule="cyclic",
        block_size=6,
        **FLOAT64,
    )
    L, R = (optimizer.state["0/4x6"][f"factor_{mode}"][0] for mode in range(2))
    A = first @ first.T
    left = torch.eye(4).double() - A / (1 + A.norm())
    A = second.T @ left @ second
    right = torch.eye(6).double() - A / (1 + A.norm())
    torch.testing.assert_close(L, left, rtol=0, atol=1e-13)
    torch.testing.assert_close(R, right, rtol=0, atol=1e-13)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_parameter_may_pause(schedule):
    """Roots of modes touched while others had no gradient are renewed when their turn comes."""
    shapes = [(5, 6), (6, 5), (5, 6)]
    grads = [
        [g if (t + p) % 3 else None for p, g in enumerate(normal(shapes, t))] for t in range(9)
    ]
    options = {"update_freq": 4, "block_size": 6, "schedule": schedule, **FLOAT64}
    together, optimizer = run(normal(shapes, 50), grads, **options)
    assert all(bool(x.isfinite().all()) for x in together)
    for p in range(3):
        # Alone, steps without a gradient do not count; only the statistics are compared below.
        assert optimizer.state[optimizer.param_groups[0]["params"][p]]["root_step"] > 0
    for key in ("0/5x6", "0/6x5"):
        state = optimizer.state[key]
        for mode in range(2):
            root, factor = state[f"root_{mode}"], state[f"factor_{mode}"]
            # A root is of its factor now or of an earlier, larger one.
            gap = torch.linalg.eigvalsh(root @ root - factor)
            assert float(gap.min()) > -1e-12


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
@pytest.mark.parametrize("woodbury", [False, True])
def test_hard_gradients(case, woodbury):
    ours, optimizer = run(
        [torch.ones(9, 12)],
        [[HARD[case]]] * 30,
        woodbury=woodbury,
        update_freq=5,
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


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, 1e20])
def test_a_gradient_that_cannot_be_used_skips_the_step(bad):
    x = torch.zeros(4, 5, requires_grad=True)
    optimizer = KrADagrad([x], merge_dims=False)
    x.grad = torch.ones(4, 5)
    optimizer.step()
    before, state = x.detach().clone(), optimizer.state["0/4x5"]
    kept = {name: value.clone() for name, value in state.items()}
    x.grad[1, 2] = bad
    optimizer.step()
    assert torch.equal(x, before)
    assert all(torch.equal(state[name], value) for name, value in kept.items())
    assert optimizer.state["shared"]["fallbacks"] == 1
    assert optimizer.state["shared"]["step"] == 1


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("schedule", "often", "one of cyclic, square_root, square_root_whole, got often"),
        ("woodbury", 1, "true or false, got 1"),
        ("first_block_only", None, "true or false, got None"),
        ("damping", 2.0, "< beta2 / initial_scale = 1, got 2.0"),
        ("exponent", 0, "None or > 0, got 0"),
    ],
)
def test_bad_options_are_named(name, value, message):
    with pytest.raises(ValueError, match=f"^{name} must be {message}$"):
        KrADagrad([torch.zeros(2, requires_grad=True)], **{name: value})


def test_woodbury_needs_a_solver():
    with pytest.raises(ValueError, match=r"^woodbury must be false"):
        KrADagrad([torch.zeros(2, requires_grad=True)], woodbury=True, statistics_dtype="bfloat16")
