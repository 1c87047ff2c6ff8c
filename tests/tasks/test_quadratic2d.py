"""The quadratic of two dependent parameters: its formula, its rate, and the methods of Fig. 1."""

from itertools import pairwise

import pytest
import torch

from optimizers import AdagradBMA, ExactLineSearchGD, FullMatrixAdagrad, Newton
from tasks.base import Target
from tasks.quadratic2d import Quadratic2D, values_of

# The start in float32, 0.8 being none: relative 2e-8.
START = {"rel": 1e-6}


def make(**changes):
    options = {
        "seed": 0,
        "data": "synthetic",
        "target": Target("loss", "train", "min", 1e-6),
        "max_steps": 10,
        "batch_size": 1,
        "evaluate_at": 1,
        "eval_splits": ["train"],
        "coupling": -0.8,
        "start": [1.0, 0.8],
        "parametrization": "theta",
        "num_tensors": 1,
    }
    return Quadratic2D(**{**options, **changes})


def ready(**changes):
    task = make(**changes)
    task.setup("cpu", torch.float64)
    return task, task.build_model().double()


def losses(task, model, optimizer, steps):
    """The loss before each step and after the last."""
    batch = next(task.batches(0))

    def closure(backward=True):
        if not backward:
            return task.loss(model, batch)
        optimizer.zero_grad()
        return task.backward(model, batch)

    found = [task.evaluate(model, "train")["loss"]]
    for _ in range(steps):
        closure()
        needs_closure = getattr(optimizer, "needs_closure", False)
        optimizer.step(closure if needs_closure else None)
        found.append(task.evaluate(model, "train")["loss"])
    return found


@pytest.mark.parametrize("parametrization", ["theta", "whitened"])
@pytest.mark.parametrize("num_tensors", [1, 2])
def test_the_loss_is_the_papers(parametrization, num_tensors):
    task, model = ready(parametrization=parametrization, num_tensors=num_tensors)
    assert len(list(model.parameters())) == num_tensors
    # 1/2 (1 + .64 - 2 * .8 * .8) = .18
    metrics = task.evaluate(model, "train")
    expected = {"loss": 0.18, "theta1": 1.0, "theta2": 0.8}
    assert metrics == {name: pytest.approx(value, **START) for name, value in expected.items()}
    assert task.loss(model, next(task.batches(0))).item() == metrics["loss"]


def test_q_is_the_papers_and_whitening_removes_it():
    q, to_theta = make().matrices()
    assert q.tolist() == [[1.0, -0.8], [-0.8, 1.0]]
    assert torch.equal(to_theta, torch.eye(2).double())
    torch.testing.assert_close(torch.linalg.eigvalsh(q), torch.tensor([0.2, 1.8]).double())
    _, to_theta = make(parametrization="whitened").matrices()
    torch.testing.assert_close(to_theta.mT @ q @ to_theta, torch.eye(2).double())


@pytest.mark.parametrize("num_tensors", [1, 2])
def test_the_gradient_is_q_theta(num_tensors):
    task, model = ready(num_tensors=num_tensors, start=[0.5, -2.0])
    task.backward(model, next(task.batches(0)))
    grad = torch.cat([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(grad, torch.tensor([2.1, -2.4]).double())


def test_exact_line_search_takes_the_worst_rate_from_the_start():
    task, model = ready()
    found = losses(task, model, ExactLineSearchGD(model.parameters()), 10)
    rate = task.facts()["line_search_rate"]
    assert rate == pytest.approx(0.64)
    for before, after in pairwise(found):
        # 1e-5: the search ends at 1e-6 of the first slope.
        assert after / before == pytest.approx(rate, rel=1e-5)


def test_from_any_other_start_exact_line_search_is_no_slower():
    task, model = ready(start=[-0.3, 1.7])
    found = losses(task, model, ExactLineSearchGD(model.parameters()), 10)
    assert all(b <= 0.64 * a * (1 + 1e-5) for a, b in pairwise(found))


def test_whitened_one_step_is_enough():
    task, model = ready(parametrization="whitened")
    assert task.facts()["line_search_rate"] == 0
    # 1e-10 of the start: the square of what the search leaves of the slope, and rounding.
    assert losses(task, model, ExactLineSearchGD(model.parameters()), 1)[-1] < 0.18e-10


def test_newtons_step_is_the_whitened_one():
    task, model = ready()
    # Damping 1e-8 against eigenvalues from .2 on leaves (5e-8)^2 of the loss.
    assert losses(task, model, Newton(model.parameters()), 1)[-1] < 1e-14


def test_off_diagonals_matter():
    """Full AdaGrad, and BMA with a block a parameter, need less than half of diagonal's steps."""
    steps = []
    for method in (FullMatrixAdagrad, AdagradBMA, torch.optim.Adagrad):
        task, model = ready(num_tensors=2)
        # The best rate of a grid for the first two; diagonal AdaGrad's best needs 24 steps.
        found = losses(task, model, method(model.parameters(), lr=1.0), 40)
        steps.append(next(i for i, loss in enumerate(found) if loss < task.target.value))
    full, block_mean, diagonal = steps
    assert full < diagonal / 2
    assert block_mean < diagonal / 2


def test_float32_parameters_get_float32_gradients():
    task, model = make(), make().build_model()
    task.setup("cpu", torch.float32)
    loss = task.backward(model, next(task.batches(0)))
    assert (loss.dtype, model.weight.grad.dtype) == (torch.float64, torch.float32)
    assert values_of(model).dtype == torch.float64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"coupling": 1.0}, "coupling must be > -1 and < 1, got 1.0"),
        ({"start": [1.0]}, "start must be two finite numbers, got [1.0]"),
        ({"start": [1.0, float("nan")]}, "start must be two finite numbers, got [1.0, nan]"),
        ({"parametrization": "xi"}, "parametrization must be one of theta, whitened, got xi"),
        ({"num_tensors": 3}, "num_tensors must be 1 or 2, got 3"),
        ({"data": "mnist"}, "data must be one of synthetic, got mnist"),
    ],
)
def test_bad_options_are_named(changes, message):
    with pytest.raises(ValueError) as error:
        make(**changes)
    assert str(error.value) == message
