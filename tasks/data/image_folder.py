"""Image files in folders by class, read, cropped and batched by worker processes."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tasks.data.store import DataError
from tasks.seeding import seeded

_GRACE_SECONDS = 30  # that a worker goes on after SIGTERM

# (image, generator of its own) -> image of the size that the model takes
View = Callable[[Image.Image, torch.Generator], Image.Image]


@dataclass(frozen=True)
class FolderSplit:
    """The images of a split, sorted by path.

    Args:
        folder: of the split.
        paths: below it, "class/file", shape (num_images,), bytes. One array, as worker processes
            share its memory: each would copy a list of a million strings by counting references.
        labels: shape (num_images,), int64.
    """

    folder: Path
    paths: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def path(self, number: int) -> Path:
        """Where an image lies."""
        return self.folder / os.fsdecode(bytes(self.paths[number]))


def find_splits(
    folder: Path, files: Sequence[str], splits: Sequence[str]
) -> tuple[dict[str, FolderSplit], tuple[str, ...]]:
    """Sort the files of a set, "split/class/file", by split and class.

    Args:
        files: of the set, with "/" between folders; those outside of the splits are left alone.
        splits: the first one's classes, sorted, are the classes of all.
    Returns:
        {split: its images}, and the names of the classes, whose positions are the labels.
    Raises:
        DataError: if a split is empty, an image lies in no class, or its class is not one of the
            first split's.
    """
    found, classes = {}, {}
    for split in splits:
        paths = sorted(file.split("/", 1)[1] for file in files if file.startswith(f"{split}/"))
        if not paths:
            raise DataError(f"{folder / split} must hold images in folders by class, got none")
        for path in paths:
            if path.count("/") != 1:
                raise DataError(f"{folder / split / path} must lie in a folder named as its class")
        names = [path.split("/")[0] for path in paths]
        classes = classes or {name: label for label, name in enumerate(sorted(set(names)))}
        for name in sorted(set(names) - set(classes)):
            raise DataError(
                f"{folder / split / name} must be one of the classes of {splits[0]}, which has no "
                f"{name}"
            )
        labels = np.array([classes[name] for name in names], dtype=np.int64)
        found[split] = FolderSplit(folder / split, np.array(list(map(os.fsencode, paths))), labels)
    return found, tuple(classes)


def read_image(path: Path) -> Image.Image:
    """Read an image file as RGB, gray ones included.

    Raises:
        DataError: if it is missing or damaged.
    """
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    # What PIL raises for damaged files, by the place and the kind of damage.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path} must be an image that can be read: {reason}") from error


class _Batches(Dataset):
    """Batches by the numbers of their images: bytes (batch, height, width, 3) and labels.

    The random numbers of a view come from (key, number of the image) alone, whichever process
    draws them. What is wrong with a file is given as text instead, since an exception would come
    out of a worker with that process's traceback for its message.
    """

    def __init__(self, split: FolderSplit, view: View, key: tuple[int, ...]) -> None:
        self.split = split
        self.view = view
        self.key = key

    def __getitem__(self, numbers: np.ndarray) -> tuple[Tensor, Tensor] | str:
        try:
            # number + 1, as zeros at the end of a key do not count.
            views = [
                self.view(read_image(self.split.path(n)), seeded(*self.key, n + 1))
                for n in numbers.tolist()
            ]
        except DataError as error:
            return str(error)
        pixels = torch.from_numpy(np.stack([np.asarray(view) for view in views]))
        return pixels, torch.from_numpy(self.split.labels[numbers])


def read_batches(
    split: FolderSplit,
    view: View,
    key: tuple[int, ...],
    batches: Sequence[np.ndarray],
    num_workers: int,
    pin_memory: bool = False,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of images, ahead of their use where there are workers.

    The numbers do not depend on the workers, nor on which batches were asked for before. The
    global generators are neither read nor moved. Workers end when the iterator ends or is dropped.

    Args:
        view: makes the image that the model is to see.
        key: seeds the views, together with the number of the image.
        batches: numbers of the images of each batch.
        num_workers: processes, no more than there are cores; 0: this process reads.
        pin_memory: put batches where a CUDA device can fetch them by itself.
    Yields:
        Pixels (batch, height, width, 3), uint8, and labels (batch,), int64.
    Raises:
        DataError: if a file is missing or damaged.
    """
    workers = min(num_workers, _num_cores())
    loader = DataLoader(
        _Batches(split, view, key),
        sampler=batches,
        batch_size=None,  # what the sampler gives is a batch already
        num_workers=workers,
        # Within a job of joblib, multiprocessing's default is joblib's own, which cannot do this.
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
        worker_init_fn=_leave_signals_to_parent,
        generator=torch.Generator(),  # else it would draw from the global one
        pin_memory=pin_memory,
    )
    with warnings.catch_warnings():
        # Of forking beside threads, where Python >= 3.12 does it: these processes touch nothing
        # that another thread could hold, as they read files and resize images only.
        warnings.filterwarnings("ignore", ".*use of fork", DeprecationWarning)
        iterator = iter(loader)
    try:
        for batch in iterator:
            if isinstance(batch, str):
                raise DataError(batch)
            pixels, labels = batch
            yield pixels, labels
    finally:
        # The last reference: workers end now, and not when whoever holds the traceback lets it go.
        del iterator


def _leave_signals_to_parent(worker: int) -> None:
    """A signal to the whole group lets the parent finish its step, for which it needs us.

    SIGTERM is also how a parent ends workers that it has lost sight of, so it works late. One
    whose parent has died ends by itself, within seconds.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_GRACE_SECONDS))


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
