"""AdaGrad-BMA's step: limits, invariances and operations [Lu et al. 2018, section 6]."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from optimizers import AdagradBMA
from optimizers.linalg import block_mean
from scripts.measurements import kit

NUM_CASES = 100
NUM_STEPS = 3
NUM_ADVERSARIAL = 2000
DAMPING = 1e-30  # of squared gradients of about 1: what is tested is the method without a guard
FACTOR = 100.0


def step_properties() -> list[dict[str, object]]:
    """What becomes of three steps in random problems of three or four tensors, float64.

    case "diagonal": relative error of the steps with one block against diagonal AdaGrad (F = I).
    case "change": relative change of all steps when every gradient is multiplied by 100, and
    "growth": length of the steps then over their length before; reading: `corrected`, `printed`.
    """
    rows = []
    for seed, generator in kit.cases(NUM_CASES):
        shapes = [(4, 3), (4,), (2, 5), (2,)][: 3 + seed % 2]
        grads = [
            [kit.gaussian(*shape, generator=generator) for shape in shapes]
            for _ in range(NUM_STEPS)
        ]
        whole = [[torch.cat([g.reshape(-1) for g in step])] for step in grads]
        ours = moved(whole, "preconditioned")
        error = kit.relative_error(ours, diagonal_adagrad([step[0] for step in whole]))
        rows.append({"case": "diagonal", "reading": "corrected", "seed": seed, "value": error})
        for reading, sums in (("corrected", "preconditioned"), ("printed", "gradient")):
            before = moved(grads, sums)
            after = moved([[FACTOR * g for g in step] for step in grads], sums)
            growth = float(torch.linalg.vector_norm(after) / torch.linalg.vector_norm(before))
            change = kit.relative_error(after, before)
            labels = {"reading": reading, "seed": seed}
            rows.append({"case": "change", **labels, "value": change})
            rows.append({"case": "growth", **labels, "value": growth})
    return rows


def moved(grads: Sequence[Sequence[Tensor]], block_sums: str) -> Tensor:
    """The steps from 0, flat, shape (num_steps, d): each tensor a block."""
    start = [torch.zeros_like(g) for g in grads[0]]

    def make(parameters):
        return AdagradBMA(
            parameters, lr=1.0, damping=DAMPING, block_sums=block_sums, statistics_dtype="float64"
        )

    visited = kit.steps(make, start, grads)
    places = torch.stack([torch.cat([p.reshape(-1) for p in step]) for step in visited])
    return torch.diff(places, dim=0, prepend=torch.zeros_like(places[:1]))


def diagonal_adagrad(grads: Sequence[Tensor]) -> Tensor:
    """Steps of diagonal AdaGrad with lr 1: g / (sum of g^2)^{1/2}, shape (num_steps, d)."""
    g = torch.stack(list(grads))
    return -g / (g.square().cumsum(dim=0) + DAMPING).sqrt()


# ---------------------------------------------------------------- definiteness


def least_eigenvalues() -> list[dict[str, object]]:
    """Least eigenvalue of the matrix in eq. 27 over adversarial gradients, a row a case.

    case: "scaled", with S^{-1/2} as in eq. 26, hence W = I + (U - diag U) / (v v'); "unscaled",
    the block means alone, which gives I + (s_i s_j)^{1/2} (U - diag U) / (v v'). kind: what the
    gradients are like.
    """
    rows = []
    for seed, generator in kit.cases(NUM_ADVERSARIAL):
        kind, sizes, grads = adversarial(seed, generator)
        split = grads.split([int(s) for s in sizes], dim=1)
        u = torch.stack([part.sum(dim=1) for part in split], dim=1)
        z = grads.square().sum(dim=0).add(DAMPING).sqrt()
        v = torch.stack([part.sum() for part in z.split([int(s) for s in sizes])])
        U, roots = u.mT @ u, sizes.sqrt()
        _, eigenvalues = block_mean.second_moment_root(U, v, roots, floor=1e-3)
        off = (U / torch.outer(v, v)).fill_diagonal_(0)
        unscaled = torch.eye(len(sizes)) + roots[:, None] * off * roots
        labels = {"kind": kind, "seed": seed, "num_blocks": len(sizes)}
        rows.append({"case": "scaled", **labels, "value": float(eigenvalues[0])})
        rows.append({"case": "unscaled", **labels, "value": kit.least_eigenvalue(unscaled)})
    return rows


def adversarial(seed: int, generator: torch.Generator) -> tuple[str, Tensor, Tensor]:
    """Sizes of blocks (L,) and gradients (num_steps, d) that make W as singular as they can."""
    kinds = ("aligned", "opposed", "single", "scales", "gaussian")
    kind = kinds[seed % len(kinds)]
    L = 2 + int(torch.randint(0, 5, (), generator=generator))
    sizes = torch.randint(1, 12, (L,), generator=generator).double()
    d, num_steps = int(sizes.sum()), 1 + int(torch.randint(0, 6, (), generator=generator))
    noise = kit.gaussian(num_steps, d, generator=generator)
    direction = torch.ones(d, dtype=torch.float64)
    if kind == "opposed":  # blocks of equal entries that pull against each other
        signs = 1 - 2 * (torch.arange(L) % 2).double()
        direction = signs.repeat_interleave(sizes.long())
    steps = kit.gaussian(num_steps, 1, generator=generator)
    made = {
        "aligned": lambda: steps * direction,
        "opposed": lambda: steps * direction,
        "single": lambda: noise[:1],
        "scales": lambda: noise * 10.0 ** (6 * torch.rand(d, generator=generator) - 3),
        "gaussian": lambda: noise,
    }
    return kind, sizes, made[kind]()


# ---------------------------------------------------------------- operations


class Written(TorchDispatchMode):
    """Counts the numbers that all operations of torch write, but those of views."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if not function.is_view:
            tensors = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
            self.count += sum(tensor.numel() for tensor in tensors)
        return result


def operations() -> list[dict[str, object]]:
    """Operations of AdaGrad-BMA's fifth step for growing d and growing L.

    grows: "d" at L = 16, "L" at d = 2^16; case: "written", the numbers that the step writes (a
    measure of what is done element by element), and "products", floating-point operations of its
    matrix products. The eigendecomposition, of an L x L matrix, is in neither. value: the count;
    rows with size 0 hold the slope of its logarithm over the three largest sizes.
    """
    rows = []
    for grows, sizes in (("d", [2**k for k in range(12, 20)]), ("L", [64, 128, 256, 512])):
        counts: dict[str, list[float]] = {"written": [], "products": []}
        for size in sizes:
            num_blocks, d = (16, size) if grows == "d" else (size, 2**16)
            for case, count in counted(num_blocks, d):
                counts[case].append(float(count))
                rows.append({"grows": grows, "case": case, "size": size, "value": float(count)})
        for case, values in counts.items():
            slope = kit.log_slope(sizes[-3:], values[-3:])
            rows.append({"grows": grows, "case": case, "size": 0, "value": slope})
    return rows


def counted(num_blocks: int, d: int) -> Iterator[tuple[str, int]]:
    """Numbers written and operations of products in one step over tensors of equal lengths."""
    parameters = [torch.nn.Parameter(torch.zeros(d // num_blocks)) for _ in range(num_blocks)]
    optimizer = AdagradBMA(parameters)
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
    with Written() as written:
        optimizer.step()
    yield "written", written.count
    yield "products", kit.flops(optimizer.step)


EXACT = {
    "bma_steps": step_properties,
    "bma_definite": least_eigenvalues,
    "bma_operations": operations,
}
