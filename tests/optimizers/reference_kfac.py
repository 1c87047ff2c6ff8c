"""K-FAC [Martens and Grosse 2015] on a small network, sample by sample; shares no code with ours.

The network: a 3 x 3 convolution with stride 2, padding 1 and bias, tanh, a linear layer with bias.
"""

from __future__ import annotations

import torch
from torch import Tensor

Matrices = list[Tensor]


def patches(image: Tensor) -> Tensor:
    """What the convolution sees at each position, with a one for the bias, shape (T, 9 c + 1)."""
    channels, height, width = image.shape
    rows = []
    for i in range(0, height, 2):
        for j in range(0, width, 2):
            seen = [
                image[c, i + k, j + l] if 0 <= i + k < height and 0 <= j + l < width else 0.0
                for c in range(channels)
                for k in (-1, 0, 1)
                for l in (-1, 0, 1)
            ]
            rows.append([float(value) for value in seen] + [1.0])
    return torch.tensor(rows, dtype=torch.float64)


def loss_of_sample(weights: Matrices, image: Tensor, target: Tensor):
    """Squared error of one sample, and inputs (T, n) and outputs (T, m) of both layers."""
    first = patches(image)
    z = first @ weights[0].T
    second = torch.cat([torch.tanh(z).T.reshape(-1), torch.ones(1, dtype=z.dtype)])[None]
    y = second @ weights[1].T
    return ((y[0] - target) ** 2).mean(), [first, second], [z, y]


def factors(weights: Matrices, images: Tensor, targets: Tensor) -> tuple[Matrices, Matrices]:
    """A and G of both layers: means over samples; G is a mean over positions too."""
    A, G = [0.0, 0.0], [0.0, 0.0]
    for image, target in zip(images, targets, strict=True):
        free = [weight.clone().requires_grad_() for weight in weights]
        loss, inputs, outputs = loss_of_sample(free, image, target)
        deltas = torch.autograd.grad(loss, outputs)
        for k in range(2):
            for t in range(len(deltas[k])):
                a, d = inputs[k][t].detach(), deltas[k][t]
                A[k] = A[k] + torch.outer(a, a) / len(images)
                G[k] = G[k] + torch.outer(d, d) / (len(images) * len(deltas[k]))
    return A, G


def gradient(weights: Matrices, images: Tensor, targets: Tensor) -> Matrices:
    """Gradient of the mean loss."""
    free = [weight.clone().requires_grad_() for weight in weights]
    losses = [
        loss_of_sample(free, image, target)[0]
        for image, target in zip(images, targets, strict=True)
    ]
    return list(torch.autograd.grad(sum(losses) / len(losses), free))


def kfac(
    weights: Matrices,
    batches: list[tuple[Tensor, Tensor]],
    *,
    lr: float,
    momentum: float,
    damping: float,
    weight_decay: float,
    beta2: float,
    statistics_freq: int,
    update_freq: int,
) -> Matrices:
    """The weights [W b] of both layers after one step a batch."""
    v = [torch.zeros_like(weight) for weight in weights]
    for t, (images, targets) in enumerate(batches):
        grads = gradient(weights, images, targets)
        if t % statistics_freq == 0:
            new_A, new_G = factors(weights, images, targets)
            if t == 0:
                A, G = new_A, new_G
            else:
                A = [beta2 * old + (1 - beta2) * new for old, new in zip(A, new_A, strict=True)]
                G = [beta2 * old + (1 - beta2) * new for old, new in zip(G, new_G, strict=True)]
        if t % update_freq == 0:
            inverses = []
            for a, g in zip(A, G, strict=True):
                pi = ((torch.trace(a) / len(a)) / (torch.trace(g) / len(g))) ** 0.5
                eye_a, eye_g = (torch.eye(len(x), dtype=x.dtype) for x in (a, g))
                inverses.append(
                    (
                        torch.linalg.inv(a + pi * damping**0.5 * eye_a),
                        torch.linalg.inv(g + damping**0.5 / pi * eye_g),
                    )
                )
        for k, (inverse_a, inverse_g) in enumerate(inverses):
            v[k] = momentum * v[k] + inverse_g @ grads[k] @ inverse_a
            weights[k] = (1 - lr * weight_decay) * weights[k] - lr * v[k]
    return weights
