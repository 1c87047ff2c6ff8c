"""Measurements of regret, of mu and of critical points: their arithmetic on tiny problems."""

import math
from functools import partial

import pytest
import torch

from optimizers import FullMatrixAdagrad, Shampoo
from scripts.measurements import (
    online_critical,
    online_kit,
    online_newton,
    online_ratio,
    online_regret,
    online_speed_up,
)
from tasks.streams import STREAMS


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def halves(t, points):
    """|x|^2 / 2 of each problem."""
    return points.square().flatten(1).sum(1) / 2, points.clone()


def test_play_by_hand():
    start = torch.tensor([[4.0], [8.0]], dtype=torch.float64)
    played = online_kit.play(
        halves, partial(torch.optim.SGD, lr=0.5), start, 3,
        keep_points=True, at=[2], note=lambda optimizer, points: points.clone(),
    )  # fmt: skip
    assert played.points[:, :, 0].tolist() == [[4, 8], [2, 4], [1, 2]]
    assert played.losses.tolist() == [[8, 32], [2, 8], [0.5, 2]]
    assert played.squares.tolist() == [[16, 64], [20, 80], [21, 84]]
    assert played.noted.keys() == {2}
    assert played.noted[2].tolist() == [[1], [2]]
    assert start.tolist() == [[4], [8]]


def test_play_with_falling_rates():
    start = torch.tensor([[8.0]], dtype=torch.float64)
    played = online_kit.play(
        halves, partial(torch.optim.SGD, lr=0.5), start, 3, keep_points=True, power=1.0
    )
    # Rates 1/2 and 1/4.
    assert played.points.flatten().tolist() == [8, 4, 3]


def test_the_rate_is_the_one_of_least_mean_and_finite():
    scores = {0.1: [1.0, 3.0], 0.2: [1.0, 1.5], 0.3: [0.0, math.inf]}
    assert online_kit.tuned(scores.__getitem__, list(scores)) == 0.2
    with pytest.raises(ValueError, match="no rate"):
        online_kit.tuned(lambda lr: [math.inf], [0.1])


def test_problems_do_not_meet():
    generator = torch.Generator().manual_seed(0)
    grads = torch.randn(6, 3, 4, 1, dtype=torch.float64, generator=generator)

    def oracle(t, points):
        return points.sum((1, 2)), grads[t]

    start = torch.zeros(3, 4, 1, dtype=torch.float64)
    make = partial(online_ratio.Apart, cls=FullMatrixAdagrad, lr=0.1)
    together = online_kit.play(oracle, make, start, 6, keep_points=True)
    for index in range(3):
        alone = online_kit.play(
            lambda t, points, i=index: (points.sum((1, 2)), grads[t, i : i + 1]),
            partial(FullMatrixAdagrad, lr=0.1), start[:1], 6, keep_points=True,
        )  # fmt: skip
        assert torch.equal(alone.points[:, 0], together.points[:, index])


