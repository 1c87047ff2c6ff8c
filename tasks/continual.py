"""Classification of images in a stream of tasks, one after the other (continual learning)."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.base import Batch, Task
from tasks.checks import check_at_least, check_channels, check_choice, check_flag, check_sizes
from tasks.data import images
from tasks.data.arrays import load_images
from tasks.data.augmentation import Views, apply_views, draw_views
from tasks.data.store import DataError, content_hash, require
from tasks.seeding import seeded

# Ends of keys (seed, epoch, ...) for what is drawn; (seed, epoch) is the order of an epoch, and
# (seed, epoch, index + 1) are the crops and mirror images of a batch.
MEMORY, REPLAY = (0, 1), (0, 2)


class ContinualImages(Task):
    """A stream of tasks over one set of small images, each task trained on for some epochs.

    Epoch e belongs to task e // epochs_per_task; what comes after the last task's epochs belongs to
    it too. An epoch visits the same number of a task's images whatever the task, as many whole
    batches as the smallest task has, in a fresh order: a batch is a function of
    (seed, epoch, index) alone. What the tasks are is a function of instance_seed.

    Evaluation takes every task, whether it has been trained on or not, all its images as they are.
    Metrics: accuracy, a fraction, and loss in nats, summed in float64, both means over all images
    of all tasks (Avalanche's stream accuracy); and accuracy/task_00 and so on.

    There is no per-sample information: the gradients of these tasks are projected, or those of a
    loss after further steps, and no sum over samples.

    Written out rather than taken from Avalanche, which comes with a long tail of packages and a
    loop of its own, for what is a division of a set and two memories.

    Args:
        data_dir: folder of the data sets.
        mean, std: of each channel, of pixels between 0 and 1, for the normalisation.
        num_tasks: tasks in the stream.
        epochs_per_task: passes over a task's training images.
        train_per_task: training images of a task, the first ones; None: all.
        test_per_task: test images of a task, the first ones; None: all.
        instance_seed: of what the tasks are.
        pad: pixels put around a training image, black, before a random crop back; 0: no crop.
        flip: mirror every other training image on average.
        eval_batch_size: images at a time in evaluation; bounds memory, changes only rounding.
    Raises:
        ValueError: on an option out of range.
    """

    splits = images.SPLITS

    def __init__(
        self,
        *,
        data_dir: str,
        mean: Sequence[float],
        std: Sequence[float],
        num_tasks: int,
        epochs_per_task: int,
        train_per_task: int | None,
        test_per_task: int | None,
        instance_seed: int,
        pad: int,
        flip: bool,
        eval_batch_size: int,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        check_choice("data", self.data, tuple(images.SETS))
        sizes = {"num_tasks": num_tasks, "epochs_per_task": epochs_per_task}
        optional = {"train_per_task": train_per_task, "test_per_task": test_per_task}
        check_sizes(sizes | {"eval_batch_size": eval_batch_size}, optional)
        check_at_least("instance_seed", instance_seed, 0)
        check_at_least("pad", pad, 0)
        check_flag("flip", flip)
        self.set = images.SETS[self.data]
        check_channels(mean, std, self.set.num_channels, f" of {self.data}")
        self.data_dir = data_dir
        self.mean = mean
        self.std = std
        self.num_tasks = num_tasks
        self.epochs_per_task = epochs_per_task
        self.per_task = {"train": train_per_task, "test": test_per_task}
        self.instance_seed = instance_seed
        self.pad = pad
        self.flip = flip
        self.eval_batch_size = eval_batch_size

    # What the tasks of a stream are.

    @abc.abstractmethod
    def members(self, labels: Tensor, task: int) -> Tensor:
        """Indices of a task's images in a split, in its order, from the labels of all, (n,)."""

    @abc.abstractmethod
    def inputs(self, pixels: Tensor, labels: Tensor, task: int) -> Any:
        """What the model is given of images.

        Args:
            pixels: bytes (num_images, height, width, channels).
            labels: of the set, (num_images,).
            task: whose images they are.
        """

    @abc.abstractmethod
    def targets(self, labels: Tensor) -> Tensor:
        """The outputs that are right for labels of the set, both (num_images,)."""

    @property
    @abc.abstractmethod
    def num_classes(self) -> int:
        """Classes that a task tells apart."""

    @abc.abstractmethod
    def logits(self, model: nn.Module, inputs: Any) -> Tensor:
        """The model's outputs, (num_images, classes)."""

    def data_hash(self) -> str:
        """Hash of the images and labels of both splits."""
        return content_hash(self.data, images.FILES, data_dir=self.data_dir)

    def setup(self, device: torch.device | str, dtype: torch.dtype) -> None:
        """Verify and read the set, and divide it among the tasks.

        Raises:
            DataError: if a file is missing or damaged, or a task has no image.
            ValueError: if a task has fewer images than are asked for.
        """
        folder = require(self.data, self.data_dir, images.FILES)
        self._normalization = images.Normalization.of(
            self.mean, self.std, device, dtype, channels_last=True
        )
        self._pixels, self._labels = {}, {}
        self._members: dict[str, list[Tensor]] = {}  # all images of each task
        self._used: dict[str, list[Tensor]] = {}  # those that are trained on, or evaluated
        for split, number in self.per_task.items():
            pixels, labels = load_images(folder, split, self.set.image_shape, self.set.num_classes)
            self._labels[split] = torch.as_tensor(labels).to(device, torch.int64)
            self._pixels[split] = torch.as_tensor(pixels).view(*pixels.shape[:3], -1).to(device)
            members = [self.members(self._labels[split], task) for task in range(self.num_tasks)]
            for task, own in enumerate(members):
                if not len(own):
                    raise DataError(f"{folder}/{split}_labels.npy has no image of task {task}")
                if number is not None and number > len(own):
                    raise ValueError(
                        f"{split}_per_task must be <= {len(own)}, the images of task {task}, "
                        f"got {number}"
                    )
            self._members[split], self._used[split] = members, [own[:number] for own in members]
        smallest = min(map(len, self._used["train"]))
        if self.batch_size > smallest:
            raise ValueError(
                f"batch_size must be <= {smallest}, the training images of the smallest task, "
                f"got {self.batch_size}"
            )
        self._steps_per_epoch = smallest // self.batch_size
        self.reset()

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches that the smallest task fills."""
        return self._steps_per_epoch

    def task_of(self, epoch: int) -> int:
        """The task that an epoch trains on."""
        return min(epoch // self.epochs_per_task, self.num_tasks - 1)

    def has_ended(self, epoch: int) -> int | None:
        """The task that ends with an epoch, unless it is the last; None: none."""
        task, rest = divmod(epoch + 1, self.epochs_per_task)
        return task - 1 if not rest and task < self.num_tasks else None

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield what is shown of images, and what the model must say of each."""
        task = self.task_of(epoch)
        own = self._used["train"][task]
        order = torch.randperm(len(own), generator=seeded(self.seed, epoch)).to(own.device)
        for index in range(start, self._steps_per_epoch):
            chosen = own[order[index * self.batch_size : (index + 1) * self.batch_size]]
            pixels = self.viewed(chosen, (self.seed, epoch, index + 1))
            labels = self._labels["train"][chosen]
            inputs, targets = self.inputs(pixels, labels, task), self.targets(labels)
            yield Batch(inputs, targets, epoch, index, len(chosen))

    def viewed(self, chosen: Tensor, key: tuple[int, ...]) -> Tensor:
        """Bytes of training images, cropped and mirrored as the key says."""
        pixels = self._pixels["train"].index_select(0, chosen)
        if not (self.pad or self.flip):
            return pixels
        views = draw_views(len(pixels), self.pad, self.flip, seeded(*key))
        return apply_views(pixels, self.pad, Views(*(x.to(pixels.device) for x in views)))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy, in nats."""
        return F.cross_entropy(self.logits(model, batch.inputs), batch.targets)

    def measure(self, model: nn.Module, split: str) -> dict[str, float]:
        """Loss and accuracy over all tasks, and the accuracy on each."""
        used, device = self._used[split], self._labels[split].device
        total = torch.zeros((), dtype=torch.float64, device=device)
        correct = torch.zeros(self.num_tasks, dtype=torch.int64, device=device)
        for task, own in enumerate(used):
            for chosen in own.split(self.eval_batch_size):
                pixels, labels = self._pixels[split][chosen], self._labels[split][chosen]
                logits = self.logits(model, self.inputs(pixels, labels, task)).double()
                targets = self.targets(labels)
                total += F.cross_entropy(logits, targets, reduction="sum")
                correct[task] += (logits.argmax(1) == targets).sum()
        counts, right = [len(own) for own in used], correct.tolist()
        metrics = {"loss": total.item() / sum(counts), "accuracy": sum(right) / sum(counts)}
        each = enumerate(zip(right, counts, strict=True))
        return metrics | {f"accuracy/task_{task:02}": n / count for task, (n, count) in each}

    def facts(self) -> dict[str, float]:
        """`trivial`: the accuracy of each task's most frequent training class; `chance`."""
        right, count = 0, 0
        for seen, own in zip(self._used["train"], self._used["test"], strict=True):
            seen = torch.bincount(self.targets(self._labels["train"][seen]))
            right += (self.targets(self._labels["test"][own]) == seen.argmax()).sum().item()
            count += len(own)
        return self.trivial({"accuracy": right / count}) | {"chance": 1 / self.num_classes}
