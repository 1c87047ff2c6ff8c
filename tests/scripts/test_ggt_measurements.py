"""The measurements of the GGT paper: their references, and what their rows mean."""

import itertools
import math

import pytest
import torch

from scripts.measurements import (
    ggt_algebra,
    ggt_landscapes,
    ggt_models,
    ggt_timing,
    ggt_window,
)
from scripts.measurements.kit import gaussian
from tasks.logistic import logistic_derivatives

original = ggt_algebra.cases


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def largest(rows, **where):
    chosen = [r["value"] for r in rows if all(r[key] == value for key, value in where.items())]
    assert chosen
    return max(chosen)


def least(rows, **where):
    return -largest([{**r, "value": -r["value"]} for r in rows], **where)


def test_dense_reference_is_the_formula():
    G = torch.diag(torch.tensor([3.0, 0.5, 0.0], dtype=torch.float64))
    v = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    eps = ggt_algebra.DAMPING
    expected = v / (torch.tensor([3.0, 0.5, 0.0], dtype=torch.float64) + eps)
    torch.testing.assert_close(ggt_algebra.dense(G, v), expected)


def test_low_rank_root_holds_in_one_reading_only(monkeypatch):
    monkeypatch.setattr(ggt_algebra, "NUM_CASES", 10)
    rows = ggt_algebra.low_rank()
    assert {r["case"] for r in rows} == set(ggt_algebra.SHAPES)
    # The Gram matrix squares G's condition number: up to 1e6 x the round-off of 1e-16.
    assert largest(rows, reading="optimizer") < 1e-9
    assert largest(rows, reading="U = G V S^-1") < 1e-9
    assert least(rows, reading="U = G V S^-1/2") > 0.1


def test_diagonal_is_a_recursion_with_the_square_of_beta2(monkeypatch):
    monkeypatch.setattr(ggt_algebra, "NUM_CASES", 3)
    rows = ggt_algebra.diagonal()
    assert max(largest(rows, case="unnormalised"), largest(rows, case="RMSprop")) < 1e-12
    assert least(rows, case="decay beta2") > 0.1
    # 1 / (1 - beta2^2) of the average, less the average, over the average
    assert least(rows, case="with 1 - beta2") == pytest.approx(1 / 0.19 - 1)


def test_second_moments_are_read_off_the_optimizer():
    gradients = torch.tensor([3.0, 1.0, 2.0], dtype=torch.float64)
    expected = 0.5**4 * 9 + 0.5**2 * 1 + 4
    assert float(ggt_algebra.second_moment(gradients, 0.5)) == pytest.approx(expected)


def test_a_ridge_counts_more_where_gradients_are_small(monkeypatch):
    monkeypatch.setattr(ggt_algebra, "cases", lambda count: list(original(2)))
    rows = ggt_algebra.ridge()
    norms = [largest(rows, case=f"norm {norm}") for norm in ("1", "0.1", "0.01")]
    # A change of s by ridge / 2s, relative to s: a hundredfold for a tenth of the norm.
    assert norms[1] / norms[0] == pytest.approx(100, rel=0.1)
    assert norms[2] / norms[1] == pytest.approx(100, rel=0.1)
    # What the gradients share makes them large, and the window's other directions are not.
    assert norms[0] < least(rows, case="ill-conditioned")


