"""Streams of convex losses on matrices, and the best fixed point in hindsight of each.

A stream draws its losses f_1, f_2, ... from a seed; a comparator is the point of the ball
|W|_F <= radius with the least sum of losses, computed exactly (float64) or known. Everything works
on weights (..., m, n), so that many streams can be followed at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tasks.balls import in_ball
from tasks.logistic import logistic_derivatives
from tasks.synthetic import anisotropic_covariance, minimize_newton, random_rotation


class Drawn(NamedTuple):
    """A stream's data: inputs and targets, one row a step, and what made them.

    `hidden` is the hidden point (m, n), and for "box" the basis (m n, m, n).
    """

    inputs: Tensor
    targets: Tensor
    hidden: Tensor


class Shape(NamedTuple):
    """What a stream is drawn with.

    Attributes:
        count: T, losses in the stream.
        rows, columns: m and n of the point.
        condition: of the covariances of rows and of columns of the inputs, each rotated.
        radius: of the ball of comparators; the hidden point lies at half of it.
        noise: standard deviation of what is added to targets of least squares.
    """

    count: int
    rows: int
    columns: int
    condition: float
    radius: float
    noise: float


class Stream(NamedTuple):
    """A kind of stream, as three functions.

    Attributes:
        draw: (shape, generator) -> data.
        loss: (weight, inputs, targets) -> losses (...) and their gradients (..., m, n).
        best: (data, radius) -> the comparator (m, n).
    """

    draw: Callable[[Shape, torch.Generator], Drawn]
    loss: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
    best: Callable[[Drawn, float], Tensor]


# ---------------------------------------------------------------- what is drawn


def directions(shape: Shape, generator: torch.Generator) -> Tensor:
    """Draw Gaussian matrices with anisotropic rows and columns, each of Frobenius norm 1.

    Returns:
        Shape (count, rows, columns).
    """
    sides = [
        torch.linalg.cholesky(anisotropic_covariance(size, shape.condition, generator))
        for size in (shape.rows, shape.columns)
    ]
    white = torch.randn(
        shape.count, shape.rows, shape.columns, dtype=torch.float64, generator=generator
    )
    drawn = sides[0] @ white @ sides[1].mT
    return drawn / torch.linalg.matrix_norm(drawn, keepdim=True)


def hidden_point(shape: Shape, generator: torch.Generator) -> Tensor:
    """Draw a point (rows, columns) uniformly from the sphere of half the radius."""
    point = torch.randn(shape.rows, shape.columns, dtype=torch.float64, generator=generator)
    return point * (shape.radius / 2 / point.norm())


def draw_box(shape: Shape, generator: torch.Generator) -> Drawn:
    """Rank-one inputs from a rotated orthonormal basis, and targets +-c.

    Losses of |w - c| and |w + c| are linear in between, and push back into the box |w| <= c of each
    coordinate; c is such that the ball of `radius` goes round the box. A coordinate's chance to be
    met falls as a power of its number, from 1 to 1/condition, and its targets are +c with a chance
    of its own, uniform in [.2, .8].
    """
    sides = [random_rotation(size, generator) for size in (shape.rows, shape.columns)]
    basis = torch.einsum("ia,jb->abij", *sides).flatten(0, 1)
    fall = torch.linspace(0, 1, len(basis), dtype=torch.float64)
    order = torch.randperm(len(basis), generator=generator)
    chances = (shape.condition**-fall)[order]
    chosen = torch.multinomial(chances, shape.count, replacement=True, generator=generator)
    uniform = torch.rand(2, max(shape.count, len(basis)), generator=generator).double()
    above = uniform[0, : shape.count] < (0.2 + 0.6 * uniform[1, : len(basis)])[chosen]
    size = shape.radius / math.sqrt(len(basis))
    return Drawn(basis[chosen], torch.where(above, 1.0, -1.0).double() * size, basis)


def draw_absolute(shape: Shape, generator: torch.Generator) -> Drawn:
    """Targets <A_t, W*> without noise, so that W* has no loss at all."""
    hidden = hidden_point(shape, generator)
    inputs = directions(shape, generator)
    return Drawn(inputs, (inputs * hidden).sum((-2, -1)), hidden)


def draw_logistic(shape: Shape, generator: torch.Generator) -> Drawn:
    """Labels +1 with probability sigmoid(<A_t, W*>), else -1."""
    hidden = hidden_point(shape, generator)
    inputs = directions(shape, generator)
    uniform = torch.rand(shape.count, dtype=torch.float64, generator=generator)
    chance = torch.sigmoid((inputs * hidden).sum((-2, -1)))
    return Drawn(inputs, torch.where(uniform < chance, 1.0, -1.0).double(), hidden)


def draw_least_squares(shape: Shape, generator: torch.Generator) -> Drawn:
    """x_t of norm 1 and y_t = W*' x_t + noise, cut to norm `radius` as the bound asks."""
    hidden = hidden_point(shape, generator)
    covariance = anisotropic_covariance(shape.rows, shape.condition, generator)
    white = torch.randn(shape.count, shape.rows, dtype=torch.float64, generator=generator)
    inputs = F.normalize(white @ torch.linalg.cholesky(covariance).mT, dim=1)
    noise = torch.randn(shape.count, shape.columns, dtype=torch.float64, generator=generator)
    targets = inputs @ hidden + shape.noise * noise
    length = targets.norm(dim=1, keepdim=True).clamp(min=shape.radius)
    return Drawn(inputs, targets * (shape.radius / length), hidden)


