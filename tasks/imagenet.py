"""Classification of photographs in folders by class: ImageNet (NG+, Fig. 2)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.base import Batch, CurvatureInfo, Task
from tasks.checks import (
    check_at_least,
    check_callable,
    check_channels,
    check_choice,
    check_number,
    check_sizes,
)
from tasks.curvature import equal_weights
from tasks.data.image_folder import FolderSplit, find_splits, read_batches
from tasks.data.images import Normalization
from tasks.data.store import content_hash, files_of, require
from tasks.data.views import CentreCrop, RandomCrop
from tasks.seeding import seeded

SETS = ("imagenet", "tiny_imagenet_50")


class ImageNet(Task):
    """Tell the class of a photograph, by cross-entropy with smoothed labels.

    Each epoch visits all training images in a fresh order; of each image the model is shown a
    random part, resized, and every other one mirrored. Worker processes read the files, ahead of
    their use. A batch is a function of (seed, epoch, index) alone, whatever the number of workers:
    the order comes from (seed, epoch), the part of an image from (seed, epoch, image). Images that
    do not fill a batch are left out.

    Evaluation takes the middle of each image, whose shorter side has been resized. Metrics: `loss`,
    with smoothed labels as in training, and `nll`, without smoothing, both in nats and summed in
    float64; accuracy and accuracy_top5, the fraction of images whose class is the likeliest, or
    among the five likeliest.

    Args:
        data_dir: folder of the data sets.
        model: makes the model, (batch, 3, image_size, image_size) -> logits (batch, num_classes),
            when called with num_classes.
        num_classes: of the set.
        image_size: pixels of a side of what the model sees.
        min_scale: least share of an image's area in a random part.
        max_aspect: largest ratio of its width to its height, and of height to width.
        eval_resize: shorter side in evaluation, in multiples of image_size.
        label_smoothing: share of the target that the wrong classes have together.
        mean, std: of each channel, of pixels between 0 and 1, for the normalisation.
        eval_batch_size: images at a time in evaluation; bounds memory, changes only rounding.
        eval_train, eval_val: images of a split that are evaluated, evenly spaced over the classes;
            None: all.
        num_workers: processes that read images, no more than there are cores; 0: none of their
            own. Changes no number.
    Raises:
        ValueError: on an option out of range.
    """

    splits = ("train", "val")

    def __init__(
        self,
        *,
        data_dir: str,
        model: Callable[..., nn.Module],
        num_classes: int,
        image_size: int,
        min_scale: float,
        max_aspect: float,
        eval_resize: float,
        label_smoothing: float,
        mean: Sequence[float],
        std: Sequence[float],
        eval_batch_size: int,
        eval_train: int | None,
        eval_val: int | None,
        num_workers: int,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        check_choice("data", self.data, SETS)
        check_at_least("num_classes", num_classes, 2)
        check_at_least("num_workers", num_workers, 0)
        sizes = {"image_size": image_size, "eval_batch_size": eval_batch_size}
        check_sizes(sizes, {"eval_train": eval_train, "eval_val": eval_val})
        check_number("min_scale", min_scale, above=0, most=1)
        check_number("max_aspect", max_aspect, least=1)
        check_number("eval_resize", eval_resize, least=1)
        # With more the right class would be the least likely.
        check_number("label_smoothing", label_smoothing, least=0, most=1 - 1 / num_classes)
        check_channels(mean, std, 3, "")
        check_callable("model", model)
        self.data_dir = data_dir
        self.num_evaluated = {"train": eval_train, "val": eval_val}
        self.model = model
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing
        self.mean = mean
        self.std = std
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.views = {
            "train": RandomCrop(image_size, min_scale, max_aspect),
            "eval": CentreCrop(image_size, int(image_size * eval_resize)),
        }

    def data_hash(self) -> str:
        """Hash of all images; of ImageNet, of their sizes."""
        return content_hash(self.data, data_dir=self.data_dir)

    def make_model(self) -> nn.Module:
        """The model that the configuration names, with its own initial values."""
        return self.model(num_classes=self.num_classes)

    def setup(self, device: torch.device | str, dtype: torch.dtype) -> None:
        """Verify the set and list its images; they become `dtype` batch by batch.

        Raises:
            DataError: if a file is missing or damaged, or a split is empty.
            ValueError: if the set has not num_classes classes, or no batch can be filled.
        """
        folder = require(self.data, self.data_dir)
        self._images, classes = find_splits(folder, files_of(self.data, self.data_dir), self.splits)
        if len(classes) != self.num_classes:
            raise ValueError(
                f"num_classes must be {len(classes)}, the classes of {self.data}, "
                f"got {self.num_classes}"
            )
        num_images = len(self._images["train"])
        if self.batch_size > num_images:
            raise ValueError(
                f"batch_size must be <= {num_images}, the training images, got {self.batch_size}"
            )
        self._device = torch.device(device)
        # Channels innermost: a step takes a fifth less time on a CPU.
        self._normalization = Normalization.of(
            self.mean, self.std, device, dtype, channels_last=True
        )

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in the training images."""
        return len(self._images["train"]) // self.batch_size

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield images (batch, 3, image_size, image_size) and their labels (batch,), int64."""
        images = self._images["train"]
        order = torch.randperm(len(images), generator=seeded(self.seed, epoch)).numpy()
        count, size = self.steps_per_epoch, self.batch_size
        numbers = order[: count * size].reshape(count, size)[start:]
        read = self._read(images, self.views["train"], (self.seed, epoch), numbers)
        for index, (inputs, labels) in enumerate(read, start):
            yield Batch(inputs, labels, epoch, index, size)

    def _read(
        self, images: FolderSplit, view: Any, key: tuple[int, ...], numbers: Sequence[np.ndarray]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches on the device, as the model takes them."""
        pinned = self._device.type == "cuda"
        for pixels, labels in read_batches(images, view, key, numbers, self.num_workers, pinned):
            pixels = pixels.to(self._device, non_blocking=pinned)
            yield self._normalization(pixels), labels.to(self._device, non_blocking=pinned)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy with smoothed labels, in nats."""
        return self._smoothed(model(batch.inputs), batch.targets, "mean")

    def _smoothed(self, logits: Tensor, labels: Tensor, reduction: str) -> Tensor:
        # NG+'s code gives each wrong class label_smoothing/(K - 1); torch spreads its share over
        # all K classes, the right one included, so that it is told K/(K - 1) times as much.
        share = self.label_smoothing * self.num_classes / (self.num_classes - 1)
        return F.cross_entropy(logits, labels, reduction=reduction, label_smoothing=share)

    def _evaluated(self, split: str) -> np.ndarray:
        """Which of a split's images are evaluated, shape (num_evaluated,)."""
        num_images = len(self._images[split])
        count = min(num_images, self.num_evaluated[split] or num_images)
        return np.arange(count) * num_images // count

    def measure(self, model: nn.Module, split: str) -> dict[str, float]:
        """Loss, nll and accuracies over the split's evaluated images."""
        images, numbers = self._images[split], self._evaluated(split)
        num_images = len(numbers)
        chunks = np.split(numbers, range(self.eval_batch_size, num_images, self.eval_batch_size))
        totals = torch.zeros(2, dtype=torch.float64, device=self._device)
        correct = torch.zeros(2, dtype=torch.int64, device=self._device)
        for inputs, labels in self._read(images, self.views["eval"], (), chunks):
            logits = model(inputs).double()
            nll = F.cross_entropy(logits, labels, reduction="sum")
            totals += torch.stack([self._smoothed(logits, labels, "sum"), nll])
            best = logits.topk(min(5, self.num_classes), dim=1).indices
            hits = best == labels[:, None]
            correct += torch.stack([hits[:, 0].sum(), hits.sum()])
        loss, nll = (totals / num_images).tolist()
        top1, top5 = (correct.double() / num_images).tolist()
        return {"loss": loss, "nll": nll, "accuracy": top1, "accuracy_top5": top5}

    def facts(self) -> dict[str, float]:
        """`trivial`: the accuracy of naming the largest class of the training images."""
        train, split = self._images["train"].labels, self._images[self.target.split]
        largest = np.bincount(train).argmax()
        chosen = split.labels[self._evaluated(self.target.split)]
        return self.trivial({"accuracy": float((chosen == largest).mean())})

    def curvature_pass(self, batch: Batch) -> contextlib.AbstractContextManager[CurvatureInfo]:
        """A sample is one image.

        With BatchNorm an image has no gradient of its own. As in NG+'s code its part of the
        batch's gradient stands for it, times the batch size: what the losses of all images say
        of its activations, those of others through the batch's mean and variance.
        """
        return equal_weights(batch, batch.num_samples)
