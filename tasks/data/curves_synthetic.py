"""A re-creation of CURVES [Hinton and Salakhutdinov 2006]: smooth curves through three points.

An original image shows the curve that three random points with increasing x define, so that six
numbers are behind it. Nothing more of how it was drawn is known here; the strokes were chosen such
that no model can bring the mean softmax cross-entropy of the test images below 166.7, somewhat less
than the best that is published of the original, 168.98.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tasks.seeding import seeded

VERSION = "curves_synthetic-1"  # raised when the images change
SIDE = 28
NUM_TRAIN, NUM_TEST = 20_000, 10_000  # as in the original
_KEY = 2006  # of the set: images do not depend on the run's seed
_MARGIN = 2.0  # pixels from the points to the image's outermost ones
_APART = 2.0  # pixels between the x of neighbouring points, at least
_WIDTH = 0.6  # standard deviation of the ink across the curve, in pixels
_INK = 1.95  # ink in the middle of a long stroke
_STEPS = 64  # drops of ink a curve; less than two _WIDTH apart, so that none is seen alone
_CHUNK = 100  # images drawn at once: intermediate results stay in the cache


def generate(num_train: int = NUM_TRAIN, num_test: int = NUM_TEST) -> tuple[Tensor, Tensor]:
    """Draw the two splits; the first images are the same whatever the numbers.

    Returns:
        Training and test images, (num_train, 784) and (num_test, 784), float32 in [0, 1].
    """
    return _split(0, num_train), _split(1, num_test)


def _split(index: int, num_images: int) -> Tensor:
    images = torch.empty(num_images, SIDE * SIDE)
    points = random_points(num_images, seeded(_KEY, index))
    for rows, three in zip(images.split(_CHUNK), points.split(_CHUNK), strict=True):
        rows.copy_(ink(curves(three)).flatten(1))
    return images


def random_points(num_curves: int, generator: torch.Generator) -> Tensor:
    """Draw three points a curve: x increasing, at least _APART from one to the next; y free.

    Returns:
        (x, y) of the points in pixels, shape (num_curves, 3, 2), float64.
    """
    drawn = torch.rand(num_curves, 6, dtype=torch.float64, generator=generator)
    span = SIDE - 1 - 2 * _MARGIN
    x = drawn[:, :3].sort(1).values * (span - 2 * _APART) + _APART * torch.arange(3)
    return _MARGIN + torch.stack([x, drawn[:, 3:] * span], dim=2)


def curves(points: Tensor) -> Tensor:
    """The parabola in the plane that passes the first point at time 0, the last at time 1.

    It passes the second when it has gone the same share of the polygon, which keeps it from
    swinging out of the image.

    Returns:
        _STEPS points of each, equally spaced in time, shape (num_curves, _STEPS, 2), float32.
    """
    lengths = (points[:, 1:] - points[:, :-1]).norm(dim=2)
    middle = lengths[:, :1] / lengths.sum(1, keepdim=True)
    time = torch.linspace(0, 1, _STEPS, dtype=points.dtype)
    lagrange = torch.stack(
        [
            (time - middle) * (time - 1) / middle,
            time * (time - 1) / (middle * (middle - 1)),
            time * (time - middle) / (1 - middle),
        ],
        dim=2,
    )
    return (lagrange @ points).float()


def ink(curve: Tensor) -> Tensor:
    """Draw curves: brightness 1 - exp(-ink), the ink across a stroke a Gaussian of height _INK.

    Args:
        curve: (x, y) of points along each, shape (n, steps, 2).
    Returns:
        Images, shape (n, SIDE, SIDE), y downwards.
    """
    gaps = (curve[:, 1:] - curve[:, :-1]).norm(dim=2) / 2
    drop = torch.zeros(curve.shape[:2])
    drop[:, 1:] += gaps
    drop[:, :-1] += gaps
    distance = (curve.unsqueeze(3) - torch.arange(float(SIDE))) / _WIDTH
    # A Gaussian blot is a product of one across x and one across y, so a sum of them a product of
    # matrices.
    blots = torch.exp(-(distance**2) / 2)
    x, y = blots[:, :, 0], blots[:, :, 1]
    scale = _INK / (math.sqrt(2 * math.pi) * _WIDTH)
    return 1 - torch.exp(-scale * torch.bmm((drop.unsqueeze(2) * y).mT, x))
