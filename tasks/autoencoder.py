"""Fully connected autoencoders of small images (KrADagrad, Fig. 3 and 8)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tasks.base import Batch, CurvatureInfo, Task
from tasks.checks import check_choice, check_integers, check_sizes
from tasks.curvature import equal_weights
from tasks.data.pixel_sets import SETS
from tasks.models.autoencoder import Autoencoder
from tasks.reconstruction import LOSSES
from tasks.seeding import seeded

_CHUNK = 1000  # images at a time where a whole split is looked at: bounds memory


class Autoencoding(Task):
    """Reconstruct images from a narrow code.

    The images lie in memory on the device. Each epoch visits all training images in a fresh order;
    a batch, inputs and targets alike, is a function of (seed, epoch, index). The loss is the mean
    over the images of the batch.

    Evaluation takes the mean over all images of the split. (The papers' code averages over batches
    of the test set, which it calls validation; as its batches are of one size, that is the same.)
    Metrics: loss, and excess = loss - the least mean loss of the split that any outputs have,
    which is 0 for squared errors.

    Args:
        data_dir: folder of the data sets.
        widths: of the encoder's layers, from the pixels to the code (`Autoencoder`).
        loss: "softmax_ce", "bce_sum", "mse" or "half_squared_error" (`tasks.reconstruction`).
        split: which images are the test images: "official", or for faces "random" or "people"
            (`tasks.data.faces.split_indices`).
        num_train, num_test: images of each split that are there at all, the first ones; None for
            all.
    Raises:
        ValueError: on an option out of range, or a loss that the pixels do not suit.
    """

    splits = ("train", "test")

    def __init__(
        self,
        *,
        data_dir: str,
        widths: Sequence[int],
        loss: str,
        split: str,
        num_train: int | None = None,
        num_test: int | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        check_choice("data", self.data, tuple(SETS))
        check_choice("loss", loss, tuple(LOSSES))
        self.set = SETS[self.data]
        check_choice("split", split, self.set.splits)
        check_sizes({}, {"num_train": num_train, "num_test": num_test})
        first = self.set.num_pixels
        wanted = f"begin with {first}, the pixels of {self.data}, and end with the code"
        check_integers("widths", widths, wanted, least=2)
        if widths[0] != first:
            raise ValueError(f"widths must {wanted}, got {list(widths)}")
        self.reconstruction = LOSSES[loss]
        if self.reconstruction.needs_unit_range and not self.set.unit_range:
            raise ValueError(
                f"loss must be mse or half_squared_error for {self.data}, whose pixels are not "
                f"between 0 and 1, got {loss}"
            )
        self.data_dir = data_dir
        self.widths = tuple(widths)
        self.split = split
        self.num_images = (num_train, num_test)

    def data_hash(self) -> str:
        """Hash of the images' files, and the version of what is generated."""
        return self.set.data_hash(self.data, self.data_dir)

    def make_model(self) -> nn.Module:
        """The autoencoder with torch's initial values, U(+-1/sqrt(inputs of the layer))."""
        return Autoencoder(self.widths)

    def setup(self, device: torch.device | str, dtype: torch.dtype) -> None:
        """Verify and read, or generate, the images; pixels become `dtype` batch by batch.

        Raises:
            DataError: if a file is missing or damaged.
        """
        loaded = self.set.read(self.data, self.data_dir, self.split, *self.num_images)
        self._dtype = dtype
        self._images = {
            split: images.to(device) for split, images in zip(self.splits, loaded, strict=True)
        }
        bound = self.reconstruction.bound
        self._bounds = {
            split: self._mean(split, lambda pixels: bound(pixels.double())) for split in self.splits
        }

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch; the last may be smaller."""
        return -(-len(self._images["train"]) // self.batch_size)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield images (batch, num_pixels), which are inputs and targets."""
        images = self._images["train"]
        order = torch.randperm(len(images), generator=seeded(self.seed, epoch)).to(images.device)
        for index, chosen in enumerate(order.split(self.batch_size)):
            if index >= start:
                pixels = self._pixels(images[chosen])
                yield Batch(pixels, pixels, epoch, index, len(pixels))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean loss over the images."""
        return self._losses(model(batch.inputs), batch.targets).mean()

    def measure(self, model: nn.Module, split: str) -> dict[str, float]:
        """Loss and excess over the whole split, of the outputs in float64."""
        loss = self._mean(split, lambda pixels: self._losses(model(pixels), pixels.double()))
        return {"loss": loss, "excess": loss - self._bounds[split]}

    def curvature_pass(self, batch: Batch) -> contextlib.AbstractContextManager[CurvatureInfo]:
        """A sample is one image."""
        return equal_weights(batch, batch.num_samples)

    def facts(self) -> dict[str, float]:
        """What no model undercuts on each split, and what the best constant output has on test."""
        images = self._images["train"]
        total = sum(self._pixels(chunk).double().sum(0) for chunk in images.split(_CHUNK))
        output = self.reconstruction.constant(total / len(images))
        constant = self._mean(
            "test", lambda pixels: self._losses(output.expand_as(pixels), pixels.double())
        )
        bounds = {f"bound_{split}": bound for split, bound in self._bounds.items()}
        excess = constant - self._bounds["test"]
        trivial = self.trivial({"loss": constant, "excess": excess})
        return {**bounds, "constant_test": constant, **trivial}

    def _pixels(self, images: Tensor) -> Tensor:
        """Images as they lie in memory to the numbers that the model sees."""
        pixels = images.to(self._dtype)
        return pixels if images.is_floating_point() else pixels / 255

    def _losses(self, outputs: Tensor, pixels: Tensor) -> Tensor:
        """Loss of each image, in the pixels' dtype even where the outputs are in bfloat16."""
        return self.reconstruction.per_image(outputs.to(pixels.dtype), pixels)

    def _mean(self, split: str, per_image) -> float:
        """Mean over a split of a function (n, num_pixels) -> (n,), summed in float64."""
        images = self._images[split]
        chunks = (self._pixels(chunk) for chunk in images.split(_CHUNK))
        return sum(per_image(chunk).double().sum() for chunk in chunks).item() / len(images)
