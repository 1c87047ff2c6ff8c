"""Newton's method against gradient descent [Lu et al. 2018, section 1 and appendix, eq. 28-32]."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from optimizers import Newton
from scripts.measurements import kit
from tasks.barrier import barrier_derivatives
from tasks.synthetic import anisotropic_covariance, gaussian_samples, minimize_newton

NUM_CASES = 100
DIM, NUM_SAMPLES = 6, 40
NUM_STEPS = 4
DAMPING = 1e-300  # as good as none: what is tested is the method as printed
NUM_INSTANCES = 10
START, NUM_DESCENTS = 0.9, 500
BARRIER_DIM, BARRIER_SAMPLES, BARRIER_CONDITION = 10, 1000, 1e4  # as in conf/task/barrier.yaml
# Errors of the optimum itself are about 1e-15 in the norm of its Hessian: what is ten thousand
# times as large is resolved to four digits.
RESOLVED = 1e-11


def invariance() -> list[dict[str, object]]:
    """Distance of trajectories in theta from those in xi = A theta, mapped back; 100 random A.

    case: "newton" or "gradient_descent"; value: Frobenius error over the trajectory's norm.
    f is a logistic loss plus a quadratic, A has a condition number of 10.
    """
    rows = []
    for seed, generator in kit.cases(NUM_CASES):
        inputs = kit.gaussian(NUM_SAMPLES, DIM, generator=generator)
        A = kit.orthogonal(DIM, generator) @ kit.random_spd(DIM, 10.0, generator)
        start = kit.gaussian(DIM, generator=generator)

        def value(theta: Tensor, inputs: Tensor = inputs) -> Tensor:
            return torch.nn.functional.softplus(inputs @ theta).mean() + theta @ theta / 20

        def mapped(xi: Tensor, A: Tensor = A, value=value) -> Tensor:
            return value(torch.linalg.solve(A, xi))

        for case, make in METHODS.items():
            plain = trajectory(value, start, make)
            back = torch.linalg.solve(A, trajectory(mapped, A @ start, make).mT).mT
            rows.append({"case": case, "seed": seed, "value": kit.relative_error(back, plain)})
    return rows


METHODS = {
    "newton": lambda parameters: Newton(parameters, damping=DAMPING, curvature="signed"),
    "gradient_descent": lambda parameters: torch.optim.SGD(parameters, lr=0.3),
}


def trajectory(value: Callable[[Tensor], Tensor], start: Tensor, make) -> Tensor:
    """Points after each step, shape (num_steps, d)."""
    point = torch.nn.Parameter(start.clone())
    optimizer = make([point])

    def closure(backward: bool = True) -> Tensor:
        loss = value(point)
        if backward:
            optimizer.zero_grad()
            loss.backward()
        return loss

    points = []
    for _ in range(NUM_STEPS):
        optimizer.step(closure)
        points.append(point.detach().clone())
    return torch.stack(points)


def orders() -> list[dict[str, object]]:
    """Order of convergence to the analytic centre of ten polytopes, by the barrier of GGT's Fig. 2.

    case: "newton" or "gradient_descent" (step 1 / largest eigenvalue of the Hessian H at the
    optimum x*), both from nine tenths of the way from 0. value: slope of log e_{k+1} on log e_k,
    which is the order, with e_k the length of x_k - x* in the norm of H; for gradient descent over
    the last 100 of 500 steps. ratio: geometric mean of e_{k+1} / e_k.
    """
    rows = []
    for seed, generator in kit.cases(NUM_INSTANCES):
        covariance = anisotropic_covariance(BARRIER_DIM, BARRIER_CONDITION, generator)
        inputs = gaussian_samples(BARRIER_SAMPLES, covariance, generator)
        offsets = torch.rand(BARRIER_SAMPLES, dtype=torch.float64, generator=generator)
        derivatives = partial(barrier_derivatives, inputs, offsets)
        optimum = minimize_newton(derivatives, inputs.new_zeros(BARRIER_DIM))
        found = {
            "newton": newton_errors(derivatives, optimum),
            "gradient_descent": descent_errors(derivatives, optimum)[-101:],
        }
        for case, errors in found.items():
            ratio = (errors[-1] / errors[0]) ** (1 / (len(errors) - 1))
            labels = {"case": case, "seed": seed, "num_errors": len(errors), "ratio": ratio}
            rows.append({**labels, "value": kit.log_slope(errors[:-1], errors[1:])})
    return rows


def newton_errors(derivatives, optimum: Tensor) -> list[float]:
    """e_k of Newton's method, from its start until they are round-off."""
    hessian, point, errors = derivatives(optimum)[2], START * optimum, []
    while (error := distance(point, optimum, hessian)) > RESOLVED:
        errors.append(error)
        _, gradient, own = derivatives(point)
        point = point - torch.linalg.solve(own, gradient)
    return errors


def descent_errors(derivatives, optimum: Tensor) -> list[float]:
    """e_k of 500 steps of gradient descent, while they are more than round-off."""
    hessian, point, errors = derivatives(optimum)[2], START * optimum, []
    step = 1 / kit.largest_eigenvalue(hessian)
    for _ in range(NUM_DESCENTS):
        errors.append(distance(point, optimum, hessian))
        point = point - step * derivatives(point)[1]
    return [error for error in errors if error > RESOLVED]


def distance(point: Tensor, optimum: Tensor, hessian: Tensor) -> float:
    """Length of the difference in the norm of a Hessian, which no affine change alters."""
    difference = point - optimum
    return float((difference @ hessian @ difference).clamp(min=0).sqrt())


EXACT = {"bma_newton_invariance": invariance, "bma_newton_order": orders}
