"""Measurements of the NG+ paper: their references on cases with known answers."""

import math
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, local

import pytest
import torch

from scripts.measurements import (
    kit,
    ngplus_algebra,
    ngplus_gaussian,
    ngplus_layers,
    ngplus_parallel,
    ngplus_storage,
    ngplus_theory,
    ngplus_times,
)
from tasks.models.resnet_cifar import ResNetCIFAR


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def column(rows, name="value", **where):
    return [row[name] for row in rows if all(row.get(k) == v for k, v in where.items())]


# ---------------------------------------------------------------- equations


def test_least_squares_solves_the_normal_equations(generator):
    U = kit.gaussian(7, 3, generator=generator)
    G = kit.gaussian(7, 2, generator=generator)
    Y = ngplus_algebra.least_squares(U, G, 0.3)
    residual = U.T @ (U @ Y - G) + 0.3 * Y
    assert residual.abs().max() < 1e-13  # float64, entries of order 1


def test_per_sample_gradients_of_a_squared_error(generator):
    layer, inputs, targets = ngplus_algebra.linear_layer(3, 4, 5, generator)
    found = ngplus_algebra.per_sample_gradients(layer, inputs, targets)
    residuals = 2 * (inputs @ layer.weight.detach().T - targets)
    torch.testing.assert_close(found, residuals[:, :, None] * inputs[:, None, :])


def test_printed_forms_keep_their_counterexamples():
    rows = ngplus_algebra.low_rank()
    assert max(column(rows, case="inverse", reading="printed")) > 1
    assert min(column(rows, case="least squares", reading="printed")) > 0.5
    # Dense float64 inverses of matrices with damping down to 0.01.
    assert max(column(rows, reading="corrected")) < 1e-10


def test_the_sketch_with_each_row_once_is_exact_and_others_are_not():
    rows = ngplus_algebra.sketched()
    assert max(column(rows, replacement=False)) < 1e-13
    assert min(column(rows, replacement=True)) > 0.01


def test_row_sampling_notices_a_bias(monkeypatch):
    fair = ngplus_algebra.row_sampling()
    assert max(column(fair, case="diagonal")) < 3

    def biased(count, size, *counters):
        generator = torch.Generator().manual_seed(counters[0])
        return torch.randint(count - 1, (size,), generator=generator)

    monkeypatch.setattr(ngplus_algebra, "draw_rows", biased)
    assert min(column(ngplus_algebra.row_sampling(), case="diagonal")) > 3


# ---------------------------------------------------------------- proofs and tables


def test_the_step_bound_leaves_nothing_as_printed():
    rows = ngplus_theory.step_bound()
    assert column(rows, reading="printed") == [0]
    assert column(rows, reading="corrected") == [1]
    # Whatever the constants are, in exact arithmetic.
    assert {ngplus_theory.share(2, *constants) for constants in ((1, 2, 3), (5, 7, 2))} == {0}
    assert ngplus_theory.share(1, 5, 7, 2) == 1


def test_the_potential_with_n_fails_where_there_are_more_rows():
    rows = ngplus_theory.potential()
    assert all(
        (row["value"] < 0) == (row["m"] > row["n"]) for row in rows if row["reading"] == "printed"
    )
    assert min(column(rows, case="first")) >= 0
    assert min(column(rows, reading="corrected")) >= 0


def test_the_example_is_tight():
    rows = ngplus_theory.example()
    assert min(column(rows)) >= -1e-10
    assert min(column(rows, "doubled")) < -0.1


def test_tables_agree_and_a_wrong_number_does_not():
    assert max(column(ngplus_theory.tables())) <= 1
    assert ngplus_theory.printed("hours", "SGD", 11.2, 10.9, 0.1)["value"] == pytest.approx(6)


# ---------------------------------------------------------------- storage, layers, processes


def test_statistics_are_those_of_the_gradients(generator):
    layer = torch.nn.Linear(3, 2, bias=False, dtype=torch.float64)
    optimizer = ngplus_storage.NGPlus(
        layer.parameters(), model=layer, lr=0.0, statistic="minibatch", beta2=1.0, gamma=1.0,
        initial=0.1, statistics_dtype="float64",
    )  # fmt: skip
    total = 0.1 * torch.eye(2, dtype=torch.float64)
    for _ in range(3):
        layer.weight.grad = kit.gaussian(2, 3, generator=generator)
        total = total + layer.weight.grad @ layer.weight.grad.T
        optimizer.step()
    (kept,) = [t for _, quantity, t in optimizer.matrices() if quantity == "statistic"]
    torch.testing.assert_close(kept[0], total)


@pytest.mark.parametrize(
    ("method", "count"),
    [("ng_plus", 9), ("ng_plus_authors", 25), ("kfac", 34), ("shampoo", 34)],
)
def test_numbers_kept_of_a_tall_layer(method, count):
    assert ngplus_storage.numbers_kept(method, 5, 3) == {"statistic": count, "root": count}


