"""The empirical Fisher matrix of the small MNIST model and its approximations [Lu et al., Fig. 4].

The paper prints the mean squared errors of a matrix whose values "are normalised for better
visualisation" and does not say how, nor at which weights or over how many images it was taken. So
several normalisations are measured, at initial and at trained weights.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn.utils import parameters_to_vector

from optimizers import AdagradBMA
from optimizers.common.partition import num_blocks
from optimizers.linalg import block_mean
from scripts.measurements import kit
from scripts.measurements.bma_approximations import approximations, sizes_of
from scripts.measurements.bma_models import IMAGES, PARTITIONS, SIZES
from tasks.data import images
from tasks.data.arrays import load_images
from tasks.data.store import require
from tasks.models.tanh_cnn import TanhCNN

NUM_IMAGES = 2000
MEAN, STD = 0.1307, 0.3081  # of the training images, as in conf/task/mnist_cnn_small.yaml
NUM_DRAWS = 5  # of the initial weights
TRAINING = {"steps": 150, "batch_size": 64, "lr": 0.1}

NORMALIZATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda F: F,
    "largest entry 1": lambda F: F / F.abs().max(),
    "Frobenius norm 1": lambda F: F / F.norm(),
    "root mean square 1": lambda F: F / F.square().mean().sqrt(),
    "mean absolute entry 1": lambda F: F / F.abs().mean(),
    "mean of the diagonal 1": lambda F: F / F.diagonal().mean(),
    "largest eigenvalue 1": lambda F: F / torch.linalg.matrix_norm(F, 2),
    "between 0 and 1": lambda F: (F - F.min()) / (F.max() - F.min()),
    "standardised": lambda F: (F - F.mean()) / F.std(),
    "correlations": lambda F: F / torch.outer(*2 * [F.diagonal().sqrt().clamp(min=1e-30)]),
    "absolute correlations": lambda F: NORMALIZATIONS["correlations"](F).abs(),
    "clipped at 99 %": lambda F: (F / torch.quantile(F.abs(), 0.99)).clamp(-1, 1),
    "clipped at 95 %": lambda F: (F / torch.quantile(F.abs(), 0.95)).clamp(-1, 1),
    "clipped at 90 %": lambda F: (F / torch.quantile(F.abs(), 0.90)).clamp(-1, 1),
    "signed square root": lambda F: F.sign() * (F.abs() / F.abs().max()).sqrt(),
}
PUBLISHED = {"layer": 0.1036, "unit": 0.1024, "group": 0.0998}


def initial() -> list[dict[str, object]]:
    """Errors at five draws of initial weights; rows as in `errors`."""
    pixels, labels = training_images()
    return [row for seed in range(NUM_DRAWS)
            for row in errors(small_model(seed), pixels, labels, seed, "initial")]  # fmt: skip


def trained() -> list[dict[str, object]]:
    """Errors after 150 steps of AdaGrad-BMA; rows as in `errors`, and of two further cases.

    "clamped": the share of the eigenvalues of W (eq. 27) in these steps that lie below the floor,
    and in `least` the least of them. "correction": median over the steps of the relative distance
    of a step from the one that diagonal AdaGrad would make of the same gradients.
    """
    pixels, labels = training_images()
    rows = []
    for seed in range(NUM_DRAWS):
        model = small_model(seed)
        eigenvalues, corrections = train(model, pixels, labels, seed)
        share = float((eigenvalues < 1e-3).double().mean())
        least = float(eigenvalues.min())
        rows.append({"case": "clamped", "seed": seed, "value": share, "least": least})
        rows.append({"case": "correction", "seed": seed, "value": float(corrections.median())})
        rows += errors(model, pixels, labels, seed, "trained")
    return rows


def matrix() -> list[dict[str, object]]:
    """The matrix at the first initial weights as a picture, a row a row of it.

    text: 322 signed bytes in base64, b = 127 sign(F) (|F| / largest)^{1/2}; value: the largest
    absolute entry. The rows lie in the order of the parameters, those of case "tensor" before them
    say which: name, size, and the number of its blocks in each partition.
    """
    pixels, labels = training_images()
    model = small_model(0)
    F = fisher(model, pixels[:NUM_IMAGES], labels[:NUM_IMAGES])
    bytes_ = (127 * NORMALIZATIONS["signed square root"](F)).round().to(torch.int8).numpy()
    largest = float(F.abs().max())
    rows: list[dict[str, object]] = [
        {"case": "tensor", "seed": i, "name": name, "size": parameter.numel(),
         **{p: num_blocks(parameter.shape, p) for p in PARTITIONS}}
        for i, (name, parameter) in enumerate(model.named_parameters())
    ]  # fmt: skip
    return rows + [
        {"case": "row", "seed": i, "value": largest, "text": base64.b64encode(line).decode()}
        for i, line in enumerate(bytes_)
    ]


# ---------------------------------------------------------------- the matrix


def training_images() -> tuple[Tensor, Tensor]:
    """The training images of MNIST, normalised, (n, 1, 28, 28), and their labels, (n,)."""
    folder = require("mnist", os.environ.get("KAPPA_DATA") or "data", images.FILES)
    pixels, labels = load_images(folder, "train", (28, 28), 10)
    number = 64 * TRAINING["steps"]
    pixels, labels = torch.as_tensor(pixels[:number]), torch.as_tensor(labels[:number]).long()
    return (pixels.view(-1, 1, 28, 28) / 255 - MEAN) / STD, labels


def small_model(seed: int) -> TanhCNN:
    """The paper's small model with PyTorch's initial weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TanhCNN(IMAGES["mnist"], num_groups=4, num_classes=10, **SIZES["small"])