def test_inverse_traces_of_shampoo_by_hand():
    weight = torch.nn.Parameter(torch.zeros(2, 2, dtype=torch.float64))
    optimizer = Shampoo([weight], lr=0.1, damping=1e-12, **online_regret.PLAIN)
    weight.grad = torch.tensor([[2.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    optimizer.step()
    # S = diag(4, 1) on both sides, B^1/2 = S^1/4; damping of 1e-12 moves the fourth digit of none.
    found = online_regret.inverse_traces(optimizer, weight)
    assert found.tolist() == pytest.approx([(math.sqrt(2) + 1) ** 2], rel=1e-9)


def test_regret_is_what_was_paid_above_the_comparator(monkeypatch):
    monkeypatch.setattr(online_regret, "RATES", (0.2,))
    rows = online_regret.regret(("box",), ("shampoo",), 200, (0, 1))
    by = {(r["seed"], r["quantity"], r["horizon"]): r["value"] for r in rows}
    (stream,) = online_regret.drawn("box", 200, [1])
    weight = torch.nn.Parameter(torch.zeros(8, 4, dtype=torch.float64))
    optimizer = Shampoo([weight], lr=0.2, **online_regret.PLAIN)
    paid = 0.0
    for inputs, target in zip(stream.inputs, stream.targets, strict=True):
        loss, grad = STREAMS["box"].loss(weight.detach(), inputs, target)
        paid += loss.item()
        weight.grad = grad
        optimizer.step()
    best = STREAMS["box"].best(stream, 1.0)
    least = STREAMS["box"].loss(best, stream.inputs, stream.targets)[0].sum().item()
    # 1e-9: the batched roots are those of single ones up to round-off.
    assert by[1, "regret", 200] == pytest.approx(paid - least, rel=1e-9)
    assert all(0 < r["value"] < 1 for r in rows if r["quantity"] == "bound_ratio")
    slope = math.log(by[0, "regret", 200] / by[0, "regret", 100]) / math.log(2)
    assert by[0, "slope", 200] == pytest.approx(slope)


@pytest.mark.parametrize("name", online_ratio.RADII)
def test_minimisers_of_the_sums_are_minimisers(name):
    problem = online_ratio.Sum(name, 4, (0, 1), 50)
    assert problem.gap(0, problem.best[0]) == 0
    generator = torch.Generator().manual_seed(5)
    for _ in range(20):
        shift = torch.randn(4, 1, dtype=torch.float64, generator=generator)
        # -1e-12: rounding of a mean of 2000 losses.
        assert problem.gap(1, problem.best[1] + 0.1 * shift) > -1e-12


def test_mu_by_hand(monkeypatch):
    monkeypatch.setattr(online_ratio, "RATES", (0.1,))
    rows = online_ratio.ratios(("box",), 200, dim=4, seeds=(0,), tuning_steps=20)
    assert {row["method"] for row in rows} == {"adagrad", "full_adagrad"}
    problem = online_ratio.Sum("box", 4, (0,), 200)
    start = torch.zeros_like(problem.best)
    make = partial(torch.optim.Adagrad, lr=0.1)
    played = online_kit.play(problem.oracle, make, start, 200, keep_points=True)
    regret = (played.losses.sum(0) - problem.paid_by_best(200)[-1]).item()
    expected = regret / (problem.best[0].norm().item() * math.sqrt(played.squares[-1].item()))
    (found,) = (
        row["value"]
        for row in rows
        if row["quantity"] == "regret_ratio" and (row["method"], row["horizon"]) == ("adagrad", 200)
    )
    assert found == pytest.approx(expected, rel=1e-12)


def test_the_online_method_stays_in_its_ball_and_below_its_bound():
    rows = online_newton.log_regret(200)
    assert all(0 < r["value"] < 1 for r in rows if r["quantity"] == "bound_ratio")
    weight = torch.nn.Parameter(torch.zeros(8, 4, dtype=torch.float64))
    optimizer = online_newton.online([weight])
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        weight.grad = 10 * torch.randn(8, 4, dtype=torch.float64, generator=generator)
        optimizer.step()
        # The multiplier of the projection is found to a relative 1e-6 or better.
        assert weight.norm().item() <= 1 + 1e-6
    assert weight.norm().item() > 0.9


def test_growth_of_logarithmic_regret_and_of_a_root():
    steps = [1000, 2000, 5000, 10000]
    assert online_newton.growth_of([(k, 8 * math.log(k) - 36) for k in steps]) == pytest.approx(0)
    # The root adds its half power, less what the unequal spacing of the horizons moves.
    assert online_newton.growth_of([(k, k**0.5) for k in steps]) == pytest.approx(0.5, abs=0.01)
    assert math.isnan(online_newton.growth_of([(1000, 1.0), (2000, 2.0)]))


def test_weights_of_the_first_term_grow_as_a_power_of_the_steps(monkeypatch):
    monkeypatch.setattr(online_critical, "BETAS", (0.75,))
    rows = online_critical.robbins_monro(200)
    by = {(row["quantity"], row["seed"]): row["value"] for row in rows}
    # Between 100 and 200 steps the sum is exactly k^beta over the first step.
    assert by["telescoped", 0] == pytest.approx(0.75, rel=1e-12)
    assert all(by["least", seed] < 0.5 for seed in online_critical.SEEDS)
    assert all(by["slope", seed] < 0 for seed in online_critical.SEEDS)


def test_the_gradient_of_the_regression_is_its_own():
    problem = online_critical.Regression()
    for layer in problem.layers:
        torch.nn.init.constant_(layer.weight, 0.1)
    weight, value = problem.layers[0].weight, problem.loss()
    (grad,) = torch.autograd.grad(value, [weight])
    assert problem.norms()[0] == pytest.approx(grad.norm().item())
    with torch.no_grad():
        weight[0, 0] += 1e-6
    # Second derivatives of order 1 times the step.
    assert (problem.loss() - value).item() / 1e-6 == pytest.approx(grad[0, 0].item(), abs=1e-5)


def test_calls_grow_as_the_level_falls(monkeypatch):
    monkeypatch.setattr(online_critical, "MOST_CALLS", 800)
    calls = online_critical.first_calls(0.03, 20, seed=0)
    assert calls == sorted(calls)
    assert 0 < calls[0] < math.inf


def test_steps_to_the_target_of_the_speed_up(monkeypatch):
    rotations, curvature, optima, _ = online_speed_up.instances(8, 0)
    eyes = torch.eye(8).double().expand(online_speed_up.COPIES, 8, 8)
    torch.testing.assert_close(rotations @ rotations.mT, eyes, rtol=0, atol=1e-12)
    assert curvature.max() == 1 and curvature.min().item() == pytest.approx(8**-0.75)
    assert optima.norm(dim=1).tolist() == pytest.approx([math.sqrt(8)] * len(optima))
    monkeypatch.setattr(online_speed_up, "NOISE", 0.0)
    monkeypatch.setattr(online_speed_up, "SHORTEST", 5)
    # Without noise SGD multiplies each coordinate by 1 - lr h: f <= f(0) / 10 by a known step.
    away, step = torch.ones(8, dtype=torch.float64), 0
    values = [(curvature * away.square()).sum().item()]
    while step < 5 or torch.tensor(values)[-max(5, round(step / 10)) :].mean() > values[0] / 10:
        away = away * (1 - 0.25 * curvature)
        values.append((curvature * away.square()).sum().item())
        step += 1
    assert online_speed_up.steps_to_target(torch.optim.SGD, 0.25, 8, 0) == step
    assert online_speed_up.steps_to_target(torch.optim.SGD, 0.25, 8, 0, step - 1) == math.inf


def test_the_rate_of_fewest_steps_is_found_whatever_is_broken_off(monkeypatch):
    asked = []

    def steps_to_target(cls, lr, dim, seed, most):
        asked.append((lr, most))
        steps = {1.0: 90, 2.0: 40, 4.0: 30, 8.0: 500}[lr]
        return steps if steps <= most else math.inf

    monkeypatch.setattr(online_speed_up, "steps_to_target", steps_to_target)
    assert online_speed_up.fewest(None, [1.0, 2.0, 4.0, 8.0], 4) == 4.0
    # From the middle of the grid outwards; no run is longer than that of the best rate so far.
    assert asked == [(4.0, online_speed_up.MOST_STEPS), (2.0, 30), (8.0, 30), (1.0, 30)]
