"""Times of AdaGrad and its approximations [Lu et al. 2018, Table 4 and section 3]."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from optimizers import AdagradBMA, FullMatrixAdagrad
from optimizers.linalg import block_mean
from scripts.measurements import kit
from scripts.measurements.bma_models import IMAGES, SIZES
from tasks.models.tanh_cnn import TanhCNN

BATCH_SIZE = 128  # not in the paper; as in conf/task/mnist_cnn_small.yaml
NUM_TURNS = {"small": 20, "large": 5}
NUM_CALLS = 10  # a turn: as many as `bma_every_10` needs for one root
NUM_SCALING_TURNS = 5
METHODS: dict[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = {
    "diag": lambda parameters: torch.optim.Adagrad(parameters, lr=1e-3, eps=1e-4),
    "bma": lambda parameters: AdagradBMA(parameters, lr=1e-3),
    "bma_every_10": lambda parameters: AdagradBMA(parameters, lr=1e-3, update_freq=10),
    "full": lambda parameters: FullMatrixAdagrad(parameters, lr=1e-3),
}
# The full matrix of the large model would have 2e10 entries.
COMPARED = {"small": tuple(METHODS), "large": ("diag", "bma", "bma_every_10")}


def iterations() -> list[dict[str, object]]:
    """Seconds of a training iteration on MNIST's images, as in Table 4, and of its step alone.

    case: the method; model: small or large; part: "iteration" (forward, backward and step, on one
    batch of noise: the time does not depend on what is in it) or "step". A row is the mean of ten
    calls in a row.
    """
    rows = []
    for size, methods in COMPARED.items():
        for part in ("iteration", "step"):
            functions = {name: iteration(size, name, part) for name in methods}
            turns, labels = NUM_TURNS[size], {"model": size, "part": part}
            rows += kit.in_turns(functions, turns, calls=NUM_CALLS, **labels)
    return rows


def iteration(size: str, method: str, part: str) -> Callable[[], None]:
    """One iteration of a method, or its step, on a model of its own."""
    torch.manual_seed(0)
    model = TanhCNN(IMAGES["mnist"], num_groups=4, num_classes=10, **SIZES[size])
    optimizer = METHODS[method](list(model.parameters()))
    images = torch.randn(BATCH_SIZE, *IMAGES["mnist"])
    labels = torch.randint(0, 10, (BATCH_SIZE,))

    def whole() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    whole()
    return whole if part == "iteration" else optimizer.step


# ---------------------------------------------------------------- scaling


def scaling() -> list[dict[str, object]]:
    """Slopes of log time on log size, a row a turn, and the times they are of.

    case "step, d": a step of AdaGrad-BMA for d = 2^16 ... 2^20 at L = 16 blocks; "step, L": for L =
    64 ... 512 at d = 2^16; "block root, L": the inverse root of the block means alone; "dense root,
    d": that of a dense d x d matrix, d = 64 ... 512. Rows with a size have seconds in `value`, the
    others the slope.
    """
    rows = []
    for case, functions in scaled_functions().items():
        calls = 3 if case.startswith("step") else 1
        named = {str(size): function for size, function in functions.items()}
        times = kit.in_turns(named, NUM_SCALING_TURNS, calls=calls)
        of_turn: dict[int, list[tuple[int, float]]] = {}
        for row in times:
            size = int(row["case"])
            of_turn.setdefault(row["seed"], []).append((size, row["value"]))
            rows.append({"case": case, "size": size, "seed": row["seed"], "value": row["value"]})
        for turn, pairs in of_turn.items():
            slope = kit.log_slope(*zip(*sorted(pairs), strict=True))
            rows.append({"case": case, "size": None, "seed": turn, "value": slope})
    return rows


def scaled_functions() -> Mapping[str, Mapping[int, Callable[[], object]]]:
    """What is timed, by case and size."""
    dims, counts = [2**k for k in range(16, 21)], [64, 128, 256, 512]
    return {
        "step, d": {d: step_of(16, d) for d in dims},
        "step, L": {L: step_of(L, 2**16) for L in counts},
        "block root, L": {L: block_root(L) for L in counts},
        "dense root, d": {d: dense_root(d) for d in counts},
    }


def step_of(num_blocks: int, d: int) -> Callable[[], object]:
    """AdaGrad-BMA's step over `num_blocks` tensors of d values in all."""
    generator = torch.Generator().manual_seed(0)
    parameters = [nn.Parameter(torch.zeros(d // num_blocks)) for _ in range(num_blocks)]
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    return AdagradBMA(parameters).step


def block_root(num_blocks: int) -> Callable[[], object]:
    """Inverse square root of a block-mean matrix of `num_blocks` blocks."""
    generator = torch.Generator().manual_seed(0)
    matrix = kit.random_spd(num_blocks, 100.0, generator)
    sizes = torch.full((num_blocks,), 16.0, dtype=torch.float64)
    ones = torch.ones(num_blocks, dtype=torch.float64)
    return lambda: block_mean.inverse_root(ones, matrix, sizes)


def dense_root(d: int) -> Callable[[], object]:
    """Inverse square root of a dense matrix."""
    matrix = kit.random_spd(d, 100.0, torch.Generator().manual_seed(0))
    return lambda: kit.matrix_power(matrix, -0.5)


TIMED = {"bma_iteration": iterations, "bma_scaling": scaling}
