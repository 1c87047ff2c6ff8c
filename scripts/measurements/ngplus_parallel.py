"""NG+ on several devices: processes that share their statistics [Yang et al. 2021, section 2.5]."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from optimizers import NGPlus
from optimizers.capture.samples import OuterSamples
from optimizers.linalg.inverse import damped_inverse
from scripts.measurements import kit

ROWS, COLUMNS, BATCH = 6, 9, 12  # the batch divides by the numbers of processes
NUM_STEPS, FREQUENCY = 12, 4
DAMPING, RATE = 0.3, 0.05
WORLDS = (2, 3)
MINIBATCH = {
    "statistic": "minibatch", "beta2": 0.9, "gamma": 0.1, "update_freq": FREQUENCY,
    "damping": DAMPING, "lr": RATE, "momentum": 0.0, "statistics_dtype": "float64",
    "root_dtype": "float64", "apply_dtype": "float64",
}  # fmt: skip


def data_parallel() -> list[dict[str, object]]:
    """Least squares on 2 and 3 processes (gloo) against one, with (4) and with (12).

    Each process has its share of every batch and averages gradients over all; with (4) its L_j
    too, every 4 of 12 steps. Rows: case "statistic" and "weights", relative difference of L and of
    the weights at the end from those of one process; "collectives", all-reduces a step beside
    those of the gradient. (12) is made from the averaged gradient by the optimizer itself.
    """
    alone = {form: train(form, 0, 1)[0] for form in ("samples", "minibatch")}
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
    for form in ("samples", "minibatch"):
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
    optimizer = NGPlus(layer.parameters(), model=layer, **MINIBATCH)
    L = inverse = torch.eye(ROWS, dtype=torch.float64)
    for step in range(NUM_STEPS):
        inputs = kit.gaussian(BATCH, COLUMNS, generator=generator)
        targets = kit.gaussian(BATCH, ROWS, generator=generator)
        share = slice(rank * BATCH // world, (rank + 1) * BATCH // world)
        samples = gradients(layer.weight.detach(), inputs[share], targets[share])
        G = averaged(samples.gradients().mean(0), "gradient")
        if form == "minibatch":
            layer.weight.grad = G
            optimizer.step()
            continue
        if step % FREQUENCY == 0:
            L = averaged(samples.left() / len(samples), "curvature")
            inverse = damped_inverse(L, DAMPING).inverse
        layer.weight.data -= RATE * inverse @ G
    if form == "minibatch":
        (L,) = [t[0] for _, quantity, t in optimizer.matrices() if quantity == "statistic"]
    return (layer.weight.detach(), L), dict(counts)


def gradients(weight: Tensor, inputs: Tensor, targets: Tensor) -> OuterSamples:
    """Per-sample gradients of |W x - y|^2 / 2."""
    return OuterSamples(inputs[:, None], (inputs @ weight.T - targets)[:, None])


EXACT = {"ngplus_data_parallel": data_parallel}
