"""Online convex streams: losses, comparators against independent solvers, regret by hand."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from tasks.balls import in_ball
from tasks.base import Target, Task
from tasks.online_convex import OnlineConvex
from tasks.streams import STREAMS, Drawn, Shape, comparators, horizons

SHAPE = Shape(count=60, rows=3, columns=2, condition=20.0, radius=2.0, noise=0.5)


def online(**changes):
    options = {
        "seed": 0, "data": "synthetic", "target": Target("loss", "train", "min", 0.1),
        "max_steps": 30, "batch_size": 1, "evaluate_at": 1, "eval_splits": ["train"],
        "stream": "logistic", "rows": 3, "columns": 2, "condition": 20.0, "radius": 2.0,
        "noise": 0.5, "instance_seed": 3,
    }  # fmt: skip
    task = OnlineConvex(**{**options, **changes})
    task.setup("cpu", torch.float64)
    return task


def drawn(name, shape=SHAPE, seed=0):
    return STREAMS[name].draw(shape, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("radius", [0.3, 2.0, 50.0])
@pytest.mark.parametrize("name", STREAMS)
def test_the_comparator_is_that_of_an_independent_solver(name, radius):
    # At .3 the ball binds for logistic and least squares, at 50 for none.
    stream, data = STREAMS[name], drawn(name, SHAPE._replace(radius=radius))
    best = stream.best(data, radius)
    assert best.norm().item() <= radius * (1 + 1e-12)

    def total(weight):
        weight = torch.from_numpy(weight).view(3, 2)
        return stream.loss(weight, data.inputs, data.targets)[0].sum().item()

    start = best.numpy().ravel() * 0.5
    ball = {"type": "ineq", "fun": lambda w: radius**2 - w @ w, "jac": lambda w: -2 * w}
    found = minimize(
        total, start, method="SLSQP", constraints=[ball], options={"ftol": 1e-14, "maxiter": 500}
    )
    least = total(best.numpy().ravel())
    # The solver may end a little above; it stops at kinks and differences of 1e-8 in slopes.
    assert least <= found.fun + 1e-7
    if name in ("logistic", "least_squares"):
        assert found.fun == pytest.approx(least, abs=1e-4)


@pytest.mark.parametrize("name", ["logistic", "least_squares"])
def test_the_comparator_within_binding_and_loose_balls_satisfies_the_first_order_condition(name):
    stream = STREAMS[name]
    for radius, binds in ((0.3, True), (50.0, False)):
        data = drawn(name)
        best = stream.best(data, radius)
        grad = stream.loss(best, data.inputs, data.targets)[1].sum(0)
        along = (grad * best).sum() / best.square().sum()
        # Stationary, or its gradient points straight inwards. 1e-8: Newton's tolerance times T.
        torch.testing.assert_close(grad, along * best, rtol=0, atol=1e-8)
        assert (along < -1e-3) == binds
        assert (abs(best.norm().item() - radius) < 1e-9) == binds


@pytest.mark.parametrize("name", STREAMS)
def test_gradients_are_finite_differences_and_short(name):
    stream, data = STREAMS[name], drawn(name)
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(3, 2, dtype=torch.float64, generator=generator)
    losses, grads = stream.loss(weight, data.inputs, data.targets)
    for i in range(6):
        shift = torch.zeros(6, dtype=torch.float64)
        shift[i] = 1e-6
        up, down = (
            stream.loss(weight + sign * shift.view(3, 2), data.inputs, data.targets)[0]
            for sign in (1, -1)
        )
        # Second derivatives are at most 1 here: 1e-12 from them, 1e-10 from rounding.
        torch.testing.assert_close(grads.flatten(1)[:, i], (up - down) / 2e-6, rtol=0, atol=1e-8)
    if name != "least_squares":
        assert torch.linalg.matrix_norm(grads).max() <= 1 + 1e-12
    # Convex: never below its tangent.
    other = torch.randn(3, 2, dtype=torch.float64, generator=generator)
    tangent = losses + (grads * (other - weight)).sum((-2, -1))
    assert (stream.loss(other, data.inputs, data.targets)[0] >= tangent - 1e-12).all()


def test_least_squares_are_bounded_as_the_theorem_asks():
    data = drawn("least_squares", SHAPE._replace(noise=5.0))
    torch.testing.assert_close(data.inputs.norm(dim=1), torch.ones(60).double())
    assert data.targets.norm(dim=1).max() <= 2 + 1e-12
    assert (data.targets.norm(dim=1) > 2 - 1e-9).any()


def test_regret_by_hand():
    # Losses |w - b_t| with b = 1, -1, 1, 1. Subgradient descent with rate 1/2 from 0 visits
    # 0, .5, 0, .5 and pays 1, 1.5, 1, .5. The best fixed point after 3 and after 4 steps is 1,
    # which pays 0, 2, 0, 0; after 2 steps all of [-1, 1] are alike.
    b = torch.tensor([1.0, -1.0, 1.0, 1.0], dtype=torch.float64)
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    data = Drawn(one.expand(4, 1, 1), b, one)
    stream, weight = STREAMS["box"], torch.zeros(1, 1, dtype=torch.float64)
    paid = []
    for inputs, target in zip(data.inputs, data.targets, strict=True):
        loss, grad = stream.loss(weight, inputs, target)
        paid.append(loss.item())
        weight = weight - grad / 2
    assert paid == [1, 1.5, 1, 0.5]
    assert comparators(stream, data, 1.0, [2, 3, 4]) == [2, 2, 2]


def test_the_box_meets_every_coordinate_and_its_corners_lie_on_the_sphere():
    data = drawn("box", SHAPE._replace(count=5000))
    inner = data.hidden.flatten(1)
    torch.testing.assert_close(inner @ inner.mT, torch.eye(6).double(), rtol=0, atol=1e-12)
    counts = (data.inputs.flatten(1) @ inner.mT).round().sum(0)
    # From 1 to 1/20 in six equal ratios; 5 standard deviations of the rarest are 33 of its 45.
    expected = 20.0 ** -torch.linspace(0, 1, 6).double()
    expected *= 5000 / expected.sum()
    torch.testing.assert_close(counts.sort(descending=True).values, expected, rtol=0.2, atol=33.0)
    best = STREAMS["box"].best(data, 2.0)
    assert best.norm().item() == pytest.approx(2.0, rel=1e-12)


def test_the_facts_are_the_comparators_of_the_run():
    task = online(stream="absolute", max_steps=30)
    facts = task.facts()
    assert set(facts) == {"optimum", "comparator_10", "comparator_20", "comparator_30"}
    assert set(facts.values()) == {0.0}
    targets = torch.stack([batch.targets for batch in task.batches(0)])
    at_start = targets.abs().mean().item()
    metrics = task.evaluate(task.build_model().double(), "train")
    assert metrics == {"loss": at_start, "suboptimality": at_start}
    facts = online(stream="logistic", max_steps=30).facts()
    assert facts["optimum"] == facts["comparator_30"] / 30 > 0
    assert facts["comparator_10"] < facts["comparator_20"] < facts["comparator_30"]


def test_horizons():
    assert horizons(300) == [10, 20, 50, 100, 200, 300]
    assert horizons(1000) == [10, 20, 50, 100, 200, 500, 1000]
    assert horizons(7) == [7]


@pytest.mark.parametrize("name", STREAMS)
def test_the_closed_gradient_is_autograd_and_leaves_the_stream_alone(name):
    task = online(stream=name)
    model = task.build_model().double()
    model.weight.data += 0.1
    batch = next(task.batches(0, 5))
    loss = Task.backward(task, model, batch)
    by_autograd = model.weight.grad.clone()
    before = batch.inputs.clone()
    model.weight.grad = None
    # Equal up to the order of at most six products.
    torch.testing.assert_close(task.backward(model, batch), loss, rtol=1e-14, atol=0)
    torch.testing.assert_close(model.weight.grad, by_autograd, rtol=1e-13, atol=1e-15)
    task.backward(model, batch)
    torch.testing.assert_close(model.weight.grad, 2 * by_autograd, rtol=1e-13, atol=1e-15)
    assert torch.equal(batch.inputs, before)


def test_the_ball_binds_where_there_is_no_minimiser():
    # Least of -w + multiplier w^2 / 2 is w = 1 / multiplier; without it there is none.
    def solve(multiplier):
        if multiplier == 0:
            raise ArithmeticError
        return torch.tensor([1 / multiplier], dtype=torch.float64)

    assert in_ball(solve, 4.0, 1.0).item() == pytest.approx(4.0, rel=1e-12)


@pytest.mark.parametrize(
    ("key", "value"), [("stream", "quadratic"), ("rows", 0), ("radius", 0.0), ("noise", -1.0)]
)
def test_a_bad_option_is_named(key, value):
    with pytest.raises(ValueError, match=f"^{key} must be .* got "):
        online(**{key: value})


def test_other_seeds_give_other_streams():
    first, second = (online(instance_seed=seed) for seed in (0, 1))
    same = online(instance_seed=0, seed=5)
    a, b, c = (next(t.batches(0)).inputs for t in (first, second, same))
    assert np.allclose(a, c) and not np.allclose(a, b)