# ---------------------------------------------------------------- losses


def absolute(weight: Tensor, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """|<A_t, W> - b_t|; gradient of norm at most 1, 0 at a residual of 0."""
    residual = (inputs * weight).sum((-2, -1)) - targets
    return residual.abs(), residual.sign()[..., None, None] * inputs


def logistic(weight: Tensor, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """log(1 + exp(-y_t <A_t, W>)); gradient of norm below 1."""
    margin = targets * (inputs * weight).sum((-2, -1))
    pull = -targets * torch.sigmoid(-margin)
    return -F.logsigmoid(margin), pull[..., None, None] * inputs


def least_squares(weight: Tensor, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """|W' x_t - y_t|^2 / 2, where |x_t| = 1 and |y_t| <= radius [Yang et al. 2021, app. D]."""
    residual = (weight.mT @ inputs[..., None])[..., 0] - targets
    return residual.square().sum(-1) / 2, inputs[..., :, None] * residual[..., None, :]


# ---------------------------------------------------------------- comparators


def best_box(drawn: Drawn, radius: float) -> Tensor:
    """In each coordinate of the basis, the more frequent target; 0 where both are met alike."""
    coordinates = drawn.inputs.flatten(1) @ drawn.hidden.flatten(1).mT
    votes = (drawn.targets @ coordinates).round(decimals=9).sign()
    return drawn.targets.abs().max() * torch.einsum("k,kij->ij", votes, drawn.hidden)


def best_absolute(drawn: Drawn, radius: float) -> Tensor:
    """The hidden point, where every loss is 0."""
    return drawn.hidden


def best_logistic(drawn: Drawn, radius: float) -> Tensor:
    """By Newton's method, with a multiplier of |W|^2 / 2 where the ball binds."""
    inputs, start = drawn.inputs.flatten(1), torch.zeros_like(drawn.hidden).flatten()

    def solve(multiplier: float) -> Tensor:
        def derivatives(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            value, grad, hessian = logistic_derivatives(inputs, drawn.targets, weight)
            value = value + multiplier / 2 * weight.square().sum()
            identity = torch.eye(len(weight), dtype=weight.dtype)
            return value, grad + multiplier * weight, hessian + multiplier * identity

        return minimize_newton(derivatives, start)

    return in_ball(solve, radius, 1.0).view_as(drawn.hidden)


def best_least_squares(drawn: Drawn, radius: float) -> Tensor:
    """From X'X and X'Y, with a multiplier of |W|^2 / 2 where the ball binds."""
    values, vectors = torch.linalg.eigh(drawn.inputs.mT @ drawn.inputs)
    right = vectors.mT @ (drawn.inputs.mT @ drawn.targets)
    # With fewer steps than rows: what no input has touched stays 0.
    floor = values[-1] * len(values) * torch.finfo(values.dtype).eps

    def solve(multiplier: float) -> Tensor:
        scale = values + multiplier
        return vectors @ (right / scale.masked_fill(scale <= floor, math.inf)[:, None])

    return in_ball(solve, radius, values[-1].item())


STREAMS = {
    "box": Stream(draw_box, absolute, best_box),
    "absolute": Stream(draw_absolute, absolute, best_absolute),
    "logistic": Stream(draw_logistic, logistic, best_logistic),
    "least_squares": Stream(draw_least_squares, least_squares, best_least_squares),
}


def horizons(count: int, first: int = 10) -> list[int]:
    """Steps 1, 2, 5 times the powers of ten from `first` up to `count`, and `count` itself."""
    powers = range(int(math.log10(count)) + 1)
    steps = {factor * 10**power for power in powers for factor in (1, 2, 5)}
    return sorted({step for step in steps if first <= step <= count} | {count})


def comparators(stream: Stream, drawn: Drawn, radius: float, steps: list[int]) -> list[float]:
    """Least sum of losses of one fixed point over the first k steps, for each k of `steps`."""
    sums = []
    for k in steps:
        part = drawn._replace(inputs=drawn.inputs[:k], targets=drawn.targets[:k])
        weight = stream.best(part, radius)
        sums.append(stream.loss(weight, part.inputs, part.targets)[0].sum().item())
    return sums
