"""GGT against dense float64 transcriptions of the paper, its limits and its invariants."""

import math

import pytest
import torch

from optimizers import GGT, state_bytes
from tests.optimizers import reference

D, R = 20, 7
SHAPES = ((3, 2), (), (4,), (1, 3, 3))
START = torch.linspace(-1, 1, D, dtype=torch.float64)


def two_groups(parts, **options):
    return GGT([{"params": parts[:2]}, {"params": parts[2:]}], **options)


@pytest.mark.parametrize("beta2", [1.0, 0.9])
def test_equals_algorithm_1(beta2):
    gradient = reference.noisy_quadratic(D, seed=0)
    parts = reference.split(START, SHAPES)
    options = {"lr": 0.1, "window": R, "beta2": beta2, "damping": 1e-4}
    optimizer = two_groups(
        parts,
        momentum=0.0,
        window_source="gradient",
        outside_scale=None,
        window_dtype="float64",
        **options,
    )
    ours = reference.run_on_parts(optimizer, parts, gradient, 30)
    theirs = reference.algorithm_1(START, gradient, 30, lr=0.1, r=R, beta2=beta2, eps=1e-4)
    # Round-off outside the span, 1e-16 |v|, is multiplied by 1/damping = 1e4 in each of 30 steps;
    # the Gram matrix squares condition numbers of about 1e2.
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


