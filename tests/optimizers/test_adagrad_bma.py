"""AdaGrad-BMA against its dense transcription, its limits, invariants and refusals."""

import copy
import math

import pytest
import torch

from optimizers import AdagradBMA, state_bytes
from optimizers.linalg.block_mean import second_moment_root
from tests.optimizers import reference
from tests.optimizers.reference_adagrad_bma import blocks_of, corrected, printed

SHAPES = ((3, 2), (), (4,), (2, 3, 2), (1,), (2, 3, 1, 2))
DIM = 6 + 1 + 4 + 12 + 1 + 12
START = torch.linspace(-1, 1, DIM, dtype=torch.float64)
EXACT = {"damping": 1e-3, "eigenvalue_floor": 1e-2, "statistics_dtype": "float64"}


def stepped(grads, shapes=SHAPES, **options):
    """Parameters after one step a flat gradient, from zero."""
    parts = reference.split(torch.zeros(grads.shape[1], dtype=torch.float64), shapes)
    optimizer = AdagradBMA(parts, **{**EXACT, **options})
    end = reference.run_on_parts(optimizer, parts, lambda x, t: grads[t], len(grads))
    return end, optimizer


def random_grads(num_steps, dim=DIM, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_steps, dim, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("update_freq", [1, 5])
@pytest.mark.parametrize("partition", ["layer", "unit", "group", "element"])
@pytest.mark.parametrize(
    ("transcription", "sums"), [(corrected, "preconditioned"), (printed, "gradient")]
)
def test_equals_the_transcription(transcription, sums, partition, update_freq):
    gradient = reference.noisy_quadratic(DIM, seed=0)
    parts = reference.split(START, SHAPES)
    groups = [{"params": parts[:2]}, {"params": parts[2:]}]
    optimizer = AdagradBMA(
        groups, lr=0.1, partition=partition, update_freq=update_freq, block_sums=sums, **EXACT
    )
    ours = reference.run_on_parts(optimizer, parts, gradient, 20)
    theirs = transcription(
        START,
        gradient,
        20,
        lr=0.1,
        blocks=blocks_of(SHAPES, partition),
        eps=1e-3,
        floor=1e-2,
        update_freq=update_freq,
    )
    # Eigenvalues at the floor amplify round-off, and so does the quadratic, over 20 steps.
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


def test_one_block_is_diagonal_adagrad():
    x = torch.ones(3, 4, dtype=torch.float64, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    ours = AdagradBMA([x], lr=0.1, damping=1e-30, statistics_dtype="float64")
    theirs = torch.optim.Adagrad([y], lr=0.1, eps=1e-15)
    for grad in random_grads(20, 12):
        x.grad, y.grad = grad.view(3, 4), grad.view(3, 4)
        ours.step()
        theirs.step()
    torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)


def test_a_block_an_element_is_its_dense_formula():
    grads = random_grads(30, 8)
    end, _ = stepped(grads, ((8,),), partition="element", lr=1.0, eigenvalue_floor=1e-12)
    x = torch.zeros(8, dtype=torch.float64)
    for t in range(1, 31):
        z = ((grads[:t] ** 2).sum(0) + 1e-3).sqrt()
        H = grads[:t].T @ grads[:t]
        F = torch.eye(8, dtype=torch.float64) + (H - H.diagonal().diag()) / torch.outer(z, z)
        values, Q = torch.linalg.eigh(F)
        root = Q @ (values.clamp(min=1e-12).rsqrt()[:, None] * Q.T)
        x = x - z**-0.5 * (root @ (z**-0.5 * grads[t - 1]))
    # The first steps are nearly singular, eigenvalues 1e-3: round-off grows by 1e5 at most.
    torch.testing.assert_close(end, x, rtol=0, atol=1e-10)


def test_steps_do_not_depend_on_the_scale_in_corrected_but_do_in_printed():
    grads = random_grads(5)
    ratios = {}
    for sums in ("preconditioned", "gradient"):
        ends = [
            stepped(scale * grads, block_sums=sums, damping=1e-30, partition="unit")[0]
            for scale in (1.0, 100.0)
        ]
        ratios[sums] = float((ends[1] - ends[0]).norm() / ends[0].norm())
    assert ratios["preconditioned"] < 1e-12
    assert ratios["gradient"] > 0.5


@pytest.mark.parametrize("seed", range(20))
def test_the_matrix_of_block_means_is_positive_semi_definite(seed):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(20):
        sizes = torch.randint(1, 6, (6,), generator=generator)
        dim, steps = int(sizes.sum()), int(torch.randint(1, 9, (1,), generator=generator))
        like = {"generator": generator, "dtype": torch.float64}
        # Adversarial: gradients of one sign, of few values and of wide range make |sums| reach v.
        grads = 10 ** (3 * torch.randn(steps, 1, **like)) * torch.randn(steps, 1, **like).sign()
        grads = grads * (1 + 0.1 * torch.rand(1, **like) * torch.randn(steps, dim, **like))
        ends = torch.stack([part.sum(1) for part in grads.split(sizes.tolist(), dim=1)], dim=1)
        z = (grads**2).sum(0).sqrt()
        v = torch.stack([part.sum() for part in z.split(sizes.tolist())])
        eigenvalues = second_moment_root(ends.T @ ends, v, sizes.double().sqrt(), 1e-12)[1]
        assert float(eigenvalues[0]) > -1e-13
        assert float(eigenvalues[-1]) <= 6 + 1e-12  # diagonal entries are 1


def test_the_root_grows_old_between_updates_and_says_so():
    grads = random_grads(7)
    optimizer = stepped(grads[:1], update_freq=3)[1]
    ages, roots = [], []
    parts = optimizer.param_groups[0]["params"]
    for t in range(1, 7):
        reference.run_on_parts(optimizer, parts, lambda x, _, t=t: grads[t], 1)
        ages.append(optimizer.spectra()[0].staleness)
        roots.append(optimizer.state["model"]["root"])
    assert ages == [1, 2, 0, 1, 2, 0]
    assert roots[0] is roots[1]
    assert roots[1] is not roots[2]


def test_spectrum_is_that_of_the_block_means():
    grads = random_grads(4)
    optimizer = stepped(grads, partition="unit")[1]
    blocks = blocks_of(SHAPES, "unit")
    u = torch.stack([grads[:, block].sum(1) for block in blocks], dim=1)
    z = ((grads**2).sum(0) + 1e-3).sqrt()
    v = torch.stack([z[block].sum() for block in blocks])
    W = (u.T @ u) / torch.outer(v, v)
    W.fill_diagonal_(1.0)
    (spectrum,) = optimizer.spectra()
    expected = torch.linalg.eigvalsh(W)
    torch.testing.assert_close(spectrum.eigenvalues, expected, rtol=1e-12, atol=1e-14)
    assert (spectrum.kind, spectrum.fallbacks, spectrum.staleness) == ("block_means", 0, 0)
    assert 0 < spectrum.resolution < 1e-13


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e25])
@pytest.mark.parametrize("update_freq", [1, 3])
def test_a_gradient_that_cannot_be_squared_leaves_no_trace_but_a_count(bad, update_freq):
    grads = random_grads(8).float()
    ends = []
    for spoil in (False, True):
        parts = [torch.ones(shape, requires_grad=True) for shape in SHAPES]
        optimizer = AdagradBMA(parts, update_freq=update_freq)
        for t, grad in enumerate(grads):
            if spoil and t in (0, 4):
                reference.run_on_parts(
                    optimizer,
                    parts,
                    lambda x, _, g=grad: g.index_fill(0, torch.tensor([3]), bad),
                    1,
                )
            reference.run_on_parts(optimizer, parts, lambda x, _, g=grad: g, 1)
        ends.append(reference.join(parts))
    assert torch.equal(*ends)
    assert optimizer.spectra()[0].fallbacks == 2


