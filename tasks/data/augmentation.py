"""Random crops and mirror images of whole batches at once, as tensor code on any device."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Views(NamedTuple):
    """How each image of a batch is to be seen.

    Args:
        tops, lefts: corner of the crop in the padded image, shape (num_images,), int64, 0 to
            2 * pad.
        mirrored: whether left and right are exchanged, shape (num_images,), bool.
    """

    tops: Tensor
    lefts: Tensor
    mirrored: Tensor


def draw_views(num_images: int, pad: int, flip: bool, generator: torch.Generator) -> Views:
    """Draw crops, uniform and independent for each image, and mirror every other one on average.

    Args:
        pad: pixels of padding on each side, from which a crop's corner follows.
        flip: mirror an image with probability 1/2; else never.
    """
    tops, lefts = torch.randint(2 * pad + 1, (2, num_images), generator=generator)
    mirrored = torch.randint(1 + flip, (num_images,), generator=generator).bool()
    return Views(tops, lefts, mirrored)


def apply_views(images: Tensor, pad: int, views: Views, fill: Tensor | None = None) -> Tensor:
    """Pad, crop back to the old size, mirror.

    Every pixel of the result is looked up in the padded batch: on 2 cores 0.2 ms for 128 images of
    32 x 32, against 0.4 ms by strided windows and 0.7 ms by indexing with three tensors.

    Args:
        images: shape (batch, height, width, channels), any dtype.
        pad: pixels of padding on each side.
        views: of the batch's images, on their device.
        fill: value of the padding in each channel, shape (channels,), dtype of `images`; None for
            zeros.
    Returns:
        Shape and dtype of `images`.
    """
    num_images, height, width, channels = images.shape
    if fill is None or not pad:
        padded = F.pad(images, (0, 0, pad, pad, pad, pad))
    else:
        padded = fill.repeat(num_images, height + 2 * pad, width + 2 * pad, 1)
        padded[:, pad:-pad, pad:-pad] = images
    rows = views.tops[:, None] + torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device)
    columns = torch.where(views.mirrored[:, None], width - 1 - columns, columns)
    columns = columns + views.lefts[:, None]
    each = torch.arange(num_images, device=images.device)[:, None, None]
    rows = each * padded.shape[1] + rows[:, :, None]
    pixels = rows * padded.shape[2] + columns[:, None, :]
    return padded.view(-1, channels).index_select(0, pixels.view(-1)).view(images.shape)
