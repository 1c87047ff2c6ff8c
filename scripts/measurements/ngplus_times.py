"""Seconds of NG+'s parts and of its competitors' [Yang et al. 2021, sections 2.4-2.5, 3.2-3.3]."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from optimizers import KFAC, LARS, NGPlus
from optimizers.capture.samples import OuterSamples
from optimizers.layerwise.kfac_factors import Sums
from optimizers.linalg.inverse import damped_inverse
from optimizers.linalg.powers import power_by_eigh
from optimizers.linalg.sketch import draw_rows, sketch_scale
from scripts.measurements import kit
from tasks.models.resnet_cifar import ResNetCIFAR
from tasks.models.resnet_imagenet import ResNetImageNet

BATCH = 16
FREQUENCY = 500  # the paper's, for NG+ and K-FAC
# (rows m, columns n, positions) -> layers of ResNet-32 on 32 x 32 images; biases apart.
RESNET32 = {
    (16, 27, 1024): 1, (16, 144, 1024): 10, (32, 144, 256): 1, (32, 288, 256): 9,
    (64, 288, 64): 1, (64, 576, 64): 9, (10, 64, 1): 1,
}  # fmt: skip


def layers() -> list[dict[str, object]]:
    """Seconds of K-FAC's, Shampoo's and NG+'s parts on each shape of ResNet-32, batches of 16.

    Rows of `case` (method), `part` ("construction", "roots", "apply") and `of`: "layer", with the
    shape and the `count` of its layers, or "network", the sum over all 32 layers; there the part
    "all" is their sum, each once a step.
    """
    rows = []
    for (m, n, positions), count in RESNET32.items():
        generator = torch.Generator().manual_seed(0)
        activations = kit.gaussian(BATCH, positions, n, generator=generator, dtype=torch.float32)
        deltas = kit.gaussian(BATCH, positions, m, generator=generator, dtype=torch.float32)
        labels = {"of": "layer", "m": m, "n": n, "count": count}
        for part, functions in parts(activations, deltas).items():
            rows += kit.in_turns(functions, turns=7, part=part, **labels)
    totals: Counter[tuple[str, str, int]] = Counter()
    for row in rows:
        for part in (row["part"], "all"):
            totals[row["case"], part, row["seed"]] += row["count"] * row["value"]
    return rows + [
        {"case": case, "part": part, "of": "network", "seed": seed, "value": seconds}
        for (case, part, seed), seconds in totals.items()
    ]


def parts(activations: Tensor, deltas: Tensor) -> dict[str, dict[str, Callable[[], object]]]:
    """part -> method -> function, for one layer."""
    m, n = deltas.shape[-1], activations.shape[-1]
    samples = OuterSamples(activations, deltas, sequential=False)
    G = samples.gradients().mean(0)
    left = m <= n
    L = (samples.left() if left else samples.right()) / BATCH
    A, S = kronecker(activations, deltas)
    inverse = damped_inverse(L, 0.16).inverse
    two = damped_inverse(S, 0.1).inverse, damped_inverse(A, 0.1).inverse
    sides = G @ G.T, G.T @ G
    return {
        "construction": {
            "ng_plus": samples.left if left else samples.right,
            "kfac": lambda: kronecker(activations, deltas),
            "shampoo": lambda: (G @ G.T, G.T @ G),
        },
        "roots": {
            "ng_plus": lambda: damped_inverse(L, 0.16),
            "kfac": lambda: (damped_inverse(S, 0.1), damped_inverse(A, 0.1)),
            "shampoo": lambda: [power_by_eigh(side, -0.25, damping=1e-4) for side in sides],
        },
        "apply": {
            "ng_plus": lambda: inverse @ G if left else G @ inverse,
            "kfac": lambda: two[0] @ G @ two[1],
            "shampoo": lambda: two[0] @ G @ two[1],
        },
    }


def kronecker(activations: Tensor, deltas: Tensor) -> tuple[Tensor, Tensor]:
    """K-FAC's factors of one layer, of inputs and of output gradients."""
    sums = Sums()
    sums.add(activations, deltas)
    return sums.means()


# ---------------------------------------------------------------- sections 3.2 and 3.3