@pytest.mark.parametrize("scale", [0.0, 1e-20, 1e18])
def test_extreme_gradients_give_finite_steps(scale):
    grads = scale * random_grads(3).float()
    parts = [torch.zeros(shape, requires_grad=True) for shape in SHAPES]
    reference.run_on_parts(AdagradBMA(parts), parts, lambda x, t: grads[t], 3)
    end = reference.join(parts)
    assert bool(end.isfinite().all())
    assert bool((end != 0).all()) is (scale != 0)


def test_lr_and_weight_decay_by_group_and_untouched_parameters():
    x, y, z = (torch.ones(2, requires_grad=True) for _ in range(3))
    groups = [{"params": [x]}, {"params": [y, z], "lr": 0.0}]
    optimizer = AdagradBMA(groups, lr=0.1, weight_decay=0.5)
    x.grad, y.grad = torch.zeros(2), torch.ones(2)
    optimizer.step()
    # Zero gradients correlate with nothing: x only decays. y does not move, z has no gradient.
    assert torch.equal(x, torch.full((2,), 0.95))
    assert torch.equal(y, torch.ones(2))
    assert torch.equal(z, torch.ones(2))
    x.grad = torch.ones(2)
    optimizer.param_groups[1]["damping"] = 1.0
    with pytest.raises(ValueError, match="damping must be the same in all groups"):
        optimizer.step()


