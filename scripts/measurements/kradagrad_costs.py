"""Operations, bytes and passes of a step (KrADagrad paper, sections 2.5 and 4.1, Table 2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor, nn

from optimizers import GGT, AdagradBMA, KrADagrad, KrADagradStar, Shampoo
from optimizers.linalg.krad import krad_
from optimizers.telemetry import state_bytes
from scripts.measurements import kit

SQUARES = (32, 64, 128, 256)
SHAPES = ((32, 48), (64, 64), (96, 32), (128, 192))
KRONECKER: dict[str, type[torch.optim.Optimizer]] = {
    "shampoo": Shampoo,
    "kradagrad_star": KrADagradStar,
    "kradagrad": KrADagrad,
}


def _stepped(name: str, m: int, n: int, num_steps: int = 1) -> torch.optim.Optimizer:
    """An optimizer over one m x n matrix, no momentum, one block, after some steps."""
    parameter = nn.Parameter(torch.zeros(m, n))
    parameter.grad = kit.gaussian(m, n, generator=torch.Generator().manual_seed(0)).float()
    # Merged, a small matrix would be a vector.
    options = {"momentum": 0.0, "update_freq": 1, "block_size": max(m, n), "merge_dims": False}
    optimizer = KRONECKER[name]([parameter], lr=1e-3, **options)
    for _ in range(num_steps):
        optimizer.step()
    return optimizer


def memory() -> list[dict]:
    """Bytes of the state without momentum: case, shape, value.

    part "share": over 8 (m^2 + n^2), that is a statistic and its root for each mode in float32;
    "slope": of log bytes on log n for square matrices.
    """
    rows = []
    for name in KRONECKER:
        for seed, (m, n) in enumerate(SHAPES):
            share = state_bytes(_stepped(name, m, n)) / (8 * (m * m + n * n))
            shape = f"{m}x{n}"
            rows.append({"case": name, "part": "share", "shape": shape, "seed": seed,
                         "value": share})  # fmt: skip
        sizes = [state_bytes(_stepped(name, n, n)) for n in SQUARES]
        slope = kit.log_slope(SQUARES, sizes)
        rows.append({"case": name, "part": "slope", "shape": None, "seed": 0, "value": slope})
    return rows


def operations() -> list[dict]:
    """Operations of the products in a step that takes roots, n x n: part "step" and their "slope".

    Decompositions are not counted: `kradagrad_root_times` has their times.
    """
    rows = []
    for name in KRONECKER:
        counts = []
        for n in SQUARES:
            # The schedule of KrADagrad repeats only later: the third step is like the first.
            optimizer = _stepped(name, n, n, num_steps=2)
            counts.append(kit.flops(optimizer.step))
            rows.append({"case": name, "part": "step", "size": n, "seed": n, "value": counts[-1]})
        slope = kit.log_slope(SQUARES, counts)
        rows.append({"case": name, "part": "slope", "size": None, "seed": 0, "value": slope})
    return rows


def increment() -> list[dict]:
    """Section 4.1: operations of dL = L G R G' L / t over 2 N (2 m + n) + 2 m^2 + 2 m^3, N = m n.

    case "printed": the counted products of ((L G) R) G', then times L, and 2 m^2 for the Frobenius
    norm, which are put in by hand, as only products are counted; "kernel": the products that the
    optimizers make from F = G R^1/2, without the one that makes F.
    """
    rows = []
    for seed, generator in kit.cases(20):
        m, n = 8 + 4 * (seed % 5), 12 + 6 * (seed % 4)
        left, right = (kit.random_spd(k, 1e2, generator) for k in (m, n))
        g = kit.gaussian(m, n, generator=generator)
        expected = 2 * m * n * (2 * m + n) + 2 * m**2 + 2 * m**3
        printed = kit.flops(_product(left, g, right)) + 2 * m * m
        kernel = kit.flops(partial(krad_, left[None].clone(), g[None], "frobenius", 1))
        for case, count in (("printed", printed), ("kernel", kernel)):
            rows.append(
                {"case": case, "shape": f"{m}x{n}", "seed": seed, "value": count / expected}
            )
    return rows


def _product(left: Tensor, g: Tensor, right: Tensor) -> Callable[[], Tensor]:
    return lambda: ((left @ g) @ right) @ g.mT @ left


# ---------------------------------------------------------------- passes and copies


def passes() -> list[dict]:
    """Forward and backward passes through a network a step, counted by hooks over five steps.

    Gradients come from one pass of each; what an optimizer adds to it, by a closure that it may
    call or by passes of its own, is counted too.
    """
    rows = []
    methods: dict[str, Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]] = {
        **KRONECKER,
        "ggt": lambda parameters: GGT(parameters, lr=1e-3, window=5),
        "adagrad_bma": AdagradBMA,
    }
    for name, make in methods.items():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
        counts = {"forward": 0, "backward": 0}
        model.register_forward_hook(_counter(counts, "forward"))
        model.register_full_backward_hook(_counter(counts, "backward"))
        optimizer, inputs = make(model.parameters()), torch.randn(8, 6, requires_grad=True)

        def closure(model=model, optimizer=optimizer, inputs=inputs) -> Tensor:
            optimizer.zero_grad()
            loss = model(inputs).square().mean()
            loss.backward()
            return loss

        for _ in range(5):
            optimizer.step(closure)
        for part, count in counts.items():
            rows.append({"case": name, "part": part, "seed": 0, "value": count / 5})
    return rows


def _counter(counts: dict[str, int], part: str) -> Callable[..., None]:
    def count(*_: object) -> None:
        counts[part] += 1

    return count


def copies() -> list[dict]:
    """Section 2.5: bytes of GGT's state over those of the gradient, r = 200 and d = 100,000."""
    d, r = 100_000, 200
    parameter = nn.Parameter(torch.zeros(d))
    parameter.grad = torch.ones(d)
    optimizer = GGT([parameter], lr=1e-3, window=r)
    optimizer.step()
    value = state_bytes(optimizer) / (4 * d)
    return [{"case": "ggt", "r": r, "seed": 0, "value": value}]


EXACT = {
    "kradagrad_memory": memory,
    "kradagrad_operations": operations,
    "kradagrad_increment": increment,
    "kradagrad_passes": passes,
    "kradagrad_copies": copies,
}