def sketching() -> list[dict[str, object]]:
    """Seconds of drawing and gathering q of n = 4096 columns, and of products with 512 rows.

    case "sketch": draws and gathers; "product": of the 512 x q matrix with its transpose; "whole":
    of all columns.
    """
    G = kit.gaussian(512, 4096, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    rows = []
    for q in (256, 1024):
        taken = sampled(G, q)
        functions = {
            "sketch": lambda q=q: sampled(G, q),
            "product": lambda taken=taken: taken @ taken.T,
            "whole": lambda: G @ G.T,
        }
        rows += kit.in_turns(functions, turns=21, q=q)
    return rows


def sampled(G: Tensor, q: int) -> Tensor:
    """G Omega of (17), columns drawn anew."""
    n = G.shape[1]
    return G[:, draw_rows(n, q, 0)] * sketch_scale(n, q)


def blocks() -> list[dict[str, object]]:
    """Seconds of inverses: one of 1024 rows, its 8 diagonal blocks of 128 in a batch, and singly.

    shape: "8 of 128", "64 of 32" and "256 of 16" beside "1 of 1024"; case "whole", "batched" or
    "loop".
    """
    generator = torch.Generator().manual_seed(0)
    X = kit.gaussian(1024, 1100, generator=generator, dtype=torch.float32)
    whole = X @ X.T / 1100
    rows = []
    for s, p in ((8, 128), (64, 32), (256, 16)):
        Y = kit.gaussian(s, p, p + 10, generator=generator, dtype=torch.float32)
        stack = Y @ Y.mT / p
        functions = {
            "batched": lambda stack=stack: damped_inverse(stack, 0.1),
            "loop": lambda stack=stack: [damped_inverse(block, 0.1) for block in stack],
        }
        if p == 128:
            functions["whole"] = lambda: damped_inverse(whole, 0.1)
        rows += kit.in_turns(functions, turns=15, shape=f"{s} of {p}", device="cpu")
    return rows


# ---------------------------------------------------------------- whole iterations


def iterations() -> list[dict[str, object]]:
    """Seconds of a training step, forward pass included, with curvature renewed every 500 steps.

    On two networks and random images: case sgd, lars, kfac and ng_plus. Of the last two a turn
    times a step that renews all and one that does not: (499 of the second + the first) / 500.
    K-FAC's factors and inverses are both renewed every 500 steps, as NG+'s statistic and inverse.
    """
    rows = []
    for name, make, size, classes in (
        ("ResNet-32", lambda: ResNetCIFAR(32, 10), 32, 10),
        ("ResNet-50 of width 16", resnet50, 32, 50),
    ):
        generator = torch.Generator().manual_seed(0)
        x = kit.gaussian(BATCH, 3, size, size, generator=generator, dtype=torch.float32)
        y = torch.randint(classes, (BATCH,), generator=generator)
        steps = {method: stepper(method, make(), x, y) for method in ("sgd", "lars")}
        for method in ("kfac", "ng_plus"):
            for freq, label in ((1, "renewal"), (10**9, "between")):
                steps[f"{method} {label}"] = stepper(method, make(), x, y, freq)
        timed = kit.in_turns(steps, turns=15, warmup=2, network=name)
        seconds = {(row["case"], row["seed"]): row["value"] for row in timed}
        rows += timed
        for method in ("kfac", "ng_plus"):
            for turn in range(15):
                renewal, between = (seconds[f"{method} {k}", turn] for k in ("renewal", "between"))
                value = ((FREQUENCY - 1) * between + renewal) / FREQUENCY
                rows.append({"case": method, "seed": turn, "value": value, "network": name})
    return rows


def resnet50() -> nn.Module:
    """The ResNet-50 of the experiment ngplus_fig2."""
    return ResNetImageNet(width=16, num_blocks=[3, 4, 6, 3], num_classes=50)


def stepper(
    method: str, model: nn.Module, x: Tensor, y: Tensor, freq: int = 1
) -> Callable[[], None]:
    """One training step of a method, as a function."""
    makers = {
        "sgd": lambda p: torch.optim.SGD(p, lr=1e-4, momentum=0.9),
        "lars": lambda p: LARS(p, lr=1e-4),
        "kfac": lambda p: KFAC(p, model=model, lr=1e-6, statistics_freq=freq, update_freq=freq),
        "ng_plus": lambda p: NGPlus(p, model=model, lr=1e-6, update_freq=freq),
    }
    optimizer = makers[method](model.parameters())
    weights = torch.full((len(x),), 1 / len(x))

    def step() -> None:
        optimizer.zero_grad()
        if hasattr(optimizer, "wants_samples") and optimizer.wants_samples():
            with optimizer.record(num_samples=len(x), batch_dim=0, weights=weights):
                F.cross_entropy(model(x), y).backward()
        else:
            F.cross_entropy(model(x), y).backward()
        optimizer.step()

    return step


TIMED = {
    "ngplus_layer_times": layers,
    "ngplus_sketch_times": sketching,
    "ngplus_block_times": blocks,
    "ngplus_step_times": iterations,
}
