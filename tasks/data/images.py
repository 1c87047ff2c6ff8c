"""Small image sets that lie in memory as bytes: their facts, and batches of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tasks.base import Batch
from tasks.data.augmentation import Views, apply_views, draw_views
from tasks.seeding import seeded

SPLITS = ("train", "test")
FILES = tuple(f"{split}_{kind}.npy" for split in SPLITS for kind in ("images", "labels"))


@dataclass(frozen=True)
class ImageSet:
    """What is known of a set without reading it.

    Args:
        image_shape: of one image as it is prepared, (height, width) or (height, width, channels).
        num_classes: labels are 0 to num_classes - 1.
    """

    image_shape: tuple[int, ...]
    num_classes: int

    @property
    def num_channels(self) -> int:
        """1 for gray images, whose shape has no channels."""
        return self.image_shape[2] if len(self.image_shape) == 3 else 1


SETS = {
    "mnist": ImageSet((28, 28), 10),
    "cifar10": ImageSet((32, 32, 3), 10),
    "cifar100": ImageSet((32, 32, 3), 100),
    "cifar100_20k": ImageSet((32, 32, 3), 100),
}


@dataclass(frozen=True)
class Normalization:
    """(pixel / 255 - mean) / std in one multiply-add.

    Args:
        scale, shift: 1/(255 std) and -mean/std of each channel, shape (channels, 1, 1).
        channels_last: leave the channels innermost in memory, torch's memory format of this name,
            with which a step of a convolutional network takes 5 to 25 % less time on a CPU.
            Gradients keep the layout of their parameters either way.
    """

    scale: Tensor
    shift: Tensor
    channels_last: bool

    @classmethod
    def of(
        cls,
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device | str,
        dtype: torch.dtype,
        channels_last: bool,
    ) -> Normalization:
        """Of pixels between 0 and 1 with this mean and deviation in each channel."""
        means, stds = (
            torch.tensor(list(x), dtype=torch.float64).view(-1, 1, 1) for x in (mean, std)
        )
        scale, shift = 1 / (255 * stds), -means / stds
        return cls(scale.to(device, dtype), shift.to(device, dtype), channels_last)

    def zero(self) -> Tensor:
        """The bytes that become nearest to 0 in each channel, shape (channels,)."""
        return (-self.shift / self.scale).round().clamp(0, 255).to(torch.uint8).flatten()

    def __call__(self, pixels: Tensor) -> Tensor:
        """Bytes (batch, height, width, channels) -> numbers (batch, channels, height, width)."""
        images = pixels.permute(0, 3, 1, 2)
        if not self.channels_last:
            images = images.clone(memory_format=torch.contiguous_format)  # of bytes, so it is cheap
        return torch.addcmul(self.shift, images.to(self.scale.dtype), self.scale)


@dataclass(frozen=True)
class ImageBatches:
    """Batches in a fresh order each epoch, every image cropped and mirrored anew.

    A batch is a function of (seed, epoch, index): the order comes from (seed, epoch), the crops
    and mirror images of a batch from (seed, epoch, index).

    Args:
        images: bytes, shape (num_images, height, width, channels).
        labels: shape (num_images,), int64.
        normalization: of the bytes.
        batch_size: images in a batch.
        drop_last: leave out the images that do not fill a batch; else the last one is smaller.
        pad: pixels of padding for a random crop; 0: no crop.
        flip: mirror every other image on average.
        seed: of order and augmentation.
        fill: bytes of the padding, shape (channels,); None for black.
    """

    images: Tensor
    labels: Tensor
    normalization: Normalization
    batch_size: int
    drop_last: bool
    pad: int
    flip: bool
    seed: int
    fill: Tensor | None = None

    def __len__(self) -> int:
        whole, rest = divmod(len(self.images), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from position `start`."""
        order = torch.randperm(len(self.images), generator=seeded(self.seed, epoch))
        order = order.to(self.images.device)
        for index in range(start, len(self)):
            chosen = order[index * self.batch_size : (index + 1) * self.batch_size]
            pixels = self._augmented(self.images.index_select(0, chosen), epoch, index)
            labels = self.labels[chosen]
            yield Batch(self.normalization(pixels), labels, epoch, index, len(chosen))

    def _augmented(self, pixels: Tensor, epoch: int, index: int) -> Tensor:
        if not (self.pad or self.flip):
            return pixels
        # index + 1: a generator's key ends in as many zeros as one likes, and (seed, epoch) is
        # that of the order.
        generator = seeded(self.seed, epoch, index + 1)
        views = draw_views(len(pixels), self.pad, self.flip, generator)
        views = Views(*(x.to(pixels.device) for x in views))
        return apply_views(pixels, self.pad, views, self.fill)
