"""The contract between a task and whatever trains it."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tasks.checks import check_at_least, check_list, check_number


@dataclass(frozen=True)
class Batch:
    """One batch and its place in the run.

    Args:
        inputs: what the model is given, several tensors as a tuple; None where the loss needs no
            data.
        targets: what its output is compared with; None where there is none.
        epoch: number of the epoch, from 0.
        index: position of the batch in the epoch, from 0.
        num_samples: samples in the batch; the loss is their mean.
    """

    inputs: Tensor | tuple[Tensor, ...] | None
    targets: Tensor | None
    epoch: int
    index: int
    num_samples: int


@dataclass(frozen=True)
class Target:
    """The value of a metric on a split at which a task counts as solved.

    Raises:
        ValueError: if direction is neither "min" nor "max", or value is no number.
    """

    metric: str
    split: str
    direction: str
    value: float

    def __post_init__(self) -> None:
        if self.direction not in ("min", "max"):
            raise ValueError(f"target.direction must be min or max, got {self.direction}")
        check_number("target.value", self.value)


@dataclass(frozen=True)
class CurvatureInfo:
    """How a batch's loss is made of its samples: loss = sum_i weights[i] * loss_i.

    Args:
        num_samples: number of samples in the batch.
        batch_dim: dimension of activations along which the samples lie.
        weights: weight of each sample in the loss, shape (num_samples,). The loss of a sequence
            is the sum over its positions.
    """

    num_samples: int
    batch_dim: int
    weights: Tensor


class Task(abc.ABC):
    """A problem to train on: model, batches, loss, evaluation, target and budget.

    `numerics_version` is raised by a subclass whenever its numbers change.

    Args:
        seed: of the model's initial values and of the batches.
        data: name of the data set, "synthetic" where it is generated.
        target: when the task counts as solved.
        max_steps: optimizer steps in the whole budget.
        batch_size: samples (or parallel streams of text) in a batch.
        evaluate_at: a number n of evaluations, evenly spaced after step 0, or the steps
            themselves; step 0 and the last are always included.
        eval_splits: splits that are evaluated during training.
        clip_norm: largest norm of the gradient, cut between backward and step; None: no limit.
        early_stopping: evaluations without improvement after which a run ends; None: never.
        average_last: number of parameters that are averaged at the end; 0: none.
        average_every: steps between them, counted back from the last step.
    Raises:
        ValueError: on a value out of range or a split that the task does not have.
    """

    numerics_version: int = 1
    splits: tuple[str, ...] = ("train",)

    def __init__(
        self,
        *,
        seed: int,
        data: str,
        target: Target,
        max_steps: int,
        batch_size: int,
        evaluate_at: int | Sequence[int],
        eval_splits: Sequence[str],
        clip_norm: float | None = None,
        early_stopping: int | None = None,
        average_last: int = 0,
        average_every: int = 1,
    ) -> None:
        check_at_least("max_steps", max_steps, 1)
        check_at_least("batch_size", batch_size, 1)
        check_at_least("average_last", average_last, 0)
        check_at_least("average_every", average_every, 1)
        check_number("clip_norm", clip_norm, above=0, optional=True)
        if early_stopping is not None:
            check_at_least("early_stopping", early_stopping, 1)
        if not isinstance(target, Target):
            raise ValueError(f"target must be a metric, split, direction and value, got {target}")
        check_list("eval_splits", eval_splits, f"be a list of {', '.join(self.splits)}")
        for split in (*eval_splits, target.split):
            self._check_split(split)
        if isinstance(evaluate_at, int):
            check_at_least("evaluate_at", evaluate_at, 1)
        else:
            check_list("evaluate_at", evaluate_at, "be an integer or a list of steps")
            evaluate_at = tuple(evaluate_at)
            for step in evaluate_at:
                check_at_least("evaluate_at", step, 0)
        self.seed = seed
        self.data = data
        self.target = target
        self.max_steps = max_steps
        self.batch_size = batch_size
        self.evaluate_at: int | tuple[int, ...] = evaluate_at
        self.eval_splits = tuple(eval_splits)
        self.clip_norm = clip_norm
        self.early_stopping = early_stopping
        self.average_last = average_last
        self.average_every = average_every

    def build_model(self) -> nn.Module:
        """Build the model, seeded by `seed` alone: the global generator is neither read nor moved.

        Needs no data on disk. The model is on the CPU, in float32.
        """
        with torch.random.fork_rng(devices=()):
            torch.default_generator.manual_seed(self.seed)
            return self.make_model()

    def backward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Add the gradient of the batch's loss to `.grad` and return the loss, detached."""
        loss = self.loss(model, batch)
        loss.backward()
        return loss.detach()

    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        """Measure the model on a split, in eval mode and without gradients.

        State carried between training batches is neither used nor changed, and the model's mode
        is put back.

        Raises:
            ValueError: if the task has no such split.
        """
        self._check_split(split)
        was_training = model.training
        model.eval()
        try:
            with torch.no_grad():
                return self.measure(model, split)
        finally:
            model.train(was_training)

    def _check_split(self, split: str) -> None:
        if split not in self.splits:
            allowed = ", ".join(self.splits)
            raise ValueError(
                f"split must be one of {allowed} for {type(self).__name__}, got {split}"
            )

    # What every task says for itself.

    @abc.abstractmethod
    def data_hash(self) -> str:
        """Hash of the data's content, known without reading it; "" where it is generated."""

    @abc.abstractmethod
    def make_model(self) -> nn.Module:
        """Make the model; called by `build_model`, which seeds the global generator before."""

    @abc.abstractmethod
    def setup(self, device: torch.device | str, dtype: torch.dtype) -> None:
        """Load or generate the data and move it to the device; called once, before the rest.

        Args:
            device: where batches are to lie.
            dtype: float32 or float64, of whatever in them is not an integer.
        Raises:
            DataError: if a file is missing or damaged.
        """

    @property
    @abc.abstractmethod
    def steps_per_epoch(self) -> int:
        """Batches in an epoch; valid after `setup`."""

    @abc.abstractmethod
    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from position `start`: a function of (seed, epoch) only."""

    @abc.abstractmethod
    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean loss over the batch, a scalar that can be differentiated."""

    @abc.abstractmethod
    def measure(self, model: nn.Module, split: str) -> dict[str, float]:
        """Compute the metrics of a split; called by `evaluate`, which sets mode and no_grad."""

    # What a task replaces where it has something to say.

    def after_epoch(self, model: nn.Module, epoch: int) -> None:
        """Called when an epoch has ended."""

    def curvature_pass(self, batch: Batch) -> contextlib.AbstractContextManager[CurvatureInfo]:
        """Context of the pass whose gradients count, saying what a sample is and what it weighs.

        Raises:
            ValueError: if the task has no per-sample information to give.
        """
        raise ValueError(
            f"the task must give per-sample information for this optimizer, got "
            f"{type(self).__name__}, which has none"
        )

    def facts(self) -> dict[str, float]:
        """Numbers about the instance, such as its optimum; valid after `setup`.

        `trivial` is the target's metric of a predictor that knows how often what occurs, or the
        mean of it, and nothing else.
        """
        return {}

    def trivial(self, metrics: dict[str, float]) -> dict[str, float]:
        """The fact `trivial`, from the metrics of such a predictor; none without the target's."""
        metric = self.target.metric
        return {"trivial": metrics[metric]} if metric in metrics else {}

    def state_dict(self) -> dict[str, Any]:
        """State carried between batches, as tensors and integers."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""

    def reset(self) -> None:
        """Forget the state carried between batches."""