def test_a_trained_windows_ridge_is_that_of_the_formula(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    G = torch.linalg.qr(gaussian(30, 4, generator=generator))[0] * torch.tensor([4.0, 2, 1, 0.5])
    monkeypatch.setattr(ggt_window, "trained_windows", lambda counts: [(7, G)])
    rows = ggt_window.ridge_trained()
    assert {r["seed"] for r in rows} == {7}
    assert largest(rows, case="condition") == pytest.approx(64)
    assert largest(rows, case="norm") == pytest.approx(0.5)
    # v has one singular value s, and U enters twice with 1 / q, q^2 = s^2 + ridge.
    s, q, eps = 0.5, (0.25 + 1e-6) ** 0.5, 1e-4
    expected = 1 - (s / q) ** 2 * (s + eps) / (q + eps)
    assert largest(rows, case="step") == pytest.approx(expected, rel=1e-6)


def test_the_way_to_sgd(monkeypatch):
    monkeypatch.setattr(ggt_algebra, "cases", lambda count: list(original(1)))
    rows = ggt_algebra.sgd_limit()
    distances = [r["value"] for r in rows if r["case"] == "distance"]
    # What GGT adds falls as 1/s.
    for first, second in itertools.pairwise(distances[1:]):
        assert first / second == pytest.approx(100, rel=0.05)
    assert largest(rows, case="outside") < 1e-12


def test_rotations_turn_full_methods_with_them(monkeypatch):
    monkeypatch.setattr(ggt_landscapes, "cases", lambda count: list(original(2)))
    rows = ggt_landscapes.rotation()
    # 60 steps through eigendecompositions of matrices of condition up to 1e6
    assert max(largest(rows, case=name) for name in ("sgd", "ggt", "full_adagrad")) < 1e-8
    assert min(least(rows, case=name) for name in ("adagrad", "rmsprop", "adam")) > 0.1


def test_hessians_of_isotropic_data_without_signal_change_by_a_factor():
    generator = torch.Generator().manual_seed(0)
    inputs = gaussian(40_000, 3, generator=generator)
    labels = torch.where(torch.rand(40_000, generator=generator) < 0.5, 1.0, -1.0).double()
    first, last = ggt_landscapes.hessian_pair(logistic_derivatives, inputs, labels)
    # The optimum is 0 up to the sampling error of 1/200, at which the Hessian is X'X/4n.
    torch.testing.assert_close(first, last, rtol=0.01, atol=0.003)
    torch.testing.assert_close(first, inputs.T @ inputs / len(inputs) / 4)


def test_excess_of_a_run_that_does_not_move_and_of_one_that_blows_up():
    ((_, (inputs, labels)),) = ggt_landscapes.instances("logistic", 1)
    make = ggt_landscapes.MAKERS["sgd"]
    start = ggt_landscapes.excess(make, 0.0, inputs, labels, 0)
    moved = ggt_landscapes.excess(make, 0.3, inputs, labels, 0)
    assert 0 < moved < start < math.log(2)
    assert ggt_landscapes.excess(make, 1e308, inputs, labels, 0) == math.inf


def test_memory_grows_with_d_and_r_and_the_dense_matrix_takes_800_mb():
    rows = ggt_models.memory()
    assert largest(rows, case="slope in d") == pytest.approx(1, abs=0.02)
    assert largest(rows, case="slope in r") == pytest.approx(1, abs=0.02)
    # 8 (d^2 + 3 d) bytes, as full AdaGrad's docstring says
    assert largest(rows, case="dense", d=10_000) == pytest.approx(8 * (10_000**2 + 3 * 10_000))


def test_parameters_of_the_papers_models():
    rows = ggt_models.models()
    assert largest(rows, case="shake_shake") == 2_923_162


def test_a_full_window_is_one():
    optimizer = ggt_timing.full_ggt(500, 4)
    state = optimizer.state["window"]
    found = state["rows"].double() @ state["rows"].double().T
    # Products of independent normal vectors of length 500 scatter by sqrt(500).
    torch.testing.assert_close(state["gram"], found, atol=5 * 500**0.5, rtol=0)
    optimizer.step()
    assert state["count"] == 5


def test_growth_gives_an_exponent_a_turn():
    calls = []
    rows = ggt_timing.growth({1: lambda: calls.append(1), 2: lambda: calls.append(2)}, "slope in d")
    slopes = [r for r in rows if r["case"] == "slope in d"]
    assert [r["seed"] for r in slopes] == list(range(9))
    assert {(r["d"], r["r"]) for r in rows if r["case"] == "ggt"} == {(1, 50), (2, 50)}
    assert calls.count(1) == calls.count(2) == 10


def test_svd_ways_span_the_same(monkeypatch):
    monkeypatch.setattr(ggt_timing, "SVD_DIM", 300)
    kept = {}

    def in_turns(functions, turns, **labels):
        kept[labels["r"]] = {name: function() for name, function in functions.items()}
        return []

    monkeypatch.setattr(ggt_timing, "in_turns", in_turns)
    ggt_timing.svd()
    for r, bases in kept.items():
        assert bases["gram"].shape == bases["svd"].shape == (300, r)
        overlap = bases["gram"].T @ bases["svd"]
        # float32, and a Gram matrix of condition about 30
        torch.testing.assert_close(overlap @ overlap.T, torch.eye(r), atol=1e-3, rtol=0)


def test_losses_of_the_timed_iterations_have_gradients(monkeypatch):
    model = torch.nn.Embedding(7, 5)
    task = type("Task", (), {"vocab_size": 5, "bptt": 3, "batch_size": 2})
    loss = ggt_timing.text_loss(task, lambda symbols, state: (model(symbols), state))
    loss().backward()
    assert model.weight.grad.abs().sum() > 0
