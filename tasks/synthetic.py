"""Generators and solvers that the synthetic convex tasks share; everything is float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tasks.base import Batch
from tasks.seeding import seeded

# (value, gradient (d,), Hessian (d, d)) at a point (d,)
Derivatives = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]


def random_rotation(dim: int, generator: torch.Generator) -> Tensor:
    """Draw an orthogonal matrix (dim, dim) uniformly: QR of a Gaussian, R's signs made positive.

    Source: Mezzadri 2007, "How to generate random matrices from the classical compact groups".
    """
    gaussian = torch.randn(dim, dim, dtype=torch.float64, generator=generator)
    q, r = torch.linalg.qr(gaussian)
    return q * r.diagonal().sign()


def anisotropic_covariance(dim: int, condition: float, generator: torch.Generator) -> Tensor:
    """Draw a rotated covariance whose eigenvalues are log-spaced from 1 to 1/condition.

    Rotated because axis-aligned data would make diagonal and full preconditioners the same.

    Returns:
        Covariance, shape (dim, dim).
    Raises:
        ValueError: if condition < 1.
    """
    if not condition >= 1:
        raise ValueError(f"condition must be >= 1, got {condition}")
    rotation = random_rotation(dim, generator)
    exponents = torch.linspace(0, 1, dim, dtype=torch.float64)
    return (rotation * condition**-exponents) @ rotation.mT


def gaussian_samples(num_samples: int, covariance: Tensor, generator: torch.Generator) -> Tensor:
    """Draw from N(0, covariance); returns (num_samples, dim)."""
    white = torch.randn(num_samples, len(covariance), dtype=torch.float64, generator=generator)
    return white @ torch.linalg.cholesky(covariance).mT


def minimize_newton(
    derivatives: Derivatives, start: Tensor, tolerance: float = 1e-12, max_iterations: int = 200
) -> Tensor:
    """Minimise a smooth strictly convex function by Newton's method with backtracking.

    Args:
        derivatives: point -> (value, gradient, Hessian); value is +inf outside the domain.
        start: point of the domain, shape (d,), float64.
        tolerance: bound on the norm of the gradient at the result.
    Returns:
        The minimiser, shape (d,).
    Raises:
        ArithmeticError: if the tolerance is not reached.
    """
    point = start.clone()
    for _ in range(max_iterations):
        value, grad, hessian = derivatives(point)
        if grad.norm() <= tolerance:
            return point
        step = torch.linalg.solve(hessian, grad)
        decrement = (grad @ step).item()
        # Below 1e-8 the decrease drowns in the value's rounding; the pure step is then safe.
        scale = 1.0
        while decrement > 1e-8 and scale > 1e-12:
            if derivatives(point - scale * step)[0] <= value - 0.25 * scale * decrement:
                break
            scale /= 2
        point = point - scale * step
    raise ArithmeticError(f"Newton's method stopped at a gradient of norm {grad.norm():.2e}")


@dataclass(frozen=True)
class SampleBatches:
    """Batches of samples in memory: all of them, or a fresh seeded permutation each epoch.

    Args:
        inputs: shape (num_samples, ...).
        targets: shape (num_samples, ...).
        batch_size: samples in a batch; the last one of an epoch may be smaller.
        seed: of the permutations, together with the epoch.
    """

    inputs: Tensor
    targets: Tensor
    batch_size: int
    seed: int

    def __len__(self) -> int:
        return -(-len(self.inputs) // self.batch_size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from position `start`."""
        num_samples = len(self.inputs)
        if self.batch_size >= num_samples:
            if start == 0:
                yield Batch(self.inputs, self.targets, epoch, 0, num_samples)
            return
        order = torch.randperm(num_samples, generator=seeded(self.seed, epoch))
        order = order.to(self.inputs.device)
        for index in range(start, len(self)):
            chosen = order[index * self.batch_size : (index + 1) * self.batch_size]
            yield Batch(self.inputs[chosen], self.targets[chosen], epoch, index, len(chosen))