@pytest.mark.parametrize("outside", [0.0, 0.3, None])
@pytest.mark.parametrize("source", ["momentum", "gradient"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("beta2", [1.0, 0.9])
def test_equals_section_2_1(beta2, momentum, source, outside):
    gradient = reference.noisy_quadratic(D, seed=1)
    parts = reference.split(START, SHAPES)
    optimizer = two_groups(
        parts,
        lr=0.01,
        window=R,
        momentum=momentum,
        beta2=beta2,
        damping=1e-2,
        window_source=source,
        outside_scale=outside,
        sgd_mix=0.05,
        window_dtype=torch.float64,
    )
    ours = reference.run_on_parts(optimizer, parts, gradient, 30)
    theirs = reference.section_2_1(
        START,
        gradient,
        30,
        lr=0.01,
        r=R,
        beta2=beta2,
        eps=1e-2,
        momentum=momentum,
        source=source,
        outside=outside,
        sgd_mix=0.05,
    )
    # With outside = 1/eps = 100 and raw gradients in the window the iteration is unstable and
    # carries x to 1e2 and above, hence relative; 1e-9 as in the test above.
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_ridge_is_added_to_the_gram_matrix():
    gradient = reference.noisy_quadratic(D, seed=2)
    parts = reference.split(START, SHAPES)
    optimizer = GGT(parts, lr=0.1, window=R, ridge=3.0, damping=1e-2, window_dtype="float64")
    ours = reference.run_on_parts(optimizer, parts, gradient, 30)
    theirs = reference.section_2_1(
        START,
        gradient,
        30,
        lr=0.1,
        r=R,
        beta2=1.0,
        eps=1e-2,
        momentum=0.9,
        source="momentum",
        outside=0.0,
        ridge=3.0,
    )
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


def test_window_of_one_normalises_the_momentum():
    x = START.clone().requires_grad_()
    optimizer = GGT([x], lr=0.5, window=1, momentum=0.9, damping=0.2, window_dtype="float64")
    v, expected = torch.zeros(D, dtype=torch.float64), START.clone()
    for t in range(5):
        x.grad = torch.sin(torch.arange(D) + t).double()
        v = 0.9 * v + x.grad
        expected = expected - 0.5 * v / (v.norm() + 0.2)
        optimizer.step()
    torch.testing.assert_close(x.detach(), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("beta2", [1.0, 0.9])
def test_steps_are_no_longer_than_lr_when_the_vector_is_in_the_window(beta2):
    gradient = reference.noisy_quadratic(D, seed=3)
    parts = reference.split(START, SHAPES)
    optimizer = GGT(parts, lr=0.1, window=R, beta2=beta2, damping=1e-8, window_dtype="float64")
    for t in range(30):
        before = reference.join(parts)
        reference.run_on_parts(optimizer, parts, lambda x, _, t=t: gradient(x, t), 1)
        # The bound is tight without damping, so it is met up to round-off.
        assert (reference.join(parts) - before).norm() <= 0.1 * (1 + 1e-12)


def test_a_large_share_of_sgd_is_sgd():
    s, gradient = 1e6, reference.noisy_quadratic(D, seed=4)
    parts, twins = reference.split(START, SHAPES), reference.split(START, SHAPES)
    ours = reference.run_on_parts(GGT(parts, lr=0.05 / s, sgd_mix=s), parts, gradient, 100)
    sgd = torch.optim.SGD(twins, lr=0.05, momentum=0.9)
    theirs = reference.run_on_parts(sgd, twins, gradient, 100)
    # GGT's own share is at most lr / s = 5e-8 a step; with momentum 0.9 it stays far below 1e-4.
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
    assert (ours - START).norm() > 1


@pytest.mark.parametrize(("damping", "dtype"), [(1e-8, torch.float32), (1e-8, torch.float64)])
def test_the_printed_formula_fails_in_float32_by_round_off(damping, dtype):
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(2000, dtype=dtype, requires_grad=True)
    optimizer = GGT(
        [x],
        lr=1.0,
        window=50,
        momentum=0.0,
        window_source="gradient",
        damping=damping,
        outside_scale=None,
        window_dtype=dtype,
    )
    longest = 0.0
    for _ in range(60):
        before = x.detach().clone()
        x.grad = torch.randn(2000, generator=generator).to(dtype)
        optimizer.step()
        longest = max(longest, float((x.detach() - before).norm()))
    # Exact arithmetic gives at most 1; |v| = 45 with eps 6e-8 over 1e-8 is of the order 1e2.
    assert longest > 10 if dtype == torch.float32 else longest <= 1 + 1e-5


def test_decay_is_exact_over_several_wraps():
    generator = torch.Generator().manual_seed(5)
    grads = torch.randn(5 * R + 3, D, generator=generator, dtype=torch.float64)
    x = torch.zeros(D, dtype=torch.float64, requires_grad=True)
    optimizer = GGT([x], window=R, momentum=0.0, beta2=0.7, window_dtype="float64")
    for grad in grads:
        x.grad = grad.clone()
        optimizer.step()
    columns = [0.7**k * grads[-1 - k] for k in range(R)]
    expected = torch.linalg.svdvals(torch.stack(columns)).square().flip(0)
    # 0.7^12 of the largest remains in the smallest: relative to the largest, round-off of float64.
    torch.testing.assert_close(optimizer.spectra()[0].eigenvalues, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    ("dtype", "resolution", "tolerance"),
    # Rounding a window entry to bfloat16 errs by at most 2^-8 = 4e-3 of it; float32 by 6e-8.
    [("bfloat16", 1e-3, 2e-2), ("float32", 1e-6, 1e-5), ("float64", 1e-13, 0)],
)
def test_lower_precision_windows_stay_close(dtype, resolution, tolerance):
    gradient = reference.noisy_quadratic(D, seed=6)
    runs = []
    for window_dtype in (dtype, "float64"):
        parts = reference.split(START, SHAPES)
        optimizer = GGT(parts, lr=0.05, window=R, momentum=0.0, window_dtype=window_dtype)
        runs.append(reference.run_on_parts(optimizer, parts, gradient, 20))
        if window_dtype == dtype:
            spectrum = optimizer.spectra()[0]
    assert (runs[0] - runs[1]).norm() <= tolerance * (runs[1] - START).norm()
    assert spectrum.resolution == resolution * float(spectrum.eigenvalues[-1])


def test_repeated_gradients_leave_a_rank_one_window():
    x = torch.zeros(D, requires_grad=True)
    optimizer = GGT([x], lr=1.0, window=5, momentum=0.0, damping=1e-6)
    direction = torch.ones(D) / math.sqrt(D)
    for t in range(1, 8):
        before = x.detach().clone()
        x.grad = 3 * direction
        optimizer.step()
        # n equal columns g: (G G^T)^{1/2} = sqrt(n) |g| on their line, so the step is 1/sqrt(n).
        # Steps of length 1 end near 1e1 in float32, hence 1e-5.
        expected = -direction / math.sqrt(min(t, 5))
        torch.testing.assert_close(x.detach() - before, expected, rtol=0, atol=1e-5)


def test_zero_gradients_do_not_move():
    x = torch.ones(D, requires_grad=True)
    optimizer = GGT([x], lr=1.0, window=3)
    for _ in range(5):
        x.grad = torch.zeros(D)
        optimizer.step()
    assert torch.equal(x.detach(), torch.ones(D))
    assert optimizer.spectra()[0].eigenvalues.tolist() == [0.0, 0.0, 0.0]
    assert optimizer.spectra()[0].fallbacks == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e25])
@pytest.mark.parametrize("source", ["momentum", "gradient"])
def test_a_gradient_that_cannot_be_squared_leaves_no_trace_but_a_count(bad, source):
    grads = torch.randn(12, D, generator=torch.Generator().manual_seed(7))
    ends = []
    for spoil in (False, True):
        x = torch.ones(D, requires_grad=True)
        optimizer = GGT([x], lr=0.1, window=4, window_source=source)
        for t, grad in enumerate(grads):
            if spoil and t == 6:
                x.grad = grad.clone().index_fill_(0, torch.tensor([3]), bad)
                optimizer.step()
            x.grad = grad.clone()
            optimizer.step()
        ends.append(x.detach())
    assert torch.equal(*ends)
    assert optimizer.spectra()[0].fallbacks == 1


def test_groups_have_their_own_lr_and_weight_decay_in_one_window():
    gradient = reference.noisy_quadratic(D, seed=8)
    parts = reference.split(START, SHAPES)
    groups = [
        {"params": parts[:2], "lr": 0.0, "weight_decay": 0.1},
        {"params": parts[2:], "lr": 0.1, "weight_decay": 0.5},
    ]
    twins = reference.split(START, SHAPES)
    options = {"window": R, "window_dtype": "float64"}
    reference.run_on_parts(GGT(groups, **options), parts, gradient, 1)
    reference.run_on_parts(GGT(twins, lr=0.1, **options), twins, gradient, 1)
    torch.testing.assert_close(reference.join(parts[:2]), START[:7], rtol=0, atol=0)
    expected = reference.join(twins[2:]) - 0.1 * 0.5 * START[7:]
    torch.testing.assert_close(reference.join(parts[2:]), expected, rtol=0, atol=1e-15)


def test_groups_that_disagree_on_a_shared_option_are_refused():
    parts = reference.split(START, SHAPES)
    optimizer = GGT([{"params": parts[:2]}, {"params": parts[2:], "damping": 1.0}])
    parts[0].grad = torch.ones_like(parts[0])
    with pytest.raises(ValueError, match=r"damping must be the same in all groups"):
        optimizer.step()


def test_groups_cannot_come_after_the_window():
    x, y = torch.ones(3, requires_grad=True), torch.ones(2, requires_grad=True)
    optimizer = GGT([x])
    x.grad = torch.ones(3)
    optimizer.step()
    with pytest.raises(ValueError, match="before the first step"):
        optimizer.add_param_group({"params": [y]})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "lr must be >= 0, got -1.0"),
        ({"lr": math.nan}, "lr must be >= 0, got nan"),
        ({"window": 0}, "window must be an integer >= 1, got 0"),
        ({"window": 2.5}, "window must be an integer >= 1, got 2.5"),
        ({"momentum": 1.5}, r"momentum must be in \[0, 1\), got 1.5"),
        ({"beta2": 0.0}, r"beta2 must be in \(0, 1\], got 0.0"),
        ({"damping": -0.1}, "damping must be > 0, got -0.1"),
        ({"weight_decay": -1}, "weight_decay must be >= 0, got -1"),
        ({"window_source": "grad"}, "window_source must be one of momentum, gradient, got grad"),
        ({"outside_scale": -1}, "outside_scale must be None or >= 0, got -1"),
        ({"sgd_mix": -1}, "sgd_mix must be >= 0, got -1"),
        ({"ridge": -1}, "ridge must be >= 0, got -1"),
        ({"window_dtype": "int8"}, "window_dtype must be one of .*, got int8"),
    ],
)
def test_bad_hyperparameters(options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        GGT([torch.ones(2, requires_grad=True)], **options)


def test_bad_options_of_a_single_group():
    with pytest.raises(ValueError, match="lr must be >= 0, got -1"):
        GGT([{"params": [torch.ones(2, requires_grad=True)], "lr": -1}])


@pytest.mark.parametrize("source", ["momentum", "gradient"])
def test_memory_is_window_two_vectors_and_r_squared(source):
    d, r = 40_000, 10
    x = torch.ones(d, requires_grad=True)
    optimizer = GGT([x], window=r, window_source=source)
    for _ in range(3):
        x.grad = torch.ones(d)
        optimizer.step()
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in optimizer.state["window"].values()
        if isinstance(tensor, torch.Tensor)
    }
    assert state_bytes(optimizer) == sum(storages.values())
    # 5 % is what the memory statement promises.
    assert state_bytes(optimizer) == pytest.approx(4 * d * (r + 2) + 8 * (r * r + r), rel=0.05)


def test_a_checkpoint_of_another_model_is_refused():
    x, y = torch.ones(3, requires_grad=True), torch.ones(2, requires_grad=True)
    x.grad = torch.ones(3)
    optimizer = GGT([x])
    optimizer.step()
    with pytest.raises(ValueError, match="window's length must be 2, as the model, got 3"):
        GGT([y]).load_state_dict(optimizer.state_dict())