def test_inverses_of_blocks_cost_the_square_of_their_number_less():
    # Of k rows k^3 by Cholesky: (k^3 + 2 k^3) / 3; two products of 2 (8 x 9 x 8) operations.
    assert ngplus_storage.operations(8, 9, None) == (8**3, 4 * 8 * 9 * 8)
    assert ngplus_storage.operations(8, 9, 2) == (4 * 2**3, 4 * 8 * 9 * 2)


def test_comparison_is_exact_where_efim_is_a_kronecker_product(generator):
    """One sample g e_j^T for every g and column j: EFIM = I (x) L / n."""
    m, n = 3, 4
    g = kit.gaussian(6, m, generator=generator)
    samples = torch.einsum("im,jk->ijmk", g, torch.eye(n, dtype=torch.float64)).flatten(0, 1)
    found = ngplus_layers.comparison(samples, 0.1)
    # Dense float64 solves of 12 equations.
    assert found["normalised"] == pytest.approx(1, abs=1e-12)
    assert found["error_normalised"] < 1e-13
    assert found["printed"] < 1 - 1e-6
    transposed = ngplus_layers.comparison(samples.mT, 0.1)
    assert transposed["plain"] == pytest.approx(found["plain"], abs=1e-12)


def test_gaussian_statistics_of_known_matrices():
    eye = torch.eye(ngplus_gaussian.SIZE, dtype=torch.float64)
    rows = ngplus_gaussian.statistics(200 * eye, eye)
    assert column(rows, case="diagonal") == [199.0]
    assert column(rows, case="off-diagonal") == [0.0]
    assert column(rows, case="within three") == [1.0]
    # A shift of every entry off the diagonal by a standard error of one is 141 of the mean.
    shifted = eye + (1 - eye) * ngplus_gaussian.NUM_MATRICES**-0.5
    (value,) = column(ngplus_gaussian.statistics(shifted, eye), case="off-diagonal")
    assert value == pytest.approx(math.sqrt(200 * 199 / 2))


@pytest.mark.parametrize(("form", "calls"), [("samples", 3), ("minibatch", 0)])
def test_two_that_share_a_batch_do_what_one_does(form, calls, monkeypatch):
    """Threads instead of processes: the sum waits for both."""
    barrier, given, ranks = Barrier(2, timeout=20), {}, local()

    def all_reduce(tensor):
        given[ranks.value] = tensor.clone()
        barrier.wait()
        total = given[0] + given[1]
        barrier.wait()
        tensor.copy_(total)

    def run(rank):
        ranks.value = rank
        return ngplus_parallel.train(form, rank, 2)

    monkeypatch.setattr(ngplus_parallel.dist, "all_reduce", all_reduce)
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(run, (0, 1)))
    alone, _ = ngplus_parallel.train(form, 0, 1)
    for found, counts in both:
        # Float64 sums in another order, over twelve steps.
        torch.testing.assert_close(found, alone, rtol=1e-10, atol=1e-12)
        assert (counts.get("curvature", 0), counts["gradient"]) == (calls, 12)


@pytest.mark.parametrize("form", ["samples", "minibatch"])
def test_training_on_one_process_communicates_nothing(form):
    (weights, L), counts = ngplus_parallel.train(form, 0, 1)
    assert counts == {}
    assert torch.isfinite(weights).all()
    assert kit.least_eigenvalue(L) > 0


# ---------------------------------------------------------------- timings


def test_timed_layers_are_those_of_the_network():
    shapes = Counter(
        (len(weight), weight[0].numel())
        for weight in ResNetCIFAR(32, 10).parameters()
        if weight.ndim > 1
    )
    assert shapes == {(m, n): count for (m, n, _), count in ngplus_times.RESNET32.items()}


def test_parts_of_a_layer_compute_what_they_are_called(generator):
    activations = kit.gaussian(4, 5, 3, generator=generator)
    deltas = kit.gaussian(4, 5, 2, generator=generator)
    parts = ngplus_times.parts(activations, deltas)
    samples = deltas.mT @ activations
    gram = (samples @ samples.mT).sum(0)
    torch.testing.assert_close(parts["construction"]["ng_plus"](), gram)
    inverse = parts["roots"]["ng_plus"]().inverse
    expected = torch.linalg.inv(gram / ngplus_times.BATCH + 0.16 * torch.eye(2).double())
    torch.testing.assert_close(inverse, expected)


@pytest.mark.parametrize("method", ["sgd", "lars", "kfac", "ng_plus"])
def test_a_timed_step_trains(method, generator):
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))
    before = model[1].weight.detach().clone()
    x = kit.gaussian(4, 3, 2, 2, generator=generator, dtype=torch.float32)
    ngplus_times.stepper(method, model, x, torch.tensor([0, 1, 2, 0]))()
    assert not torch.equal(model[1].weight, before)