def test_memory_is_as_the_docstring_says():
    shapes = ((32, 16, 3, 3), (32,), (10, 32), (10,))
    parts = [torch.ones(shape, requires_grad=True) for shape in shapes]
    for part in parts:
        part.grad = torch.ones_like(part)
    optimizer = AdagradBMA(parts, partition="unit")
    optimizer.step()
    d, L = sum(part.numel() for part in parts), 44
    assert len(optimizer.spectra()[0].eigenvalues) == L
    assert state_bytes(optimizer) == 4 * d + 8 * (2 * L * L + L)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"partition": "row"}, "partition must be one of layer, unit, group, element, got row"),
        ({"damping": 0.0}, "damping must be > 0, got 0.0"),
        ({"eigenvalue_floor": 0.0}, r"eigenvalue_floor must be in \(0, 1\], got 0.0"),
        ({"eigenvalue_floor": math.nan}, r"eigenvalue_floor must be in \(0, 1\], got nan"),
        ({"update_freq": 0}, "update_freq must be an integer >= 1, got 0"),
        ({"block_sums": "raw"}, "block_sums must be one of preconditioned, gradient, got raw"),
        ({"statistics_dtype": "bfloat16"}, "statistics_dtype must be one of float32, float64"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        AdagradBMA([torch.ones(1, requires_grad=True)], **options)


def test_what_does_not_fit_is_refused():
    x = torch.ones(5001, requires_grad=True)
    x.grad = torch.ones(5001)
    with pytest.raises(ValueError, match=r"number of blocks must be <= 5000.*got 5001"):
        AdagradBMA([x], partition="element").step()
    optimizer = AdagradBMA([x])
    optimizer.step()
    with pytest.raises(ValueError, match="groups must be added before the first step"):
        optimizer.add_param_group({"params": [torch.ones(1, requires_grad=True)]})
    with pytest.raises(ValueError, match="statistic's length must be 3, as the model, got 5001"):
        AdagradBMA([torch.ones(3, requires_grad=True)]).load_state_dict(optimizer.state_dict())


def test_the_residual_is_that_of_the_root_in_use():
    grads = random_grads(6)
    exact = stepped(grads, partition="unit", update_freq=4)[1]
    # Two products of a float64 decomposition, raised eigenvalues of 1e-2 and above.
    assert 0 < exact.spectra()[0].root_residual < 1e-12
    single = stepped(grads, partition="unit", update_freq=4, root_dtype="float32")[1]
    assert 1e-8 < single.spectra()[0].root_residual < 1e-4
    exact.state["model"]["root"] *= 1.1
    assert exact.spectra()[0].root_residual > 1e-2


def test_single_precision_roots_stay_close_and_take_half_the_memory():
    grads = random_grads(20)
    end, optimizer = stepped(grads, partition="unit", lr=0.1)
    other, single = stepped(grads, partition="unit", lr=0.1, root_dtype="float32")
    # eps of float32, 6e-8, over the floor of 1e-2 on the eigenvalues.
    torch.testing.assert_close(other, end, rtol=1e-4, atol=1e-5)
    assert not torch.equal(other, end)
    L = len(blocks_of(SHAPES, "unit"))
    assert state_bytes(optimizer) - state_bytes(single) == 4 * L * L
    assert single.state["model"]["root"].dtype == torch.float32


def test_work_space_is_no_state_and_is_made_again_in_a_copy():
    grads = random_grads(6)
    parts = reference.split(torch.zeros(DIM, dtype=torch.float64), SHAPES)
    optimizer = AdagradBMA(parts, **EXACT)
    reference.run_on_parts(optimizer, parts, lambda x, t: grads[t], 3)
    twin = copy.deepcopy(optimizer)
    copied = twin.param_groups[0]["params"]
    reference.run_on_parts(twin, copied, lambda x, t: grads[3 + t], 3)
    reference.run_on_parts(optimizer, parts, lambda x, t: grads[3 + t], 3)
    assert torch.equal(reference.join(parts), reference.join(copied))
    ours, theirs = (o.state["model"]["sum_of_squares"] for o in (optimizer, twin))
    assert torch.equal(ours, theirs) and ours.data_ptr() != theirs.data_ptr()


@pytest.mark.parametrize("bad", [False, True])
def test_the_number_of_threads_is_set_back(bad):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        stepped(random_grads(1).fill_(math.nan if bad else 1.0))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
