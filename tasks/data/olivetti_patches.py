"""A re-creation of FACES [Hinton and Salakhutdinov 2006] from the 400 Olivetti faces.

165,600 patches of 25 x 25 pixels, 414 a face, "by rotating (-90 to +90 degrees), scaling (1.4 to
1.8), cropping, and subsampling": a face is enlarged and turned about its middle, the 64 x 64 pixels
in the middle are kept, which from 1.4 on lie within the picture whatever the angle, and these are
subsampled. Angles and scales are drawn uniformly. Each pixel is then shifted to mean 0 and the set
scaled to average variance 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from tasks.data.faces import NUM_PIXELS, split_indices
from tasks.seeding import seeded

VERSION = "olivetti_patches-1"  # raised when the patches change
FILES = ("images.npy",)
FACE_SIDE, PATCH_SIDE = 64, 25
PER_FACE = 414
_KEY = 165_600  # of the set: patches do not depend on the run's seed
_MOST_DEGREES = 90.0
_SCALES = (1.4, 1.8)
_CHUNK = 1000  # patches cut at once: intermediate results stay small


def generate(
    faces: Tensor, split: str, num_train: int | None = None, num_test: int | None = None
) -> tuple[Tensor, Tensor]:
    """Cut the patches of both splits out of the faces.

    Args:
        faces: shape (n, 64, 64), uint8, person after person.
        split: of `tasks.data.faces.split_indices`.
        num_train, num_test: patches of each split, the first ones; None: all. Mean and variance
            are taken over the patches that are used.
    Returns:
        Training and test patches, (num, 625) each, float32.
    """
    train, test = split_indices(PER_FACE * len(faces), split)
    chosen = torch.cat([train[:num_train], test[:num_test]])
    patches = cut(smooth(faces.float() / 255), chosen)
    normalise(patches)
    num_train = len(train[:num_train])
    return patches[:num_train], patches[num_train:]


def smooth(faces: Tensor) -> Tensor:
    """Blur the faces (n, 64, 64) as much as subsampling asks for.

    A pixel of a patch has `factor` times a face's pixel's side. A Gaussian of deviation
    sqrt(factor^2 - 1) / 2 brings an image that is as sharp as its own pixels allow (half a pixel)
    to what the larger ones can show.
    """
    factor = FACE_SIDE / PATCH_SIDE / (sum(_SCALES) / 2)
    sigma = math.sqrt(factor**2 - 1) / 2
    offsets = torch.arange(-2.0, 3.0)
    kernel = torch.exp(-((offsets / sigma) ** 2) / 2)
    kernel /= kernel.sum()
    padded = F.pad(faces.unsqueeze(1), (2, 2, 2, 2), mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, 5)), kernel.view(1, 1, 5, 1)).squeeze(1)


def cut(faces: Tensor, chosen: Tensor) -> Tensor:
    """Cut out the patches with the numbers `chosen`; those of face k begin at 414 k.

    Returns:
        Brightness, shape (len(chosen), 625), float32.
    """
    drawn = torch.rand(len(faces) * PER_FACE, 2, dtype=torch.float64, generator=seeded(_KEY))
    angle = torch.deg2rad((2 * drawn[:, 0] - 1) * _MOST_DEGREES)
    zoom = 1 / (_SCALES[0] + (_SCALES[1] - _SCALES[0]) * drawn[:, 1])
    cos, sin = (zoom * angle.cos()).float(), (zoom * angle.sin()).float()
    patches = torch.empty(len(chosen), NUM_PIXELS)
    for rows, numbers in zip(patches.split(_CHUNK), chosen.split(_CHUNK), strict=True):
        c, s, nought = cos[numbers], sin[numbers], torch.zeros(len(numbers))
        turn = torch.stack([c, -s, nought, s, c, nought], dim=1).view(-1, 2, 3)
        size = [len(numbers), 1, PATCH_SIDE, PATCH_SIDE]
        grid = F.affine_grid(turn, size, align_corners=False)
        pictures = faces[numbers // PER_FACE].unsqueeze(1)
        sampled = F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
        rows.copy_(sampled.flatten(1))
    return patches


def normalise(patches: Tensor) -> None:
    """Shift each pixel to mean 0 and scale the set to average variance 1, in place."""
    total = torch.zeros(patches.shape[1], dtype=torch.float64)
    for rows in patches.split(_CHUNK):
        total += rows.double().sum(0)
    patches -= (total / len(patches)).float()
    square = sum(rows.double().square().sum().item() for rows in patches.split(_CHUNK))
    patches /= math.sqrt(square / patches.numel())
