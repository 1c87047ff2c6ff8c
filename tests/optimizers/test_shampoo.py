"""Shampoo against a transcription of its equations, and where it is another method."""

import math

import pytest
import torch

from optimizers import Shampoo
from tests.optimizers.reference_shampoo import ReferenceShampoo

# A vector, matrices, 3 and 4 modes; with blocks of 4 none but the last divides evenly.
SHAPES = [(), (1,), (9,), (6, 5), (3, 2, 5), (5, 3, 2, 2), (4, 8)]
FLOAT64 = dict.fromkeys(("statistics_dtype", "root_dtype", "apply_dtype"), "float64")
AUTHORS = {
    "momentum_rule": "in_place_nesterov",
    "weight_decay_rule": "l2",
    "damping": 1e-8,
    "floor": 1e-4,
    "initial_scale": 1e-4,
    "graft": "sgd",
    "root_schedule": "multiples",
    "start_rule": "aliased",
}


def parameters(dtype=torch.float64, shapes=SHAPES, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for shape in shapes
    ]


def gradients(shapes, num_steps, seed=1):
    """Random gradients with a different scale in each entry, so that roots matter."""
    generator = torch.Generator().manual_seed(seed)

    def draw(shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    scales = [draw(shape).exp() for shape in shapes]
    return [[s * draw(s.shape) for s in scales] for _ in range(num_steps)]


def run(optimizer, params, grads):
    for step in grads:
        for parameter, grad in zip(params, step, strict=True):
            parameter.grad = None if grad is None else grad.to(parameter.dtype)
        optimizer.step()
    return [parameter.detach().clone() for parameter in params]


def against_reference(num_steps=20, dtype=torch.float64, shapes=SHAPES, **options):
    params = parameters(dtype, shapes)
    optimizer = Shampoo(params, **options)
    reference = ReferenceShampoo(params, **optimizer.defaults)
    grads = gradients(shapes, num_steps)
    run(optimizer, params, grads)
    for step in grads:
        reference.step(step)
    return params, reference.x


def assert_near(ours, theirs, tolerance):
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.detach().double(), b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("update_freq", [1, 5])
@pytest.mark.parametrize("block_size", [4, 128])
@pytest.mark.parametrize("merge_dims", [True, False])
def test_twenty_steps_are_those_of_the_equations(update_freq, block_size, merge_dims):
    ours, theirs = against_reference(
        lr=0.1, update_freq=update_freq, block_size=block_size, merge_dims=merge_dims, **FLOAT64
    )
    # Statistics of rank 1 to 20 under a damping of 1e-4: eigenvalues are good to 1e-16 |S| ~ 1e-13,
    # that is 1e-9 of the damping, and 1e-9 of the step in the directions that it rules.
    assert_near(ours, theirs, 1e-9)


@pytest.mark.parametrize(
    "options",
    [
        {"beta2": 0.9},
        {"start_step": 4},
        {"start_step": 4, "graft": "adagrad"},
        {"exponent": 0.5},
        {"root_schedule": "multiples", "update_freq": 3},
        {"momentum_rule": "nesterov", "weight_decay": 0.1},
        {"momentum_rule": "in_place_nesterov", "weight_decay": 0.1, "weight_decay_rule": "l2"},
        {"momentum": 0.0, "initial_scale": 0.5, "floor": 0.7},
        {"graft": "sgd"},
        {"graft": "adagrad"},
        {"graft": "adam", "graft_beta2": 0.9},
        {**AUTHORS, "update_freq": 3},
        {**AUTHORS, "update_freq": 5, "start_step": 3},
    ],
    ids=lambda options: "-".join(f"{name}={value}" for name, value in options.items())[:60],
)
def test_every_option_is_that_of_the_equations(options):
    ours, theirs = against_reference(lr=0.1, block_size=4, **FLOAT64, **options)
    assert_near(ours, theirs, 1e-9)  # as above


def test_float32_stays_near_float64():
    # Damping of 1e-2 of the largest eigenvalues, so that float32's 1e-7 |S| is 1e-5 of it; over 20
    # steps of 0.1 with momentum ten that is 1e-4. Without a floor the small directions are noise.
    ours, theirs = against_reference(dtype=torch.float32, lr=0.01, block_size=4, damping=1.0)
    assert_near(ours, theirs, 1e-4)


@pytest.mark.parametrize("update_freq", [1, 5])
def test_coupled_newton_finds_the_roots_of_the_decomposition(update_freq):
    options = {"lr": 0.1, "block_size": 4, "update_freq": update_freq, "damping": 1e-2, **FLOAT64}
    ours, theirs = against_reference(root_method="coupled_newton", **options)
    # It stops at |M - I| < 1e-6, and the root's error is of that order over its degree.
    assert_near(ours, theirs, 1e-5)


def test_coupled_newton_of_the_authors_is_that_of_a_ridge_on_well_conditioned_statistics():
    options = {"lr": 0.1, "block_size": 4, "update_freq": 1, "initial_scale": 1.0, **FLOAT64}
    # Ridge and damping are both far below the identity that the statistics start from.
    ours, theirs = against_reference(
        root_method="coupled_newton_authors", floor=1e-12, damping=1e-12, **options
    )
    assert_near(ours, theirs, 1e-5)


def test_coupled_newton_of_the_authors_takes_a_root_that_failed_as_it_comes():
    """Statistics beyond float32's precision: checked roots stay identities, theirs do not."""
    moved = {}
    for method in ("coupled_newton", "coupled_newton_authors"):
        params = parameters(shapes=[(8, 8)], dtype=torch.float32)
        optimizer = Shampoo(
            params, lr=1.0, momentum=0.0, update_freq=1, block_size=8, damping=1e-8, floor=1e-8,
            root_method=method,
        )  # fmt: skip
        # An indefinite factor, as round-off makes one of an ill-conditioned Gram matrix.
        grads = gradients([(8, 8)], 1)
        run(optimizer, params, [[g.float() for g in step] for step in grads])
        state = next(s for s in optimizer.state.values() if "factor_0" in s)
        factor = state["factor_0"]
        values = torch.tensor([1e10, 1, 1, 1, 1, 1, 1, -1e3])
        factor.copy_(torch.diag_embed(values).expand_as(factor))
        before = state["root_0"].clone()
        params[0].grad = torch.zeros_like(params[0])
        optimizer.step()
        moved[method] = not torch.equal(state["root_0"], before)
    assert moved == {"coupled_newton": False, "coupled_newton_authors": True}


def test_identity_statistics_make_it_sgd_with_momentum():
    # S = s I with s far above all Gram matrices: every root is s^(-1/2k), their product s^(-1/2).
    scale = 1e16
    params, twins = parameters(), parameters()
    grads = gradients(SHAPES, 10)
    ours = Shampoo(params, lr=0.1 * scale**0.5, initial_scale=scale, weight_decay=0.0, **FLOAT64)
    sgd = torch.optim.SGD(twins, lr=0.1, momentum=0.9)
    # The Gram matrices are 1e-13 of s, and so is what they change.
    assert_near(run(ours, params, grads), run(sgd, twins, grads), 1e-11)


def test_a_vector_of_one_block_is_full_matrix_adagrad():
    params = parameters(shapes=[(7,)])
    grads = gradients([(7,)], 10)
    run(Shampoo(params, lr=0.1, momentum=0.0, update_freq=1, **FLOAT64), params, grads)
    x, H = parameters(shapes=[(7,)])[0].detach(), 1e-4 * torch.eye(7, dtype=torch.float64)
    for (g,) in grads:
        H = H + torch.outer(g, g)
        values, vectors = torch.linalg.eigh(H)
        x = x - 0.1 * vectors @ (values.rsqrt() * (vectors.T @ g))
    torch.testing.assert_close(params[0].detach(), x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("graft", "other"),
    [
        ("sgd", lambda p: torch.optim.SGD(p, lr=0.1)),
        ("adagrad", lambda p: torch.optim.Adagrad(p, lr=0.1, eps=1e-8)),
        ("adam", lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.0, 0.999), eps=1e-8)),
    ],
)
def test_a_grafted_step_is_as_long_as_the_other_method_s(graft, other):
    params, twins = parameters(), parameters()
    ours = Shampoo(params, lr=0.1, momentum=0.0, graft=graft, block_size=4, **FLOAT64)
    theirs = other(twins)
    for step in gradients(SHAPES, 5):
        before = [parameter.detach().clone() for parameter in (*params, *twins)]
        after = run(ours, params, [step]) + run(theirs, twins, [step])
        lengths = [(a - b).norm() for a, b in zip(after, before, strict=True)]
        ours_, theirs_ = lengths[: len(params)], lengths[len(params) :]
        # A difference of parameters of size 1 is good to 1e-16, its length here to 1e-14.
        torch.testing.assert_close(ours_, theirs_, rtol=1e-12, atol=1e-13)


