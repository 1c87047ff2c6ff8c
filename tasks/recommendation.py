"""Recommendation from clicks by a variational autoencoder (KrADagrad, Fig. 5)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tasks.base import Batch, CurvatureInfo, Task
from tasks.checks import check_at_least, check_callable, check_choice, check_number, check_sizes
from tasks.data import ml_20m, ml_latest_small
from tasks.data.clicks import Clicks, Heldout, read_split
from tasks.data.store import content_hash, require
from tasks.likelihood import LIKELIHOODS
from tasks.ranking import ndcg, recall, top_items
from tasks.seeding import seeded

SETS = {"ml_20m": ml_20m, "ml_latest_small": ml_latest_small}
_ORDER, _NOISE = 0, 1  # what a generator is for


class Recommendation(Task):
    """Tell from some of a user's clicks which others there are.

    The loss of a user is reconstruction + beta KL, with -log p(x | z1, z2) of the user's clicks x
    and the divergence at one draw of z (`HVamp`), in nats; of a batch, the mean. During the n-th
    epoch, from 1, beta = max_beta min(1, n / warmup_epochs) [Kim and Suh 2019, their code]. Each
    epoch visits all training users in a fresh order; the last batch may be smaller.

    Evaluation, of all users of a split, of "train" the first `eval_train`:
        reconstruction, kl    at one draw of z, the same at each evaluation; of held-out users, of
                              the clicks that are seen
        loss                  their sum, beta being 1: the negative evidence lower bound
        ndcg_100, recall_20, recall_50    (`tasks.ranking`) of the hidden clicks of held-out users,
                              by scores at the means of z, as in the published code

    Args:
        data_dir: folder of the data sets.
        num_items: movies that count, the most clicked ones (`tasks.data.clicks`).
        num_heldout: users who validate, and as many who test.
        model: makes the model from num_items, as `HVamp` does.
        likelihood: of clicks, "bernoulli" or "multinomial".
        max_beta: weight of the KL after the warm-up.
        warmup_epochs: 0: none.
        eval_batch_size: users at a time in evaluation; bounds memory, changes only rounding.
        eval_train: training users that evaluation on "train" takes; None: all.
        num_train: training users that are there at all, the first ones; None for all, a number
            only at scale=smoke.
    Raises:
        ValueError: on an option out of range.
    """

    splits = ("train", "valid", "test")

    def __init__(
        self,
        *,
        data_dir: str,
        num_items: int,
        num_heldout: int,
        model: Callable[..., nn.Module],
        likelihood: str,
        max_beta: float,
        warmup_epochs: int,
        eval_batch_size: int,
        eval_train: int | None = None,
        num_train: int | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        check_choice("data", self.data, tuple(SETS))
        check_choice("likelihood", likelihood, tuple(LIKELIHOODS))
        sizes = {"num_items": num_items, "num_heldout": num_heldout}
        optional = {"eval_train": eval_train, "num_train": num_train}
        check_sizes(sizes | {"eval_batch_size": eval_batch_size}, optional)
        check_at_least("warmup_epochs", warmup_epochs, 0)
        check_number("max_beta", max_beta, least=0)
        check_callable("model", model)
        self.data_dir = data_dir
        self.num_items = num_items
        self.num_heldout = num_heldout
        self._model = model
        self.likelihood = LIKELIHOODS[likelihood]
        self.max_beta = max_beta
        self.warmup_epochs = warmup_epochs
        self.eval_batch_size = eval_batch_size
        self.eval_train = eval_train
        self.num_train = num_train

    def data_hash(self) -> str:
        """Hash of the ratings, from the set's list."""
        return content_hash(self.data, SETS[self.data].FILES, data_dir=self.data_dir)

    def make_model(self) -> nn.Module:
        """The autoencoder with its authors' initial values."""
        return self._model(num_items=self.num_items)

    def setup(self, device: torch.device | str, dtype: torch.dtype) -> None:
        """Verify, read and split the ratings; clicks become rows of `dtype` batch by batch.

        Raises:
            DataError: if the file is missing or damaged, or too few users are left of it.
            ValueError: if training users have clicked fewer movies than num_items.
        """
        files = SETS[self.data].FILES
        folder = require(self.data, self.data_dir, files)
        split = read_split(folder / files[0], self.num_heldout, self.num_items, self.num_train)
        self._dtype = dtype
        self._train = split.train.to(device)
        self._heldout = {
            name: Heldout(users.seen.to(device), users.hidden.to(device))
            for name, users in (("valid", split.valid), ("test", split.test))
        }

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch; the last may be smaller."""
        return -(-len(self._train) // self.batch_size)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield rows of clicks (users, num_items), which are inputs and targets."""
        order = torch.randperm(len(self._train), generator=seeded(self.seed, epoch, _ORDER))
        order = order.to(self._train.items.device)
        for index, users in enumerate(order.split(self.batch_size)):
            if index >= start:
                clicks = self._train.rows(users, self._dtype)
                yield Batch(clicks, clicks, epoch, index, len(users))

    def beta(self, epoch: int) -> float:
        """Weight of the KL during an epoch, counted from 0."""
        warmth = min(1.0, (epoch + 1) / self.warmup_epochs) if self.warmup_epochs else 1.0
        return self.max_beta * warmth

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean over the users of reconstruction + beta KL, beta being that of the batch's epoch."""
        reading = model(batch.inputs)
        logits = reading.logits.to(batch.targets.dtype)
        reconstruction = self.likelihood.loss(logits, batch.targets)
        return (reconstruction + self.beta(batch.epoch) * reading.kl).mean()

    def measure(self, model: nn.Module, split: str) -> dict[str, float]:
        """The metrics that the class states, summed in float64."""
        ranked = split != "train"
        seen = self._heldout[split].seen if ranked else self._train
        count = len(seen) if ranked else min(len(seen), self.eval_train or len(seen))
        generator = seeded(self.seed, self.splits.index(split), _NOISE)
        noise = torch.randn(count, sum(model.sizes), generator=generator)
        sums: dict[str, Tensor] = {}
        for users in torch.arange(count).split(self.eval_batch_size):
            found = self._of_users(model, seen, users, noise[users])
            if ranked:
                scores = self._scores(model, seen, users)
                found |= self._ranked(scores, self._heldout[split], users)
            for name, values in found.items():
                sums[name] = sums.get(name, 0) + values.double().sum()
        means = {name: total.item() / count for name, total in sums.items()}
        return {"loss": means["reconstruction"] + means["kl"], **means}

    def _of_users(
        self, model: nn.Module, seen: Clicks, users: Tensor, noise: Tensor
    ) -> dict[str, Tensor]:
        users = users.to(seen.items.device)
        clicks = seen.rows(users, self._dtype)
        reading = model(clicks, noise.to(clicks.device))
        logits = reading.logits.to(clicks.dtype)
        return {"reconstruction": self.likelihood.loss(logits, clicks), "kl": reading.kl}

    def _scores(self, model: nn.Module, seen: Clicks, users: Tensor) -> Tensor:
        return model(seen.rows(users.to(seen.items.device), self._dtype)).logits

    def _ranked(self, scores: Tensor, heldout: Heldout, users: Tensor) -> dict[str, Tensor]:
        users = users.to(scores.device)
        hidden = heldout.hidden.rows(users, self._dtype)
        top = top_items(scores, heldout.seen.rows(users, self._dtype), 100)
        return {
            "ndcg_100": ndcg(top, hidden),
            "recall_20": recall(top[:, :20], hidden),
            "recall_50": recall(top[:, :50], hidden),
        }

    def facts(self) -> dict[str, float]:
        """`trivial`: of a ranking by how many training users clicked a movie, the same for all.

        Its loss is that of probabilities from these numbers, each movie and each user counted
        once more.
        """
        split = self.target.split
        if split == "train":
            return {}
        heldout = self._heldout[split]
        users = torch.arange(len(heldout.seen))
        counts = self._train.counts().to(self._dtype)
        rates = (counts + 1) / (len(self._train) + 2)
        logits = self.likelihood.constant(rates)
        sums: dict[str, float] = {}
        for chunk in users.split(self.eval_batch_size):
            scores = logits.expand(len(chunk), -1)
            found = self._ranked(scores, heldout, chunk)
            clicks = heldout.seen.rows(chunk.to(scores.device), self._dtype)
            found["loss"] = self.likelihood.loss(scores, clicks)
            for name, values in found.items():
                sums[name] = sums.get(name, 0.0) + values.double().sum().item()
        return self.trivial({name: total / len(users) for name, total in sums.items()})

    def curvature_pass(self, batch: Batch) -> contextlib.AbstractContextManager[CurvatureInfo]:
        """None: the loss of each user reaches the encoder's weights through all pseudo-inputs, too.

        One pass backward gives that of the pseudo-inputs summed over users only, and their rows
        are no samples. What is recorded of the users' own rows would not sum to the gradient.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            "the task must give per-sample information for this optimizer, got a prior of "
            "pseudo-inputs, through which every user's loss reaches the same encoder"
        )
