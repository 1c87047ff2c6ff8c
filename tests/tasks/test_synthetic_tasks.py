"""Logistic, barrier and quadratic: instances, gradients, optima, batches."""

import math

import pytest
import torch

from tasks.barrier import Barrier, barrier_derivatives
from tasks.base import Target, Task
from tasks.logistic import Logistic, logistic_derivatives
from tasks.quadratic import Quadratic
from tasks.synthetic import anisotropic_covariance, minimize_newton

COMMON = {
    "seed": 0,
    "data": "synthetic",
    "max_steps": 20,
    "evaluate_at": 2,
    "eval_splits": ["train"],
    "instance_seed": 3,
}
TARGET = Target("loss", "train", "min", 0.1)


def logistic(**changes):
    options = {"num_samples": 1000, "dim": 10, "condition": 1e4, "labels": "sampled"}
    return Logistic(**{**COMMON, "target": TARGET, "batch_size": None, **options, **changes})


def barrier(**changes):
    options = {"num_samples": 1000, "dim": 10, "condition": 1e4}
    return Barrier(**{**COMMON, "target": TARGET, "batch_size": None, **options, **changes})


def quadratic(**changes):
    options = {"dim": 8, "condition": 100.0, "spectrum_exponent": 8.0, "max_eigenvalue": 10.0}
    return Quadratic(**{**COMMON, "target": TARGET, "batch_size": 1, **options, **changes})


MAKERS = [logistic, barrier, quadratic]


def ready(make, dtype=torch.float64, **changes):
    task = make(**changes)
    task.setup("cpu", dtype)
    return task, task.build_model().to(dtype)