def train(model: TanhCNN, pixels: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Train in place with AdaGrad-BMA.

    Returns:
        The eigenvalues of W in all steps, (num_steps, L), and the relative distances of the steps
        from diagonal AdaGrad's, (num_steps,).
    """
    optimizer = AdagradBMA(model.parameters(), lr=TRAINING["lr"])
    damping = optimizer.param_groups[0]["damping"]
    squares = torch.zeros(sum(parameter.numel() for parameter in model.parameters()))
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(seed))
    seen, corrections = [], []
    for batch in order.split(TRAINING["batch_size"])[: TRAINING["steps"]]:
        before = parameters_to_vector(model.parameters()).detach()
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(pixels[batch]), labels[batch]).backward()
        optimizer.step()
        (spectrum,) = optimizer.spectra()
        seen.append(spectrum.eigenvalues)
        gradient = parameters_to_vector(parameter.grad for parameter in model.parameters())
        squares += gradient.square()
        diagonal = -TRAINING["lr"] * gradient / (squares + damping).sqrt()
        step = parameters_to_vector(model.parameters()).detach() - before
        corrections.append(kit.relative_error(step, diagonal))
    return torch.stack(seen), torch.tensor(corrections)


def fisher(model: TanhCNN, pixels: Tensor, labels: Tensor) -> Tensor:
    """Mean of g g' over the images, g the gradient of log p(label | image); (d, d), float64."""
    parameters = {name: value.detach() for name, value in model.named_parameters()}

    def loss(parameters: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(model, parameters, image[None])
        return torch.nn.functional.cross_entropy(logits, label[None])

    gradients = vmap(grad(loss), (None, 0, 0), chunk_size=500)(parameters, pixels, labels)
    flat = torch.cat([g.reshape(len(pixels), -1) for g in gradients.values()], dim=1).double()
    return flat.mT @ flat / len(flat)


# ---------------------------------------------------------------- errors


def errors(
    model: TanhCNN, pixels: Tensor, labels: Tensor, seed: int, state: str
) -> list[dict[str, object]]:
    """Mean squared errors over the entries of the matrix, a row each.

    case "block_mean" for each `normalization` and `partition`, with `published`; case "baseline"
    for each `method` at the normalisation "mean of the diagonal 1", with `storage`, the numbers
    that it keeps.
    """
    F = fisher(model, pixels[:NUM_IMAGES], labels[:NUM_IMAGES])
    common = {"seed": seed, "state": state, "size": len(F)}
    rows: list[dict[str, object]] = []
    for name, normalize in NORMALIZATIONS.items():
        normalized = normalize(F)
        for partition, error in block_mean_errors(model, normalized):
            rows.append({"case": "block_mean", "normalization": name, "partition": partition,
                         "value": error, "published": PUBLISHED[partition], **common})  # fmt: skip
    normalized = NORMALIZATIONS["mean of the diagonal 1"](F)
    shapes = [parameter.shape for parameter in model.parameters()]
    for method, storage, approximation in approximations(normalized, shapes):
        error = float((approximation - normalized).square().mean())
        rows.append({"case": "baseline", "method": method, "storage": storage, "value": error,
                     **common})  # fmt: skip
    return rows


def block_mean_errors(model: TanhCNN, matrix: Tensor) -> Iterator[tuple[str, float]]:
    """Mean squared error of the best block-mean approximation for each partition."""
    for partition in PARTITIONS:
        sizes = sizes_of([parameter.shape for parameter in model.parameters()], partition)
        dense = block_mean.dense(*block_mean.approximate(matrix, sizes), sizes)
        yield partition, float((dense - matrix).square().mean())


EXACT = {"bma_fisher": initial, "bma_fisher_trained": trained, "bma_fisher_matrix": matrix}
