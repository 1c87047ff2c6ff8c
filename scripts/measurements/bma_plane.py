"""Two dependent parameters [Lu et al. 2018, section 2 and Fig. 1], on the project's own task."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from optimizers import AdagradBMA, ExactLineSearchGD, FullMatrixAdagrad
from scripts.measurements import kit
from tasks.base import Target
from tasks.quadratic2d import Quadratic2D

COUPLING = -0.8
NUM_STARTS = 100
LEARNING_RATES = [0.05, 0.1, 0.2, 0.5, 1.0, 2.0]
TARGET = 1e-6  # of the start's loss
MAX_STEPS = 300
NUM_COMPARED = 10
GUARD = 1e-8


def quadratic(parametrization: str = "theta") -> Tensor:
    """Hessian of the task's loss in its parameters, (2, 2), float64."""
    task = Quadratic2D(
        seed=0, data="synthetic", coupling=COUPLING, start=[1.0, 0.8], num_tensors=1,
        parametrization=parametrization, batch_size=1, max_steps=1, evaluate_at=1,
        eval_splits=["train"], clip_norm=None, early_stopping=None, average_last=0,
        target=Target("loss", "train", "min", TARGET),
    )  # fmt: skip
    Q, to_theta = task.matrices()
    return to_theta.mT @ Q @ to_theta


def plane() -> list[dict[str, object]]:
    """Eigenvalues of Q, and the ratios of losses of gradient descent with exact line search.

    case "eigenvalue": value, and `index` 0 or 1. case "worst": ratio f_{k+1} / f_k from the start
    whose gradient has equal parts along both axes, a row a step. case "any": the largest ratio of
    ten steps from a random start, a row a start. case "whitened": f_1 / f_0 from the same starts
    for xi = Lambda^{1/2} U' theta, and "as_printed" for U in place of U', where Q is written as
    R diag(1.8, .2) R' with R a rotation, so that U and U' differ.
    """
    Q = quadratic()
    values = torch.linalg.eigvalsh(Q)
    rows = [
        {"case": "eigenvalue", "index": i, "seed": 0, "value": float(value)}
        for i, value in enumerate(values.flip(0))
    ]
    worst = ratios(Q, torch.tensor([1.0, 0.8], dtype=torch.float64), 10)
    rows += [{"case": "worst", "seed": step, "value": value} for step, value in enumerate(worst)]
    for seed, generator in kit.cases(NUM_STARTS):
        start = kit.gaussian(2, generator=generator)
        rows.append({"case": "any", "seed": seed, "value": max(ratios(Q, start, 10))})
        for case, hessian in whitened(Q).items():
            (value,) = ratios(hessian, start, 1)
            rows.append({"case": case, "seed": seed, "value": value})
    return rows


def whitened(Q: Tensor) -> dict[str, Tensor]:
    """Hessians of f in xi = Lambda^{1/2} U' theta, and in xi = Lambda^{1/2} U theta."""
    half = math.sqrt(0.5)
    U = torch.tensor([[half, half], [-half, half]], dtype=torch.float64)  # U diag(1.8, .2) U' = Q
    roots = torch.diag((U.mT @ Q @ U).diagonal().sqrt())
    hessians = {}
    for case, axes in (("whitened", U.mT), ("as_printed", U)):
        to_theta = torch.linalg.inv(roots @ axes)
        hessians[case] = to_theta.mT @ Q @ to_theta
    return hessians


def ratios(hessian: Tensor, start: Tensor, num_steps: int) -> list[float]:
    """f_{k+1} / f_k of gradient descent with exact line search on f = 1/2 x'Hx, until f is 0."""
    point = torch.nn.Parameter(start.clone())
    optimizer = ExactLineSearchGD([point], tolerance=1e-12)

    def closure(backward: bool = True) -> Tensor:
        loss = point @ hessian @ point / 2
        if backward:
            optimizer.zero_grad()
            loss.backward()
        return loss

    losses = [float(closure(backward=False).detach())]
    for _ in range(num_steps):
        if losses[-1] == 0:
            break
        optimizer.step(closure)
        losses.append(float(closure(backward=False).detach()))
    return [after / before for before, after in pairwise(losses)]


# ---------------------------------------------------------------- AdaGrad in the plane


def adagrads() -> list[dict[str, object]]:
    """Steps of AdaGrads until the loss is 1e-6 of the start's, from ten random starts.

    case: "full", "bma" (each parameter a block; with the floor of the eigenvalues of its YAML, and
    with two higher ones, as the paper gives none) and "diag", each with the rate of six that
    needs the fewest steps over three other starts; inf where 300 steps do not suffice.
    """
    hessian, rows = quadratic(), []
    tuning = [kit.gaussian(2, generator=g) for _, g in kit.cases(3, first=100)]
    for case, make in METHODS.items():
        totals = {
            lr: sum(min(num_steps(make, lr, hessian, s), 2 * MAX_STEPS) for s in tuning)
            for lr in LEARNING_RATES
        }
        lr = min(totals, key=totals.__getitem__)
        for seed, generator in kit.cases(NUM_COMPARED):
            steps = num_steps(make, lr, hessian, kit.gaussian(2, generator=generator))
            rows.append({"case": case, "lr": lr, "seed": seed, "value": float(steps)})
    return rows


def bma(floor: float) -> Callable[[list[Tensor], float], torch.optim.Optimizer]:
    """AdaGrad-BMA whose eigenvalues are raised to `floor`."""
    options = {"damping": GUARD**2, "eigenvalue_floor": floor, "statistics_dtype": "float64"}
    return lambda parameters, lr: AdagradBMA(parameters, lr=lr, **options)


METHODS: dict[str, Callable[[list[Tensor], float], torch.optim.Optimizer]] = {
    "full": lambda parameters, lr: FullMatrixAdagrad(parameters, lr=lr, damping=GUARD),
    "bma": bma(1e-3),
    "bma_floor_0.1": bma(0.1),
    "bma_floor_0.5": bma(0.5),
    "diag": lambda parameters, lr: torch.optim.Adagrad(parameters, lr=lr, eps=GUARD),
}


def num_steps(make, lr: float, hessian: Tensor, start: Tensor) -> float:
    """Steps until f = 1/2 x'Hx is `TARGET` of its first value; inf after `MAX_STEPS`."""
    parameters = [torch.nn.Parameter(value.clone()) for value in start.split(1)]
    optimizer = make(parameters, lr)
    first = float(start @ hessian @ start) / 2
    with torch.no_grad():
        for step in range(MAX_STEPS + 1):
            point = torch.cat([parameter.detach() for parameter in parameters])
            gradient = hessian @ point
            if float(point @ gradient) / 2 <= TARGET * first:
                return step
            for parameter, part in zip(parameters, gradient.split(1), strict=True):
                parameter.grad = part
            optimizer.step()
    return math.inf


EXACT = {"bma_plane": plane, "bma_plane_adagrads": adagrads}