def interior_point(model):
    """Move the weights off the special start, inside the barrier's domain."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(model.weight.shape, dtype=torch.float64, generator=generator)
    model.weight.data += 1e-4 * noise.to(model.weight.dtype)


@pytest.mark.parametrize("make", MAKERS)
def test_the_gradient_equals_finite_differences(make):
    task, model = ready(make)
    interior_point(model)
    batch = next(task.batches(0))
    task.backward(model, batch)
    weight = model.weight.data.view(-1)
    for i in range(0, len(weight), max(1, len(weight) // 10)):
        values = []
        for sign in (1, -1):
            weight[i] += sign * 1e-6
            values.append(task.loss(model, batch).item())
            weight[i] -= sign * 1e-6
        difference = (values[0] - values[1]) / 2e-6
        # 1e-6: third derivatives times the step squared, and rounding 1e-16 / 1e-6 of the loss.
        assert model.weight.grad.view(-1)[i].item() == pytest.approx(difference, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("make", MAKERS)
def test_the_closed_gradient_is_autograd_and_accumulates(make):
    task, model = ready(make)
    interior_point(model)
    batch = next(task.batches(0))
    loss = Task.backward(task, model, batch)
    by_autograd = model.weight.grad.clone()
    model.weight.grad = None
    closed_loss = task.backward(model, batch)
    # Both are sums of the same 1000 terms in another order.
    torch.testing.assert_close(model.weight.grad, by_autograd, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(closed_loss, loss, rtol=1e-14, atol=0)
    assert not closed_loss.requires_grad
    task.backward(model, batch)
    torch.testing.assert_close(model.weight.grad, 2 * by_autograd, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("make", MAKERS)
def test_float32_gradients_are_float32_and_close(make):
    exact_task, exact = ready(make)
    task, model = ready(make, torch.float32)
    task.backward(model, next(task.batches(0)))
    exact_task.backward(exact, next(exact_task.batches(0)))
    assert model.weight.grad.dtype == torch.float32
    error = (model.weight.grad - exact.weight.grad).norm() / exact.weight.grad.norm()
    # float32 has 6e-8 a term; c_i near 0 makes the barrier's terms up to 1e3 times the sum.
    assert error < 1e-4


def test_the_covariance_has_its_condition_number_and_is_rotated():
    covariance = anisotropic_covariance(10, 1e4, torch.Generator().manual_seed(0))
    eigenvalues = torch.linalg.eigvalsh(covariance)
    # The smallest eigenvalue, 1e-4, carries the rounding of the largest: 1e-16 / 1e-4.
    assert eigenvalues[-1].item() == pytest.approx(1, rel=1e-12)
    assert (eigenvalues[-1] / eigenvalues[0]).item() == pytest.approx(1e4, rel=1e-10)
    steps = eigenvalues.log().diff()
    torch.testing.assert_close(steps, steps.mean().expand(9), rtol=1e-9, atol=0)
    off_diagonal = covariance - covariance.diag().diag()
    assert off_diagonal.norm() > 0.1 * covariance.norm()


def test_samples_have_the_covariance():
    task = logistic(num_samples=200_000)
    inputs, labels = task.instance()
    sample = torch.linalg.eigvalsh(inputs.mT @ inputs / len(inputs))
    # The relative error of an eigenvalue from n samples is about sqrt(2/n) = 0.3 %.
    assert (sample[-1] / sample[0]).item() == pytest.approx(1e4, rel=0.02)
    assert labels.unique().tolist() == [-1, 1]


def test_hyperplane_labels_are_separable_and_sampled_ones_are_not():
    sampled, separable = logistic(), logistic(labels="hyperplane")
    inputs, labels = separable.instance()
    assert torch.equal(inputs, sampled.instance()[0])
    # Along the normal that made the labels the loss goes to its infimum, 0.
    weight = inputs.new_zeros(10)
    for _ in range(12):
        _, grad, hessian = logistic_derivatives(inputs, labels, weight)
        weight = weight - torch.linalg.solve(hessian + 1e-12 * torch.eye(10), grad)
    assert (labels * (inputs @ weight) > 0).all()
    disagree = (labels != sampled.instance()[1]).double().mean().item()
    # With logits N(0, 1) a sampled label differs with probability E sigmoid(-|z|) = 0.32.
    assert disagree == pytest.approx(0.32, abs=0.05)
    separable.setup("cpu", torch.float64)
    assert separable.facts() == {"optimum": 0.0}


@pytest.mark.parametrize(
    ("make", "derivatives"), [(logistic, logistic_derivatives), (barrier, barrier_derivatives)]
)
def test_the_optimum_is_one(make, derivatives):
    task, model = ready(make)
    data = task.instance()
    point = minimize_newton(lambda w: derivatives(*data, w), torch.zeros(10, dtype=torch.float64))
    value, grad, hessian = derivatives(*data, point)
    assert grad.norm() <= 1e-12
    assert torch.linalg.eigvalsh(hessian)[0] > 0
    assert task.facts()["optimum"] == value.item()
    model.weight.data = point
    metrics = task.evaluate(model, "train")
    # Zero but for the order of a sum of 1000 terms.
    assert metrics["suboptimality"] == pytest.approx(0, abs=1e-14)
    model.weight.data = point + 1e-3
    assert task.evaluate(model, "train")["suboptimality"] > 0


def test_newton_says_when_it_fails():
    def line(point):
        return point.sum(), torch.ones(1).double(), torch.ones(1, 1).double()

    with pytest.raises(ArithmeticError, match="Newton's method stopped"):
        minimize_newton(line, torch.zeros(1).double(), max_iterations=5)


def test_the_start_is_zero_and_its_losses_are_known():
    task, model = ready(logistic)
    assert not model.weight.any()
    start = task.evaluate(model, "train")
    assert start["loss"] == pytest.approx(math.log(2), rel=1e-14)
    # The optimum lies in the range that the figure shows.
    assert 0.55 < task.facts()["optimum"] < 0.65
    task, model = ready(barrier)
    # E[-log U] = 1 with standard deviation 1 / sqrt(1000).
    assert task.evaluate(model, "train")["loss"] == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("weight", [-10.0, math.nan, math.inf, -math.inf])
def test_outside_the_domain_the_barrier_is_infinite(weight):
    task, model = ready(barrier, torch.float32)
    model.weight.data.fill_(weight)
    batch = next(task.batches(0))
    assert task.loss(model, batch).item() == math.inf
    assert task.backward(model, batch).item() == math.inf
    assert task.evaluate(model, "train")["loss"] == math.inf


def test_logistic_does_not_overflow():
    task, model = ready(logistic, torch.float32)
    model.weight.data.fill_(1e6)
    loss = task.backward(model, next(task.batches(0)))
    assert 1e4 < loss.item() < math.inf
    assert model.weight.grad.isfinite().all()


def test_the_quadratic_is_the_notebooks():
    task = quadratic(dim=128, condition=1e10)
    for matrix in task.instance():
        eigenvalues = torch.linalg.eigvalsh(matrix)
        t = torch.linspace(0, 1, 128, dtype=torch.float64)
        expected = (10 * 10 ** (-10 * t**8)).flip(0)
        # The smallest eigenvalue is 1e-9; rounding of the largest, 10, leaves 1e-14 on all.
        torch.testing.assert_close(eigenvalues, expected, rtol=1e-5, atol=1e-14)
        assert torch.equal(matrix, matrix.mT)
    task.setup("cpu", torch.float32)
    model = task.build_model()
    # The published plot starts at 6.4e5; the spread over instances is a few per cent.
    assert task.evaluate(model, "train")["loss"] == pytest.approx(6.4e5, rel=0.1)
    assert task.backward(model, next(task.batches(0))).dtype == torch.float64


def test_the_quadratic_is_its_formula():
    task, model = ready(quadratic)
    a, b = task.instance()
    x = model.weight.detach()
    expected = torch.trace(x.mT @ a @ x @ b)
    torch.testing.assert_close(task.loss(model, next(task.batches(0))).detach(), expected)
    assert not torch.equal(a, b)


@pytest.mark.parametrize("make", MAKERS)
def test_builds_do_not_depend_on_the_global_generator(make):
    torch.manual_seed(1)
    first = make().build_model().weight
    torch.manual_seed(2)
    state = torch.get_rng_state()
    task = make()
    second = task.build_model().weight
    task.setup("cpu", torch.float32)
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)
    assert first.dtype == torch.float32


def test_the_seeds_of_the_instance_and_of_the_run_are_apart():
    reference = quadratic().instance()[0]
    assert torch.equal(quadratic(seed=9).instance()[0], reference)
    assert not torch.equal(quadratic(instance_seed=9).instance()[0], reference)
    start = quadratic().build_model().weight
    assert torch.equal(quadratic(instance_seed=9).build_model().weight, start)
    assert not torch.equal(quadratic(seed=9).build_model().weight, start)
    assert torch.equal(logistic(seed=9).instance()[0], logistic().instance()[0])
    assert not torch.equal(barrier(instance_seed=9).instance()[1], barrier().instance()[1])


@pytest.mark.parametrize("make", [logistic, barrier])
def test_batches_are_a_function_of_seed_and_epoch(make):
    task, _ = ready(make, batch_size=300)
    assert task.steps_per_epoch == 4
    whole = list(task.batches(2))
    assert [batch.num_samples for batch in whole] == [300, 300, 300, 100]
    assert [batch.index for batch in whole] == [0, 1, 2, 3]
    torch.manual_seed(7)
    for start in range(5):
        again = list(task.batches(2, start))
        assert len(again) == 4 - start
        for batch, expected in zip(again, whole[start:], strict=True):
            assert torch.equal(batch.inputs, expected.inputs)
            assert torch.equal(batch.targets, expected.targets)
            assert (batch.epoch, batch.index) == (2, expected.index)
    seen = torch.cat([batch.inputs for batch in whole])
    everything = next(ready(make)[0].batches(0)).inputs
    assert torch.equal(seen.sort(0).values, everything.sort(0).values)
    assert not torch.equal(whole[0].inputs, next(task.batches(3)).inputs)
    assert not torch.equal(
        whole[0].inputs, next(ready(make, batch_size=300, seed=1)[0].batches(2)).inputs
    )


@pytest.mark.parametrize("make", MAKERS)
def test_a_full_batch_is_one_step(make):
    task, _ = ready(make)
    assert task.steps_per_epoch == 1
    assert len(list(task.batches(5))) == 1
    assert list(task.batches(5, start=1)) == []
    assert task.data_hash() == ""


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (logistic, {"labels": "flipped"}, "labels must be one of sampled, hyperplane, got flipped"),
        (logistic, {"condition": 0.5}, "condition must be >= 1, got 0.5"),
        (logistic, {"data": "mnist"}, "data must be one of synthetic, got mnist"),
        (barrier, {"dim": 0}, "dim must be >= 1, got 0"),
        (barrier, {"batch_size": 0}, "batch_size must be >= 1, got 0"),
        (barrier, {"eval_splits": ["test"]}, "split must be one of train for Barrier, got test"),
        (quadratic, {"max_eigenvalue": 0}, "max_eigenvalue must be > 0, got 0"),
        (quadratic, {"max_steps": 0}, "max_steps must be >= 1, got 0"),
        (quadratic, {"clip_norm": -1.0}, "clip_norm must be > 0 or null, got -1.0"),
        (quadratic, {"evaluate_at": [0, -3]}, "evaluate_at must be >= 0, got -3"),
        (quadratic, {"early_stopping": 0}, "early_stopping must be >= 1, got 0"),
        (quadratic, {"average_last": -1}, "average_last must be >= 0, got -1"),
    ],
)
def test_bad_options_are_named(make, changes, message):
    with pytest.raises(ValueError) as error:
        ready(make, **changes)
    assert str(error.value) == message
