"""NG+ on several devices: processes that share their statistics [Yang et al. 2021, section 2.5]."""

from __future__ import annotations

import contextlib
import tempfile
from collections import Counter
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from optimizers import NGPlus
from scripts.measurements import kit

ROWS, COLUMNS, BATCH = 6, 9, 12  # the batch divides by the numbers of processes
NUM_STEPS, FREQUENCY = 12, 4
DAMPING, RATE = 0.3, 0.05
WORLDS = (2, 3)
COMMON = {
    "update_freq": FREQUENCY, "damping": DAMPING, "lr": RATE, "momentum": 0.9,
    "statistics_dtype": "float64", "root_dtype": "float64", "apply_dtype": "float64",
}  # fmt: skip
FORMS = {"samples": {}, "minibatch": {"statistic": "minibatch", "beta2": 0.9, "gamma": 0.1}}


def data_parallel() -> list[dict[str, object]]:
    """Least squares on 2 and 3 processes (gloo) against one, with (4) and with (12).

    Each process has its share of every batch and an optimizer of its own, and averages gradients
    over all; with (4) also what the optimizer has gathered for its L_j, every 4 of 12 steps. Rows:
    case "statistic" and "weights", relative difference of L and of the weights at the end from
    those of one process; "collectives", all-reduces a step beside those of the gradient.
    """
    alone = {form: train(form, 0, 1)[0] for form in FORMS}
    rows: list[dict[str, object]] = []
    # One process imports torch, and all others are its copies: seconds less than a start of each.
    mp.get_context("forkserver").set_forkserver_preload([__name__])
    for world in WORLDS:
        with tempfile.TemporaryDirectory() as folder:
            mp.start_processes(work, args=(world, folder), nprocs=world, start_method="forkserver")
            for form, (weights, L) in alone.items():
                for rank in range(world):
                    found = torch.load(Path(folder) / f"{form}-{rank}", weights_only=True)
                    calls = found["curvature"] / NUM_STEPS
                    values = {
                        "weights": kit.relative_error(found["weights"], weights),
                        "statistic": kit.relative_error(found["L"], L),
                        "collectives": calls,
                        "gradient collectives": found["gradient"] / NUM_STEPS,
                    }
                    common = {"form": form, "processes": world, "rank": rank}
                    rows += [{"case": c, **common, "value": v} for c, v in values.items()]
    return [{**row, "seed": seed} for seed, row in enumerate(rows)]


def work(rank: int, world: int, folder: str) -> None:
    """One process: joins the others, trains with both forms, writes what it ends with."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world
    )
    for form in FORMS:
        (weights, L), counts = train(form, rank, world)
        found = {"weights": weights, "L": L, "gradient": 0, "curvature": 0, **counts}
        torch.save(found, Path(folder) / f"{form}-{rank}")
    dist.destroy_process_group()


def train(form: str, rank: int, world: int) -> tuple[tuple[Tensor, Tensor], dict[str, int]]:
    """The weights and L at the end, and the number of all-reduces by what they were for."""
    counts: Counter[str] = Counter()

    def averaged(tensor: Tensor, purpose: str) -> Tensor:
        if world > 1:
            counts[purpose] += 1
            dist.all_reduce(tensor)
        return tensor / world

    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(COLUMNS, ROWS, bias=False, dtype=torch.float64)
    layer.weight.data.copy_(kit.gaussian(ROWS, COLUMNS, generator=generator))
    optimizer = NGPlus(layer.parameters(), model=layer, **COMMON, **FORMS[form])
    for _ in range(NUM_STEPS):
        inputs = kit.gaussian(BATCH, COLUMNS, generator=generator)
        targets = kit.gaussian(BATCH, ROWS, generator=generator)
        share = slice(rank * BATCH // world, (rank + 1) * BATCH // world)
        wanted = optimizer.wants_samples()
        optimizer.zero_grad()
        backward(optimizer, layer, inputs[share], targets[share], wanted)
        if wanted:
            # The mean of a sum over this process's samples is its L_j.
            gathered = optimizer.gathered(optimizer.buckets[0], 0)
            gathered.total = averaged(gathered.total, "curvature")
        layer.weight.grad = averaged(layer.weight.grad, "gradient")
        optimizer.step()
    (L,) = [t[0] for _, quantity, t in optimizer.matrices() if quantity == "statistic"]
    return (layer.weight.detach(), L), dict(counts)


def backward(
    optimizer: NGPlus, layer: nn.Linear, inputs: Tensor, targets: Tensor, recorded: bool
) -> None:
    """Gradient of the mean of |W x - y|^2 / 2, seen by the optimizer where it asks for samples."""
    b = len(inputs)
    weights = torch.full((b,), 1 / b, dtype=torch.float64)
    with optimizer.record(b, 0, weights) if recorded else contextlib.nullcontext():
        ((layer(inputs) - targets).square().sum() / (2 * b)).backward()


SLOW = {"ngplus_data_parallel": data_parallel}
