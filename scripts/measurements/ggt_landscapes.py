"""What GGT's paper says of landscapes: rotations, Hessians, L-BFGS on stochastic gradients.

`ggt_rotation`: which methods follow a rotation of the coordinates (the slides' intuition).
`ggt_hessians`: whether the Hessians of Fig. 2's problems change by a scalar factor, or commute.
`ggt_lbfgs`: L-BFGS on minibatches of the logistic problem (section 1.1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from optimizers import GGT, FullMatrixAdagrad
from scripts.measurements.kit import cases, gaussian, orthogonal, random_spd
from tasks.barrier import barrier_derivatives
from tasks.logistic import logistic_derivatives
from tasks.synthetic import minimize_newton

Rows = list[dict[str, Any]]

DIM = 20
ROTATED = {
    "ggt": lambda x: GGT(x, lr=0.3, window=10, window_dtype="float64"),
    "full_adagrad": lambda x: FullMatrixAdagrad(x, lr=0.3),
    "adagrad": lambda x: torch.optim.Adagrad(x, lr=0.3),
    "rmsprop": lambda x: torch.optim.RMSprop(x, lr=0.03),
    "adam": lambda x: torch.optim.Adam(x, lr=0.03),
    "sgd": lambda x: torch.optim.SGD(x, lr=0.3),
}


def rotation() -> Rows:
    """How far the path on f(Qx) from Q'x_1 is from the rotated path on f from x_1.

    f is a noisy quadratic of condition 1e3 in 20 dimensions, Q a random rotation, 60 steps.
    Columns: case (method), seed, value: largest distance over the path's own length.
    """
    rows = []
    for seed, generator in cases(10):
        hessian = random_spd(DIM, 1e3, generator)
        Q, start = orthogonal(DIM, generator), gaussian(DIM, generator=generator)
        noise = 0.1 * gaussian(60, DIM, generator=generator)
        for name, make in ROTATED.items():
            path = descend(make, hessian, start, noise)
            turned = descend(make, Q.T @ hessian @ Q, Q.T @ start, noise @ Q)
            distance = (turned @ Q.T - path).norm(dim=1).max()
            length = (path - start).norm(dim=1).max()
            rows.append({"case": name, "seed": seed, "value": float(distance / length)})
    return rows


def descend(
    make: Callable[[list[Tensor]], torch.optim.Optimizer],
    hessian: Tensor,
    start: Tensor,
    noise: Tensor,
) -> Tensor:
    """Minimise x'Hx/2 with the given noise added to its gradients; all iterates, shape (t, d)."""
    x = torch.nn.Parameter(start.clone())
    optimizer, path = make([x]), []
    for row in noise:
        x.grad = hessian @ x.detach() + row
        optimizer.step()
        path.append(x.detach().clone())
    return torch.stack(path)


def hessians() -> Rows:
    """Hessians at the start, w = 0, and at the optimum of ten instances of Fig. 2's problems.

    Columns: case ("logistic": labels sampled; "barrier"), what ("scalar": |H* - c H_0| / |H*| for
    the best c; "commutator": |H_0 H* - H* H_0| / (|H_0| |H*|), Frobenius norms), seed, value.
    """
    rows = []
    for name, derivatives in (("logistic", logistic_derivatives), ("barrier", barrier_derivatives)):
        for seed, (inputs, targets) in instances(name, 10):
            first, last = hessian_pair(derivatives, inputs, targets)
            factor = (first * last).sum() / (first * first).sum()
            scalar = float((last - factor * first).norm() / last.norm())
            commutator = first @ last - last @ first
            size = float(commutator.norm() / (first.norm() * last.norm()))
            rows.append({"case": name, "what": "scalar", "seed": seed, "value": scalar})
            rows.append({"case": name, "what": "commutator", "seed": seed, "value": size})
    return rows


def hessian_pair(derivatives: Callable, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The Hessians at w = 0 and at the minimiser, each (d, d)."""
    start = inputs.new_zeros(inputs.shape[1])
    optimum = minimize_newton(lambda w: derivatives(inputs, targets, w), start)
    return derivatives(inputs, targets, start)[2], derivatives(inputs, targets, optimum)[2]


def instances(task: str, count: int, first: int = 0) -> Iterator[tuple[int, tuple[Tensor, Tensor]]]:
    """Yield (seed, data) of a convex task's instances at the paper's size."""
    from hydra.utils import instantiate

    import run

    cfg = run.compose([f"task={task}", "scale=paper", "tracking=none"])
    for seed in range(first, first + count):
        yield seed, instantiate(cfg.task, seed=seed, instance_seed=seed).instance()


# ---------------------------------------------------------------- L-BFGS on minibatches

NUM_STEPS, BATCH = 200, 10
TUNING_INSTANCE = 100
RATES = {"lbfgs": (0.01, 0.03, 0.1, 0.3, 1.0), "sgd": (0.1, 0.3, 1.0, 3.0, 10.0)}
MAKERS = {
    "lbfgs": lambda x, lr: torch.optim.LBFGS(x, lr=lr, max_iter=1, history_size=10),
    "sgd": lambda x, lr: torch.optim.SGD(x, lr=lr),
}


def lbfgs() -> Rows:
    """Final loss over all samples of L-BFGS and SGD on minibatches of the logistic problem.

    torch's L-BFGS without line search, one iteration a batch of 10 samples, 200 batches. "tuned":
    each method's best of five rates on another instance; "plain": L-BFGS with its own rate 1.
    Columns: case (method and its rate's origin), rate, seed, value: loss above the optimum, inf
    where it is no number.
    """
    ((_, data),) = instances("logistic", 1, TUNING_INSTANCE)
    chosen = {
        method: min(rates, key=lambda lr: excess(MAKERS[method], lr, *data, TUNING_INSTANCE))
        for method, rates in RATES.items()
    }
    runs = {
        "lbfgs tuned": (MAKERS["lbfgs"], chosen["lbfgs"]),
        "lbfgs plain": (MAKERS["lbfgs"], 1.0),
        "sgd tuned": (MAKERS["sgd"], chosen["sgd"]),
    }
    rows = []
    for seed, (inputs, targets) in instances("logistic", 10):
        for case, (make, lr) in runs.items():
            value = excess(make, lr, inputs, targets, seed)
            rows.append({"case": case, "rate": lr, "seed": seed, "value": value})
    return rows


def excess(make: Callable, lr: float, inputs: Tensor, targets: Tensor, seed: int) -> float:
    """Loss above the optimum after the run; inf where it is no number."""
    weight = torch.nn.Parameter(inputs.new_zeros(inputs.shape[1]))
    optimizer = make([weight], lr)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(NUM_STEPS):
        chosen = torch.randint(len(inputs), (BATCH,), generator=generator)
        x, y = inputs[chosen], targets[chosen]

        def closure(x: Tensor = x, y: Tensor = y) -> float:
            pull = torch.sigmoid(-y * (x @ weight.detach()))
            weight.grad = -(x.T @ (y * pull)) / len(x)
            return float(torch.nn.functional.softplus(-y * (x @ weight.detach())).mean())

        optimizer.step(closure)

    def whole(w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return logistic_derivatives(inputs, targets, w)

    best = whole(minimize_newton(whole, inputs.new_zeros(inputs.shape[1])))[0]
    value = float(whole(weight.detach())[0] - best)
    return value if math.isfinite(value) else math.inf


EXACT = {"ggt_rotation": rotation, "ggt_hessians": hessians, "ggt_lbfgs": lbfgs}