def test_before_the_start_step_the_graft_itself_steps():
    params, twins = parameters(), parameters()
    grads = gradients(SHAPES, 5)
    ours = Shampoo(params, lr=0.1, momentum=0.0, graft="adagrad", start_step=6, **FLOAT64)
    theirs = torch.optim.Adagrad(twins, lr=0.1, eps=1e-8)
    assert_near(run(ours, params, grads), run(theirs, twins, grads), 1e-14)  # a different order


def test_a_scaled_gradient_is_a_scaled_statistic():
    """With next to no damping a step does not see the gradients' scale, as AdaGrad's."""
    params, twins = parameters(shapes=[(4, 3)]), parameters(shapes=[(4, 3)])
    # Statistics of full rank, from four gradients on: 1e-12 is lost in their eigenvalues.
    options = {"lr": 0.1, "damping": 1e-12, "update_freq": 2, "block_size": 4, **FLOAT64}
    grads = gradients([(4, 3)], 8)
    plain = run(Shampoo(params, start_step=4, graft="adam", **options), params, grads)
    scaled = [[1e3 * g for g in step] for step in grads]
    assert_near(
        run(Shampoo(twins, start_step=4, graft="adam", **options), twins, scaled), plain, 1e-6
    )


@pytest.mark.parametrize("order", [[(6, 5), (5, 6)], [(3, 2, 5), (5, 6)], [(9,), (6, 5), (9,)]])
def test_one_bucket_for_all_is_one_for_each(order):
    """Parameters do not mix: together they move as each alone."""
    together = parameters(shapes=order)
    grads = gradients(order, 6)
    run(Shampoo(together, lr=0.1, block_size=4, **FLOAT64), together, grads)
    for i in range(len(order)):
        alone = [parameters(shapes=order)[i]]
        run(Shampoo(alone, lr=0.1, block_size=4, **FLOAT64), alone, [[step[i]] for step in grads])
        # Batched products may sum in another order: 1e-9 as against the reference.
        torch.testing.assert_close(alone[0], together[i], rtol=1e-9, atol=1e-9)


