"""NG+'s direction beside the natural gradient, on the layers of a CNN as it is trained on MNIST.

[Yang et al. 2021, section 2.2]: (damping I + EFIM)^-1 g ~ (damping I + L)^-1 G, EFIM the mean of
vec(G_i) vec(G_i)^T. The layers are small enough for EFIM as it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from optimizers import NGPlus
from optimizers.capture.record import Layer, find_layers, record_calls
from scripts.measurements import kit
from tasks.data import images
from tasks.data.arrays import load_images
from tasks.data.store import require
from tasks.models.tanh_cnn import TanhCNN

SEEDS = range(5)
CHECKPOINTS = (0, 20, 60, 120)
BATCH_SIZE, NUM_SAMPLES = 32, 512
MEAN, STD = 0.1307, 0.3081  # as in conf/task/mnist_cnn_small.yaml
DAMPINGS = (0.16, 0.01)  # the paper's on ResNet-50, and one below most eigenvalues


def angles() -> list[dict[str, object]]:
    """Cosines with the exact direction and errors of the approximations, along runs of NG+.

    A row a seed, checkpoint (`step`), layer and damping, over 512 images:
    plain, printed, normalised: cosine between (damping I + EFIM)^-1 g and g, (damping I + L)^-1 G,
    and (damping I + L / n)^-1 G, L / n being what E[EFIM] = I (x) L / n gives; R for L where n < m.
    error_*: relative Frobenius error of damping I + EFIM by I (x) (damping I + L), by
    I (x) (damping I + L / n), and by its own diagonal.
    Rows with the layer "all" are means over layers and checkpoints.
    """
    pixels, labels = training_images()
    rows = []
    for seed in SEEDS:
        own = [
            {"seed": seed, "step": step, "layer": layer, "damping": damping, **compared}
            for step, layer, samples in trajectory(pixels, labels, seed)
            for damping in DAMPINGS
            for compared in [comparison(samples, damping)]
        ]
        rows += own
        for damping in DAMPINGS:
            mine = [row for row in own if row["damping"] == damping]
            means = {key: sum(r[key] for r in mine) / len(mine) for key in COLUMNS}
            rows.append({"seed": seed, "step": -1, "layer": "all", "damping": damping, **means})
    return rows


def comparison(samples: Tensor, damping: float) -> dict[str, float]:
    """The columns of one row from per-sample gradients, (B, m, n), float64."""
    b, m, n = samples.shape
    if m > n:  # the right side: the same with all matrices transposed
        samples, m, n = samples.mT, n, m
    # vec stacks columns; so do the rows of the transpose.
    flat = samples.mT.reshape(b, -1)
    G, g = samples.mean(0), flat.mean(0)
    efim = damping * torch.eye(m * n, dtype=torch.float64) + flat.T @ flat / b
    L = (samples @ samples.mT).mean(0)
    exact = torch.linalg.solve(efim, g)
    eye, wide = torch.eye(m, dtype=torch.float64), torch.eye(n, dtype=torch.float64)
    found = {"plain": cosine(exact, g)}
    for name, divisor in (("printed", 1), ("normalised", n)):
        left = damping * eye + L / divisor
        found[name] = cosine(exact, torch.linalg.solve(left, G).T.reshape(-1))
        found[f"error_{name}"] = kit.relative_error(torch.kron(wide, left), efim)
    found["error_diagonal"] = kit.relative_error(torch.diag(efim.diagonal()), efim)
    return found


COLUMNS = (
    "plain", "printed", "normalised", "error_printed", "error_normalised", "error_diagonal",
)  # fmt: skip


def cosine(a: Tensor, b: Tensor) -> float:
    """Cosine of the angle between two vectors; nan if one is 0."""
    return float(a @ b / (a.norm() * b.norm()))


# ---------------------------------------------------------------- the runs


def trajectory(pixels: Tensor, labels: Tensor, seed: int) -> Iterator[tuple[int, str, Tensor]]:
    """Train with NG+; yield (step, layer, per-sample gradients) at the checkpoints."""
    held, rest = slice(NUM_SAMPLES), slice(NUM_SAMPLES, None)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = TanhCNN((1, 28, 28), num_groups=4, num_classes=10, width=3, convs_per_group=1)
    optimizer = NGPlus(model.parameters(), model=model, lr=0.1, damping=0.16, update_freq=10)
    layers = find_layers(model, list(model.parameters()))
    order = torch.randperm(len(labels[rest]), generator=torch.Generator().manual_seed(seed))
    batches = iter(order.split(BATCH_SIZE))
    for step in range(CHECKPOINTS[-1] + 1):
        if step in CHECKPOINTS:
            yield from per_sample(model, layers, pixels[held], labels[held], step)
        batch = next(batches)
        optimizer.zero_grad()
        weights = torch.full((len(batch),), 1 / len(batch))
        with optimizer.record(num_samples=len(batch), batch_dim=0, weights=weights):
            F.cross_entropy(model(pixels[rest][batch]), labels[rest][batch]).backward()
        optimizer.step()


def per_sample(
    model: TanhCNN, layers: list[Layer], pixels: Tensor, labels: Tensor, step: int
) -> Iterator[tuple[int, str, Tensor]]:
    """Gradients of each image's loss by each layer's [W b], (B, m, n), float64."""
    weights = torch.full((len(labels),), 1 / len(labels))
    with record_calls(layers, len(labels), 0, weights) as recording:
        F.cross_entropy(model(pixels), labels).backward()
    for layer in layers:
        chunks = recording.samples(layer, dtype=torch.float64)
        yield step, layer.path, torch.cat([chunk.gradients() for chunk in chunks])
    model.zero_grad()


def training_images() -> tuple[Tensor, Tensor]:
    """Images of MNIST, normalised, (N, 1, 28, 28), and their labels: as many as are needed."""
    folder = require("mnist", os.environ.get("KAPPA_DATA") or "data", images.FILES)
    pixels, labels = load_images(folder, "train", (28, 28), 10)
    count = NUM_SAMPLES + BATCH_SIZE * (CHECKPOINTS[-1] + 1)
    pixels = torch.as_tensor(pixels[:count]).view(-1, 1, 28, 28) / 255
    return (pixels - MEAN) / STD, torch.as_tensor(labels[:count]).long()


SLOW = {"ngplus_angle": angles}
