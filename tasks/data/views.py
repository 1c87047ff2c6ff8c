"""What a model sees of an image file: random crops in training, the centre in evaluation.

PIL's own functions on PIL's images, as torchvision's transforms call them: those draw from the
global generator, while here every image brings one of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from PIL import Image

_ATTEMPTS = 100  # as the published code of NG+ does; torchvision takes 10
_BILINEAR = Image.Resampling.BILINEAR


@dataclass(frozen=True)
class RandomCrop:
    """A random part of the image, resized to a square, every other one mirrored.

    Args:
        size: height and width of what is made.
        min_scale: least share of the image's area.
        max_aspect: largest ratio of width to height; the least one is its inverse.
    Raises:
        ValueError: if min_scale is not in (0, 1] or max_aspect < 1.
    """

    size: int
    min_scale: float
    max_aspect: float

    def __post_init__(self) -> None:
        if not 0 < self.min_scale <= 1:
            raise ValueError(f"min_scale must be > 0 and <= 1, got {self.min_scale}")
        if not self.max_aspect >= 1:
            raise ValueError(f"max_aspect must be >= 1, got {self.max_aspect}")

    def __call__(self, image: Image.Image, generator: torch.Generator) -> Image.Image:
        mirrored = torch.rand((), generator=generator).item() < 0.5
        box = random_box(*image.size, self.min_scale, self.max_aspect, generator)
        part = image.crop(box).resize((self.size, self.size), _BILINEAR)
        return part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else part


@dataclass(frozen=True)
class CentreCrop:
    """The middle square of the image, of which the shorter side has been resized.

    Args:
        size: height and width of what is made.
        resized: pixels of the shorter side, >= size.
    """

    size: int
    resized: int

    def __call__(self, image: Image.Image, generator: torch.Generator) -> Image.Image:
        shorter = min(image.size)
        width, height = (self.resized * side // shorter for side in image.size)
        left, upper = (round((side - self.size) / 2) for side in (width, height))
        box = (left, upper, left + self.size, upper + self.size)
        return image.resize((width, height), _BILINEAR).crop(box)


def random_box(
    width: int, height: int, min_scale: float, max_aspect: float, generator: torch.Generator
) -> tuple[int, int, int, int]:
    """Draw a part of an image [Szegedy et al. 2015], uniform in area and in the aspect's logarithm.

    Returns:
        (left, upper, right, lower); the largest part of an allowed aspect in the middle where all
        attempts are larger than the image.
    """
    for _ in range(_ATTEMPTS):
        share, tilt, x, y = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
        area = width * height * (min_scale + (1 - min_scale) * share)
        aspect = max_aspect ** (2 * tilt - 1)
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, upper = int(x * (width - w + 1)), int(y * (height - h + 1))
            return left, upper, left + w, upper + h
    w = min(width, max(1, round(height * max_aspect)))
    h = min(height, max(1, round(width * max_aspect)))
    left, upper = (width - w) // 2, (height - h) // 2
    return left, upper, left + w, upper + h
