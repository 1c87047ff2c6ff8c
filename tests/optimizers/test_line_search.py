"""Gradient descent with exact line search: its rate, its search and its refusals."""

import math
from itertools import pairwise

import pytest
import torch

from optimizers import ExactLineSearchGD
from optimizers.line_search import line_minimum

Q = torch.tensor([[1.0, -0.8], [-0.8, 1.0]], dtype=torch.float64)  # eigenvalues 0.2 and 1.8


def closure_of(optimizer, loss, calls=None):
    def closure(backward=True):
        if calls is not None:
            calls.append(backward)
        value = loss()
        if backward:
            optimizer.zero_grad()
            value.backward()
        return value

    return closure


def test_the_rate_of_figure_1():
    # (l_2, l_1) in the eigenbasis, the worst start: each step keeps ((l_1 - l_2)/(l_1 + l_2))^2.
    eigenvalues, U = torch.linalg.eigh(Q)
    x = (U @ eigenvalues.flip(0)).requires_grad_()
    optimizer = ExactLineSearchGD([x])
    losses, gradients = [], []
    for _ in range(20):
        losses.append(
            float(optimizer.step(closure_of(optimizer, lambda: 0.5 * x @ Q @ x)).detach())
        )
        gradients.append(x.grad.clone())
    # 20 steps of round-off, relative to losses that fall to 1e-4 of the first.
    for before, after in pairwise(losses):
        assert after / before == pytest.approx(0.64, rel=1e-9)
    for g, h in pairwise(gradients):
        assert abs(float(g @ h)) < 1e-9 * float(g.norm() * h.norm())


def test_one_step_in_the_parameters_of_equation_8():
    xi = torch.tensor([3.0, -2.0], dtype=torch.float64, requires_grad=True)
    optimizer = ExactLineSearchGD([xi])
    optimizer.step(closure_of(optimizer, lambda: 0.5 * xi @ xi))
    assert float(xi.detach().norm()) < 1e-14


def test_a_quadratic_takes_two_evaluations_after_the_gradient():
    x = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    optimizer, calls = ExactLineSearchGD([x]), []
    optimizer.step(closure_of(optimizer, lambda: 0.5 * x @ Q @ x, calls))
    assert calls == [True, False, False]


@pytest.mark.parametrize(
    ("phi", "slope", "trial"),
    [
        (lambda a: (a - 2) ** 2, lambda a: 2 * (a - 2), 1e-3),
        (lambda a: (a - 2) ** 2, lambda a: 2 * (a - 2), 1e3),
        (lambda a: math.exp(a - 2) - a, lambda a: math.exp(a - 2) - 1, 0.1),
        (lambda a: (a**2 - 4) ** 2, lambda a: 4 * a * (a**2 - 4), 0.5),
        (lambda a: math.log(math.cosh(a - 2)), lambda a: math.tanh(a - 2), 500.0),
        # A pole: above it the function is not defined.
        (
            lambda a: 0.5 * a - math.log(3 - a) - math.log(1 + a) if a < 3 else math.nan,
            lambda a: 0.5 + 1 / (3 - a) - 1 / (1 + a) if a < 3 else math.nan,
            100.0,
        ),
        # A hump behind the minimum, and lower values behind the hump.
        (lambda a: math.cos(a + 1.14159265) - 0.01 * a, None, 1.0),
    ],
)
def test_line_minimum_finds_a_stationary_point_below_the_start(phi, slope, trial):
    slope = slope or (lambda a: -math.sin(a + 1.14159265) - 0.01)
    if slope(0) >= 0:  # (a^2 - 4)^2 is flat at 0: begin a little to the right
        phi, slope = (lambda a, f=phi: f(a + 0.1)), (lambda a, f=slope: f(a + 0.1))
    step = line_minimum(
        lambda a: (phi(a), slope(a)),
        phi(0),
        slope(0),
        trial,
        tolerance=1e-8,
        max_evaluations=60,
        eps=1e-16,
    )
    assert step > 0
    assert abs(slope(step)) <= 1e-8 * abs(slope(0))
    assert phi(step) < phi(0)


def test_line_minimum_does_not_end_above_its_start():
    # Descends, then climbs to a plateau with a dip of its own at 8, far above the start.
    def phi(a):
        return (a - 0.5) ** 2 if a < 4 else 12.25 + (a - 8) ** 2

    def slope(a):
        return 2 * (a - 0.5) if a < 4 else 2 * (a - 8)

    options = {"tolerance": 1e-8, "max_evaluations": 50, "eps": 1e-16}
    step = line_minimum(lambda a: (phi(a), slope(a)), phi(0), slope(0), 7.0, **options)
    assert step == pytest.approx(0.5)


def test_line_minimum_takes_what_it_has_when_evaluations_run_out():
    options = {"tolerance": 1e-8, "max_evaluations": 5, "eps": 1e-16}
    step = line_minimum(lambda a: (-a, -1.0), 0.0, -1.0, 1.0, **options)
    assert step == 16.0
    assert line_minimum(lambda a: (math.nan, math.nan), 0.0, -1.0, 1.0, **options) == 0.0


def test_lr_multiplies_the_step_by_group():
    ends = []
    for lrs in ((1.0, 1.0), (0.25, 0.0)):
        x = torch.ones(2, dtype=torch.float64, requires_grad=True)
        y = torch.ones(1, dtype=torch.float64, requires_grad=True)
        optimizer = ExactLineSearchGD(
            [{"params": [x], "lr": lrs[0]}, {"params": [y], "lr": lrs[1]}]
        )
        optimizer.step(closure_of(optimizer, lambda x=x, y=y: 3 * x @ x + (x.sum() + y) ** 2))
        ends.append((x.detach() - 1, y.detach() - 1))
    torch.testing.assert_close(ends[1][0], 0.25 * ends[0][0], rtol=1e-14, atol=0)
    assert float(ends[1][1]) == 0.0
    assert float(ends[0][1]) != 0.0


def test_rosenbrock_descends_at_every_step():
    x = torch.tensor([-1.2, 1.0], dtype=torch.float64, requires_grad=True)
    optimizer = ExactLineSearchGD([x])
    closure = closure_of(optimizer, lambda: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2)
    losses = [float(optimizer.step(closure).detach()) for _ in range(200)]
    assert all(after < before for before, after in pairwise(losses))
    assert losses[-1] < 0.5


def test_refusals():
    x = torch.ones(2, requires_grad=True)
    optimizer = ExactLineSearchGD([x])
    with pytest.raises(ValueError, match=r"^closure must be a function .*, got None$"):
        optimizer.step()
    with pytest.raises(
        ValueError, match=r"closure\(backward=False\) must be a loss with its graph"
    ):
        x.grad = torch.ones(2)
        optimizer.step(lambda backward=True: torch.tensor(1.0))
    assert torch.equal(x, torch.ones(2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tolerance": 0.0}, r"tolerance must be in \(0, 1\), got 0.0"),
        ({"max_evaluations": 0}, "max_evaluations must be an integer >= 1, got 0"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        ExactLineSearchGD([torch.ones(1, requires_grad=True)], **options)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_changes_nothing(bad):
    x = torch.ones(2, requires_grad=True)
    optimizer = ExactLineSearchGD([x])
    optimizer.step(closure_of(optimizer, lambda: bad * x.sum()))
    assert torch.equal(x, torch.ones(2))
    assert optimizer.state["shared"] == {"fallbacks": 1}
