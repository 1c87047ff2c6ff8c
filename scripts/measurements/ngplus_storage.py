"""What NG+, Shampoo and K-FAC keep, and what blocks save [Yang et al. 2021, 2.4 and 3.3]."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from optimizers import KFAC, NGPlus, NGPlusAuthors, Shampoo
from scripts.measurements import kit
from tasks.models.resnet_cifar import ResNetCIFAR

aten = torch.ops.aten
# Beside those of ResNet-32: a square, a tall and a very tall matrix.
SHAPES = ((64, 64), (128, 33), (300, 40))
NUM_STEPS = 20
# How the optimizers call their curvature matrices, and what they make of them.
KINDS = {"statistic": ("factor", "A", "G"), "root": ("inverse", "root_")}


def statistics() -> list[dict[str, object]]:
    """Relative differences between (12) with beta = gamma = 1 and Shampoo's statistics.

    Both optimizers see the same twenty gradients of a matrix; a row a step, shape and side.
    """
    rows = []
    for _, generator in kit.cases(3):
        for m, n in ((5, 8), (8, 5), (6, 6)):
            layers = [nn.Linear(n, m, bias=False, dtype=torch.float64) for _ in range(3)]
            # A rate of zero: both statistics are of gradients that do not depend on the method.
            common = {"lr": 0.0, "statistics_dtype": "float64"}
            online = {"statistic": "minibatch", "beta2": 1.0, "gamma": 1.0, "initial": 0.1}
            sides = {
                side: NGPlus(layer.parameters(), model=layer, side=side, **online, **common)
                for side, layer in zip(("left", "right"), layers, strict=False)
            }
            options = {"initial_scale": 0.1, "block_size": 64, "merge_dims": False}
            shampoo = Shampoo(layers[2].parameters(), **options, **common)
            for step in range(NUM_STEPS):
                G = kit.gaussian(m, n, generator=generator)
                for layer in layers:
                    layer.weight.grad = G.clone()
                for optimizer in (*sides.values(), shampoo):
                    optimizer.step()
                theirs = [t for _, quantity, t in shampoo.matrices() if quantity == "statistic"]
                for (side, optimizer), reference in zip(sides.items(), theirs, strict=True):
                    (ours,) = [t for _, q, t in optimizer.matrices() if q == "statistic"]
                    error = kit.relative_error(ours.squeeze(), reference.squeeze())
                    rows.append({"side": side, "m": m, "n": n, "step": step, "value": error,
                                 "seed": len(rows)})  # fmt: skip
    return rows


def storage() -> list[dict[str, object]]:
    """Numbers that each method keeps for a layer, in units of its gradient's m n.

    A row a shape, method and kind. kind "statistic": the curvature matrices alone, as the paper
    counts; "all": with the inverses or roots that are in use, which an implementation has to keep
    as well. difference: from the paper's count, min{m, n}^2 or m^2 + n^2, twice that for "all".
    count: layers of ResNet-32 of that shape. Momentum and eigenvalues are left out. NG+'s printed
    reading takes the smaller side, its authors' code always the left one.
    """
    rows: list[dict[str, object]] = []
    for (m, n), count in layers().items():
        squares = m * m + n * n
        predicted = {
            "ng_plus": min(m, n) ** 2, "ng_plus_authors": m * m, "kfac": squares,
            "shampoo": squares,
        }  # fmt: skip
        for method, numbers in predicted.items():
            kept = numbers_kept(method, m, n)
            for kind, total, times in (
                ("statistic", kept["statistic"], 1), ("all", sum(kept.values()), 2)
            ):  # fmt: skip
                rows.append(
                    {
                        "method": method, "kind": kind, "m": m, "n": n, "count": count,
                        "value": total / (m * n), "difference": total - times * numbers,
                        "seed": len(rows),
                    }
                )  # fmt: skip
    return rows


def layers() -> dict[tuple[int, int], int]:
    """Shapes of the matrices of ResNet-32 on CIFAR-10, with their number, and `SHAPES`."""
    shapes = [
        (len(weight), weight[0].numel())
        for weight in ResNetCIFAR(32, 10).parameters()
        if weight.ndim > 1
    ]
    return {shape: shapes.count(shape) for shape in (*dict.fromkeys(shapes), *SHAPES)}


def numbers_kept(method: str, m: int, n: int) -> dict[str, int]:
    """Numbers in the statistics and in the inverses or roots that a method keeps after a step."""
    layer = nn.Linear(n, m, bias=False)
    makers = {
        "ng_plus": lambda: NGPlus(layer.parameters(), model=layer, momentum=0.0),
        "ng_plus_authors": lambda: NGPlusAuthors(layer.parameters(), model=layer, momentum=0.0),
        "kfac": lambda: KFAC(layer.parameters(), model=layer, momentum=0.0),
        "shampoo": lambda: Shampoo(
            layer.parameters(), momentum=0.0, block_size=max(m, n), merge_dims=False
        ),
    }
    optimizer = makers[method]()
    inputs = torch.randn(4, n, generator=torch.Generator().manual_seed(0))
    recorded = (
        optimizer.record(num_samples=4, batch_dim=0, weights=torch.full((4,), 0.25))
        if hasattr(optimizer, "record")
        else contextlib.nullcontext()
    )
    with recorded:
        F.mse_loss(layer(inputs), torch.ones(4, m)).backward()
    optimizer.step()
    counts = {"statistic": 0, "root": 0}
    for state in optimizer.state.values():
        for name, value in state.items():
            for kind, prefixes in KINDS.items():
                if isinstance(value, Tensor) and name.startswith(prefixes):
                    counts[kind] += value.numel()
    return counts


def block_cost() -> list[dict[str, object]]:
    """Operations of NG+'s inverses of 1024 rows, whole against blocks of p: 64, 128, 256 and 512.

    value: ratio of what the factorisations and inverses in a step count, each by the shapes that
    it is called with; predicted s^2. products: ratio of the step's matrix products, statistic and
    direction.
    """
    m, n = 1024, 1100
    inverses, products = operations(m, n, None)
    rows: list[dict[str, object]] = []
    for seed, p in enumerate((64, 128, 256, 512)):
        ours, theirs = operations(m, n, p)
        rows.append(
            {
                "p": p, "s": m // p, "value": inverses / ours, "predicted": (m // p) ** 2,
                "products": products / theirs, "seed": seed,
            }
        )  # fmt: skip
    return rows


def operations(m: int, n: int, block_size: int | None) -> tuple[int, int]:
    """Floating-point operations of a step of NG+ that renews one layer: inverses, products.

    Cholesky's factorisation of k rows counts k^3 / 3, the inverse from it 2 k^3 / 3 and products as
    torch counts them, a multiplication and an addition as two.

    Raises:
        ValueError: if the step inverts nothing that is counted.
    """
    layer = nn.Linear(n, m, bias=False)
    options = {"statistic": "minibatch", "initial": 0.1, "block_size": block_size}
    optimizer = NGPlus(layer.parameters(), model=layer, **options)
    layer.weight.grad = kit.gaussian(
        m, n, generator=torch.Generator().manual_seed(0), dtype=torch.float32
    )
    # In thirds, to stay with whole numbers.
    counted = {aten.linalg_cholesky_ex: cubes(1), aten.cholesky_inverse: cubes(2)}
    with FlopCounterMode(display=False, custom_mapping=counted) as counter:
        optimizer.step()
    flops = counter.get_flop_counts()["Global"]
    thirds = sum(flops.get(op, 0) for op in counted)
    if thirds == 0:
        raise ValueError(f"a step of NG+ with blocks of {block_size} made no Cholesky factor")
    return thirds // 3, sum(flops.values()) - thirds


def cubes(factor: int) -> Callable[..., int]:
    """Counts so many times the cube of the rows of each matrix of a batch."""

    def count(shape: torch.Size, *args: object, out_shape=None, **kwargs: object) -> int:
        return factor * prod(shape[:-2]) * shape[-1] ** 3

    return count


EXACT = {
    "ngplus_statistics": statistics,
    "ngplus_storage": storage,
    "ngplus_block_cost": block_cost,
}
