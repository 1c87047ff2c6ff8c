"""Prediction of clicks on advertisements from counts and categories (NG+, Fig. 5)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.base import Batch, CurvatureInfo, Task
from tasks.checks import check_at_least, check_callable, check_choice, check_integers, check_sizes
from tasks.curvature import equal_weights
from tasks.data import criteo_10k, criteo_kaggle
from tasks.data.click_log import day_ends
from tasks.data.formats.criteo import NUM_CATEGORIES, NUM_INTEGERS
from tasks.data.store import content_hash, require
from tasks.data.streams import frequency_loss
from tasks.roc import area_under_roc
from tasks.seeding import seeded

SETS = {"criteo_10k": criteo_10k, "criteo_kaggle": criteo_kaggle}
CATEGORIES = ("hashed", "indexed")
NUM_DAYS = 7
# Rows of a log up to which all are made ready and kept on the device, at 264 bytes each.
MOST_KEPT = 2**20


class ClickThrough(Task):
    """Tell whether an advertisement that was shown is clicked, by binary cross-entropy.

    A row has 13 counts and 26 categories. As in DLRM's reference code a missing count is 0, a
    negative one becomes 0, and the model is given log(1 + count); a missing category is a category.
    The rows, in the order of time, are cut into seven days of equal numbers: the last one is
    "test", the `valid_days` before it "valid", and the others "train". An epoch visits the training
    rows in a fresh order; its last batch is smaller.

    Metrics: `loss`, the mean cross-entropy in nats, summed in float64; `accuracy`, of the guess
    that what is likelier than not is clicked, which the paper calls the click-through rate; `auc`,
    the area under the receiver operating characteristic.

    Args:
        data_dir: folder of the data sets.
        model: makes the model, (counts (batch, 13), categories (batch, 26)) -> logits (batch,),
            when called with table_rows and num_integers.
        table_rows: rows of each category's table, or of all alike.
        categories: "hashed", to the remainder of the category's own 32 bits, which are a hash;
            "indexed", each category of the whole log, test rows included, with a row of its own, as
            in DLRM's preprocessing.
        valid_days: days that are held out of training for choosing.
        eval_batch_size: rows at a time in evaluation; bounds memory, changes only rounding.
        eval_train: training rows that evaluation on "train" takes, evenly spaced; None: all.
        num_rows: first rows of the log that are there at all; None for all, a number only at
            scale=smoke.
    Raises:
        ValueError: on an option out of range.
    """

    splits = ("train", "valid", "test")

    def __init__(
        self,
        *,
        data_dir: str,
        model: Callable[..., nn.Module],
        table_rows: int | Sequence[int],
        categories: str,
        valid_days: int,
        eval_batch_size: int,
        eval_train: int | None,
        num_rows: int | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        check_choice("data", self.data, tuple(SETS))
        check_choice("categories", categories, CATEGORIES)
        check_at_least("valid_days", valid_days, 0)
        if valid_days > NUM_DAYS - 2:
            raise ValueError(f"valid_days must be <= {NUM_DAYS - 2}, got {valid_days}")
        for split in (*self.eval_splits, self.target.split):
            if split == "valid" and valid_days == 0:
                raise ValueError("valid_days must be >= 1 to evaluate valid, got 0")
        sizes = {"eval_train": eval_train, "num_rows": num_rows}
        check_sizes({"eval_batch_size": eval_batch_size}, sizes)
        check_callable("model", model)
        rows = [table_rows] * NUM_CATEGORIES if isinstance(table_rows, int) else table_rows
        wanted = f"be an integer >= 1, or {NUM_CATEGORIES} of them"
        check_integers("table_rows", rows, wanted, least=NUM_CATEGORIES, most=NUM_CATEGORIES)
        self.data_dir = data_dir
        self.model = model
        self.table_rows = tuple(rows)
        self.categories = categories
        self.valid_days = valid_days
        self.eval_batch_size = eval_batch_size
        self.eval_train = eval_train
        self.num_rows = num_rows

    def data_hash(self) -> str:
        """Hash of the log, from its list."""
        return content_hash(self.data, SETS[self.data].FILES, data_dir=self.data_dir)

    def make_model(self) -> nn.Module:
        """The model that the configuration names, with its own initial values."""
        return self.model(table_rows=self.table_rows, num_integers=NUM_INTEGERS)

    def setup(self, device: torch.device | str, dtype: torch.dtype) -> None:
        """Verify and open the log; rows become `dtype` batch by batch.

        Raises:
            DataError: if a file is missing or damaged.
            ValueError: if a day has no rows, or indexed categories are more than the table's rows.
        """
        folder = require(self.data, self.data_dir, SETS[self.data].FILES)
        log = SETS[self.data].read(folder)
        self._device, self._dtype = torch.device(device), dtype
        # A large log stays on disk: rows are fetched, and then moved, batch by batch.
        self._labels, self._integers, self._numbers = (
            torch.from_numpy(array[: self.num_rows])
            for array in (log.labels, log.integers, log.categories)
        )
        counts = torch.tensor([len(values) for values in log.values])
        if self.categories == "hashed":
            hashed = [
                torch.from_numpy((values % rows).astype("int64"))
                for values, rows in zip(log.values, self.table_rows, strict=True)
            ]
            self._firsts, self._hashed = counts.cumsum(0) - counts, torch.cat(hashed)
        elif bool((counts > torch.tensor(self.table_rows)).any()):
            raise ValueError(
                f"table_rows must be >= {counts.tolist()}, the categories of {self.data}, where "
                f"they are indexed, got {list(self.table_rows)}"
            )
        if len(self._labels) < NUM_DAYS:
            raise ValueError(f"num_rows must be >= {NUM_DAYS}, got {len(self._labels)}")
        ends = day_ends(len(self._labels), NUM_DAYS).tolist()
        train, test = ends[-2 - self.valid_days], ends[-2]
        self._bounds = {"train": (0, train), "valid": (train, test), "test": (test, ends[-1])}
        kept = len(self._labels) <= MOST_KEPT
        self._kept = self._fetched(torch.arange(len(self._labels))) if kept else None

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch, a smaller last one included."""
        return -(-self._bounds["train"][1] // self.batch_size)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield (log counts (n, 13), rows of the tables (n, 26), int64) and labels (n,)."""
        order = torch.randperm(self._bounds["train"][1], generator=seeded(self.seed, epoch))
        for index in range(start, self.steps_per_epoch):
            chosen = order[index * self.batch_size : (index + 1) * self.batch_size]
            yield Batch(*self._samples(chosen), epoch, index, len(chosen))

    def _samples(self, rows: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """What the model is given of some rows (n,), and their labels, on the device."""
        if self._kept is None:
            integers, numbers, labels = self._fetched(rows)
        else:
            rows = rows.to(self._device)
            integers, numbers, labels = (kept.index_select(0, rows) for kept in self._kept)
        return (integers, numbers), labels

    def _fetched(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log counts, rows of the tables and labels of some rows (n,), on the device."""
        numbers = self._numbers.index_select(0, rows).long()
        if self.categories == "hashed":
            numbers = self._hashed[numbers + self._firsts]
        integers = self._integers.index_select(0, rows).to(self._device, self._dtype)
        labels = self._labels.index_select(0, rows).to(self._device, self._dtype)
        return integers.clamp_(min=0).log1p_(), numbers.to(self._device), labels

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean binary cross-entropy, in nats."""
        return F.binary_cross_entropy_with_logits(model(*batch.inputs), batch.targets)

    def _evaluated(self, split: str) -> Tensor:
        """Which rows of the log are evaluated, shape (num_evaluated,)."""
        first, end = self._bounds[split]
        limit = self.eval_train if split == "train" else None
        count = min(end - first, limit or end - first)
        return first + torch.arange(count) * (end - first) // count

    def measure(self, model: nn.Module, split: str) -> dict[str, float]:
        """Loss, accuracy and area under the curve over the split's evaluated rows."""
        found = []
        for rows in self._evaluated(split).split(self.eval_batch_size):
            inputs, labels = self._samples(rows)
            found.append((model(*inputs).double(), labels.double()))
        logits, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
        return {
            "loss": F.binary_cross_entropy_with_logits(logits, labels).item(),
            "accuracy": ((logits > 0) == labels.bool()).double().mean().item(),
            "auc": area_under_roc(logits, labels),
        }

    def facts(self) -> dict[str, float]:
        """`trivial`: the target's metric of the training rows' click rate, given for every row."""
        train = self._labels[: self._bounds["train"][1]].long()
        wanted = self._labels[self._evaluated(self.target.split)].long()
        likelier = train.bincount(minlength=2).argmax()
        return self.trivial(
            {
                "loss": frequency_loss(train, wanted, 2),
                "accuracy": (wanted == likelier).double().mean().item(),
                "auc": 0.5,
            }
        )

    def curvature_pass(self, batch: Batch) -> contextlib.AbstractContextManager[CurvatureInfo]:
        """A sample is one row."""
        return equal_weights(batch, batch.num_samples)
