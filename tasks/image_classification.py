"""Classification of small images that lie in memory: MNIST, CIFAR-10 and CIFAR-100."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.base import Batch, CurvatureInfo, Task
from tasks.checks import (
    check_at_least,
    check_callable,
    check_channels,
    check_choice,
    check_flag,
    check_number,
    check_sizes,
)
from tasks.curvature import equal_weights
from tasks.data import images
from tasks.data.arrays import load_images
from tasks.data.store import content_hash, require
from tasks.data.streams import frequency_loss


class ImageClassification(Task):
    """Tell the class of an image, by cross-entropy.

    The images lie as bytes on the device. Each epoch visits all training images in a fresh order;
    a batch is gathered, cropped, mirrored, made floating point and normalised as a whole, and is a
    function of (seed, epoch, index) alone. The last batch of an epoch is smaller, as in the
    papers' code, unless `drop_last`.

    Evaluation takes images as they are, with neither crops nor mirror images, and the loss
    without label smoothing; "train" stands for the first `eval_train` training images, so that
    training losses are comparable between steps. Metrics: loss in nats, summed in float64, and
    accuracy, a fraction.

    Args:
        data_dir: folder of the data sets.
        model: makes the model, (batch, channels, height, width) -> logits (batch, classes); called
            without arguments.
        mean, std: of each channel, of pixels between 0 and 1, for the normalisation.
        pad: pixels put around an image before a random crop back to its size; 0: no crop.
        pad_with_mean: they have the colour `mean`, which padding after the normalisation gives;
            else they are black.
        flip: mirror every other training image on average.
        label_smoothing: share of the target that is spread over all classes, torch's meaning.
        eval_batch_size: images at a time in evaluation; bounds memory, changes only rounding.
        eval_train: training images that evaluation on "train" takes; None: all.
        drop_last: leave out the images that do not fill a batch.
        channels_last: layout of the images in memory (`Normalization`); a matter of speed.
        num_train, num_test: images of each split that are there at all, the first ones; None for
            all, a number only at scale=smoke.
    Raises:
        ValueError: on an option out of range.
    """

    splits = images.SPLITS

    def __init__(
        self,
        *,
        data_dir: str,
        model: Callable[[], nn.Module],
        mean: Sequence[float],
        std: Sequence[float],
        pad: int,
        flip: bool,
        label_smoothing: float,
        eval_batch_size: int,
        eval_train: int | None,
        pad_with_mean: bool = False,
        drop_last: bool = False,
        channels_last: bool = True,
        num_train: int | None = None,
        num_test: int | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        check_choice("data", self.data, tuple(images.SETS))
        check_at_least("pad", pad, 0)
        optional = {"eval_train": eval_train, "num_train": num_train, "num_test": num_test}
        check_sizes({"eval_batch_size": eval_batch_size}, optional)
        flags = {"flip": flip, "drop_last": drop_last, "channels_last": channels_last}
        for name, value in (flags | {"pad_with_mean": pad_with_mean}).items():
            check_flag(name, value)
        check_number("label_smoothing", label_smoothing, least=0, below=1)
        check_callable("model", model)
        self.set = images.SETS[self.data]
        check_channels(mean, std, self.set.num_channels, f" of {self.data}")
        self.data_dir = data_dir
        self.model = model
        self.mean = mean
        self.std = std
        self.pad = pad
        self.pad_with_mean = pad_with_mean
        self.flip = flip
        self.label_smoothing = label_smoothing
        self.eval_batch_size = eval_batch_size
        self.eval_train = eval_train
        self.drop_last = drop_last
        self.channels_last = channels_last
        self.num_images = {"train": num_train, "test": num_test}

    def data_hash(self) -> str:
        """Hash of the images and labels of both splits."""
        return content_hash(self.data, images.FILES, data_dir=self.data_dir)

    def make_model(self) -> nn.Module:
        """The model that the configuration names, with its own initial values."""
        return self.model()

    def setup(self, device: torch.device | str, dtype: torch.dtype) -> None:
        """Verify and read the set; images become `dtype` batch by batch.

        Raises:
            DataError: if a file is missing or damaged.
            ValueError: if the model does not take these images or tell these classes apart, or
                if no batch can be filled.
        """
        folder = require(self.data, self.data_dir, images.FILES)
        shape, num_classes = self.set.image_shape, self.set.num_classes
        self._pixels, self._labels = {}, {}
        for split, number in self.num_images.items():
            pixels, labels = load_images(folder, split, shape, num_classes)
            pixels, labels = torch.as_tensor(pixels[:number]), torch.as_tensor(labels[:number])
            self._pixels[split] = pixels.view(*pixels.shape[:3], -1).to(device)
            self._labels[split] = labels.to(device, torch.int64)
        self._normalization = images.Normalization.of(
            self.mean, self.std, device, dtype, self.channels_last
        )
        self._train = images.ImageBatches(
            self._pixels["train"],
            self._labels["train"],
            self._normalization,
            batch_size=self.batch_size,
            drop_last=self.drop_last,
            pad=self.pad,
            flip=self.flip,
            seed=self.seed,
            fill=self._normalization.zero() if self.pad_with_mean else None,
        )
        if not len(self._train):
            raise ValueError(
                f"batch_size must be <= {len(self._labels['train'])}, the training images, where "
                f"drop_last is true, got {self.batch_size}"
            )
        self._check_model()

    def _check_model(self) -> None:
        """Try the model on one image, so that one that does not fit the set is refused early."""
        height, width = self.set.image_shape[:2]
        shape = (1, self.set.num_channels, height, width)
        expected = (1, self.set.num_classes)
        try:
            with torch.no_grad():
                found = tuple(self.build_model().eval()(torch.zeros(shape)).shape)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"model must take images of {self.data}, got: {reason}") from error
        if found != expected:
            raise ValueError(
                f"model must give {expected[1]} logits an image of {self.data}, got shape {found}"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch, a smaller last one included unless `drop_last`."""
        return len(self._train)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield images (batch, channels, height, width) and their labels (batch,), int64."""
        return self._train.epoch(epoch, start)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy, in nats."""
        logits = model(batch.inputs)
        return F.cross_entropy(logits, batch.targets, label_smoothing=self.label_smoothing)

    def measure(self, model: nn.Module, split: str) -> dict[str, float]:
        """Loss and accuracy over the split, the loss summed in float64."""
        pixels, labels = self._pixels[split], self._labels[split]
        if split == "train":
            pixels, labels = pixels[: self.eval_train], labels[: self.eval_train]
        total = torch.zeros((), dtype=torch.float64, device=labels.device)
        correct = torch.zeros((), dtype=torch.int64, device=labels.device)
        size = self.eval_batch_size
        for chunk, wanted in zip(pixels.split(size), labels.split(size), strict=True):
            logits = model(self._normalization(chunk)).double()
            total += F.cross_entropy(logits, wanted, reduction="sum")
            correct += (logits.argmax(1) == wanted).sum()
        return {"loss": total.item() / len(labels), "accuracy": correct.item() / len(labels)}

    def facts(self) -> dict[str, float]:
        """`trivial`: the target's metric from the frequencies of the training labels."""
        train, wanted = self._labels["train"], self._labels[self.target.split]
        counts = torch.bincount(train, minlength=self.set.num_classes)
        loss = frequency_loss(train, wanted, self.set.num_classes)
        accuracy = (wanted == counts.argmax()).double().mean().item()
        return self.trivial({"loss": loss, "accuracy": accuracy})

    def curvature_pass(self, batch: Batch) -> contextlib.AbstractContextManager[CurvatureInfo]:
        """A sample is one image.

        Where the model normalises by the batch, an image has no gradient of its own: its part of
        the batch's gradient stands for it, as in NG+'s code.
        """
        return equal_weights(batch, batch.num_samples)
