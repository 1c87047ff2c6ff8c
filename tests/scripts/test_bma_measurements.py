"""Measurements of the AdaGrad-BMA paper: their references on cases with known answers."""

import math

import pytest
import torch

from optimizers.linalg import block_mean
from scripts.measurements import (
    bma_algebra,
    bma_models,
    bma_newton,
    bma_plane,
    bma_steps,
    bma_times,
    kit,
)
from scripts.measurements.bma_approximations import approximations, kronecker, of_blocks

SHAPES = [torch.Size([3, 2, 2]), torch.Size([3])]


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


# ---------------------------------------------------------------- algebra


def test_the_least_squares_solve_leaves_a_block_mean_matrix_as_it_is(generator):
    sizes = torch.tensor([2.0, 1.0, 3.0], dtype=torch.float64)
    diagonal, constants = bma_algebra.positive_definite(sizes, generator)
    dense = block_mean.dense(diagonal, constants, sizes)
    assert kit.least_eigenvalue(dense) > 0
    # A dense solve of 36 equations in 12 unknowns, in float64.
    assert kit.relative_error(bma_algebra.least_squares(dense, sizes), dense) < 1e-13


def test_a_random_partition_holds_all_values(generator):
    for _ in range(20):
        assert int(bma_algebra.random_partition(24, generator).sum()) == 24


# ---------------------------------------------------------------- other approximations


def test_each_kind_reproduces_a_matrix_of_its_kind(generator):
    a, b = kit.random_spd(3, 5, generator), kit.random_spd(4, 5, generator)
    bias = kit.random_spd(3, 5, generator)
    matrix = torch.block_diag(torch.kron(a, b), bias)
    stored, found = kronecker(matrix, SHAPES)
    assert stored == 6 + 10 + 6
    # Products of numbers below 1 and one singular value decomposition, in float64.
    assert kit.relative_error(found, matrix) < 1e-14
    named = {name: (count, value) for name, count, value in approximations(matrix, SHAPES)}
    assert torch.equal(named["diagonal blocks, layer"][1], matrix)
    assert torch.equal(named["diagonal"][1], torch.diag(matrix.diagonal()))
    assert [named[f"block means, {p}"][0] for p in ("layer", "unit", "group")] == [5, 14, 35]


def test_diagonal_blocks_are_cut_where_the_sizes_say():
    matrix = torch.arange(16.0).view(4, 4)
    found = of_blocks(matrix, [1, 3])
    assert torch.equal(found[1:, 1:], matrix[1:, 1:])
    assert float(found[0, 0]) == 0.0
    assert not found[0, 1:].any()
    assert not found[1:, 0].any()


# ---------------------------------------------------------------- steps


def test_the_reference_of_diagonal_adagrad():
    steps = bma_steps.diagonal_adagrad([torch.tensor([3.0]), torch.tensor([4.0])])
    torch.testing.assert_close(steps, torch.tensor([[-1.0], [-0.8]]))


def test_adversarial_gradients_reach_the_edge(monkeypatch):
    """Aligned and opposed ones make W singular: a weaker set would not test the bound."""
    monkeypatch.setattr(bma_steps, "NUM_ADVERSARIAL", 20)
    rows = bma_steps.least_eigenvalues()
    for kind in ("aligned", "opposed"):
        # Singular up to the round-off of sums of at most 66 numbers.
        assert max(map(abs, column(rows, case="scaled", kind=kind))) < 1e-13
    assert min(column(rows, case="unscaled")) < -1


def test_written_numbers_are_counted_and_views_are_not():
    a = torch.zeros(4, 5)
    with bma_steps.Written() as written:
        a.view(20)
        a + 1
    assert written.count == 20


# ---------------------------------------------------------------- the plane and Newton


def test_line_search_is_at_its_worst_from_the_tasks_start():
    Q = bma_plane.quadratic()
    torch.testing.assert_close(Q, torch.tensor([[1.0, -0.8], [-0.8, 1.0]], dtype=torch.float64))
    ratios = bma_plane.ratios(Q, torch.tensor([1.0, 0.8], dtype=torch.float64), 3)
    assert ratios == pytest.approx([0.64] * 3, rel=1e-9)  # a search to 1e-12 of the slope


def test_a_target_that_is_not_reached_is_infinite():
    start = torch.tensor([1.0, 0.0], dtype=torch.float64)
    slow = bma_plane.num_steps(bma_plane.METHODS["diag"], 1e-9, bma_plane.quadratic(), start)
    assert slow == math.inf


def test_orders_of_sequences_that_are_known():
    squares = [10.0 ** -(2**k) for k in range(4)]
    halves = [2.0**-k for k in range(10)]
    assert kit.log_slope(squares[:-1], squares[1:]) == pytest.approx(2)
    assert kit.log_slope(halves[:-1], halves[1:]) == pytest.approx(1)


def test_newton_ends_where_errors_are_round_off(monkeypatch):
    monkeypatch.setattr(bma_newton, "NUM_INSTANCES", 1)
    rows = bma_newton.orders()
    assert column(rows, case="newton", name="num_errors")[0] >= 3


# ---------------------------------------------------------------- models


def test_counts_of_table_3_and_the_one_architecture():
    rows = bma_models.counts()
    assert column(rows, case="parameters") == [322, 466, 139_370, 140_906]
    assert column(rows, "num_convs", case="architecture", fits=True) == [16]
    assert column(rows, "num_pools", case="architecture", fits=True) == [4]
    assert len(column(rows, case="architecture")) == 29 * 6


# ---------------------------------------------------------------- times


def test_each_method_is_timed_in_each_turn_whole_and_by_its_step(monkeypatch):
    monkeypatch.setattr(bma_times, "COMPARED", {"small": ("diag", "bma", "full")})
    monkeypatch.setattr(bma_times, "NUM_TURNS", {"small": 2})
    monkeypatch.setattr(bma_times, "NUM_CALLS", 1)
    rows = bma_times.iterations()
    places = [(row["part"], row["case"], row["seed"]) for row in rows]
    assert len(places) == len(set(places)) == 2 * 3 * 2
    assert min(column(rows)) > 0


def test_a_slope_is_that_of_its_turns_times(monkeypatch):
    sizes = {size: (lambda: None) for size in (2, 4, 8)}
    monkeypatch.setattr(bma_times, "scaled_functions", lambda: {"step, d": sizes})
    rows = bma_times.scaling()
    for turn in range(bma_times.NUM_SCALING_TURNS):
        times = {row["size"]: row["value"] for row in rows if row["seed"] == turn}
        slope = times.pop(None)
        assert slope == pytest.approx(kit.log_slope(list(times), list(times.values())))