def test_a_parameter_that_comes_late_gets_its_roots_at_once():
    params = parameters(shapes=[(4, 3), (4, 3)])
    grads = gradients([(4, 3), (4, 3)], 9)
    late = [[a, b if t >= 4 else None] for t, (a, b) in enumerate(grads)]
    optimizer = Shampoo(params, lr=0.1, update_freq=4, **FLOAT64)
    start = params[1].detach().clone()
    run(optimizer, params, late[:4])
    assert torch.equal(params[1], start)
    run(optimizer, params, late[4:5])
    first = parameters(shapes=[(4, 3), (4, 3)])[1:]
    run(Shampoo(first, lr=0.1, update_freq=4, **FLOAT64), first, [[late[4][1]]])
    torch.testing.assert_close(params[1], first[0], rtol=1e-12, atol=1e-12)
    # 5, not 8: the step at which its own statistic became a root
    assert optimizer.state[params[1]]["root_step"] == 5
    # The other one is as if it were alone: no step of its own is lost or doubled.
    run(optimizer, params, late[5:])
    alone = parameters(shapes=[(4, 3)])
    run(Shampoo(alone, lr=0.1, update_freq=4, **FLOAT64), alone, [[a] for a, _ in late])
    torch.testing.assert_close(params[0], alone[0], rtol=1e-9, atol=1e-9)
    assert math.isfinite(float(params[1].detach().sum()))
