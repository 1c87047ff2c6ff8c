"""Split CIFAR-100 by look-ahead meta-learning (KrADagrad, Fig. 4b)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from tasks.base import Batch
from tasks.checks import check_at_least, check_flag, check_number, check_sizes
from tasks.continual import MEMORY, REPLAY, ContinualImages
from tasks.lookahead import chunks, look_ahead, look_ahead_gradients
from tasks.models.multi_head_cnn import MultiHeadCNN
from tasks.seeding import seeded

CLASS_ORDER = (0, 0, 0, 2)  # end of the key (instance_seed, ...)


class SplitCIFAR100LaMAML(ContinualImages):
    """Classify images of a few classes a task, by a network with a head for each task.

    The gradient of a batch is La-MAML's [Gupta et al. 2020]: steps are tried on parts of the batch,
    with a rate for each parameter, and the loss after each on the batch and as many images from a
    memory is differentiated through them (`tasks.lookahead`). The rates learn by the same gradient.
    The memory is a reservoir over the tasks that have ended: each of their images is in it with the
    same probability.

    `learned_lr` is La-MAML itself, where the step on the parameters takes the learned rates, too:
    `.grad` is the gradient times the rates, those below 0 counted as 0, and what makes the step is
    optimizer=sgd optimizer.lr=1. Else the optimizer is free, and the rates serve to look ahead
    alone, what Avalanche calls sync_update.

    Args:
        classes_per_task: of the set's classes, in an order drawn from instance_seed.
        width, hidden: of the network (`MultiHeadCNN`).
        num_inner_updates: steps that look ahead, each on its share of the batch.
        second_order: differentiate through the gradients of these steps.
        clip: of the entries of their gradients, and of the length of the gradients that come of it.
        alpha_init: the rates at the start.
        lr_alpha: rate at which the rates learn; 0: never.
        learned_lr: multiply the gradient by the rates.
        memory_size: images in the memory.
        replay_size: images from it that join a batch.
        common: of `ContinualImages` and `Task`.
    Raises:
        ValueError: on an option out of range.
    """

    def __init__(
        self,
        *,
        classes_per_task: int,
        width: int,
        hidden: int,
        num_inner_updates: int,
        second_order: bool,
        clip: float,
        alpha_init: float,
        lr_alpha: float,
        learned_lr: bool,
        memory_size: int,
        replay_size: int,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        check_at_least("classes_per_task", classes_per_task, 2)
        if self.num_tasks * classes_per_task > self.set.num_classes:
            raise ValueError(
                f"num_tasks * classes_per_task must be <= {self.set.num_classes}, the classes of "
                f"{self.data}, got {self.num_tasks} * {classes_per_task}"
            )
        sizes = {"width": width, "hidden": hidden, "num_inner_updates": num_inner_updates}
        check_sizes(sizes | {"memory_size": memory_size, "replay_size": replay_size})
        check_flag("second_order", second_order)
        check_flag("learned_lr", learned_lr)
        check_number("clip", clip, above=0)
        check_number("alpha_init", alpha_init, least=0)
        check_number("lr_alpha", lr_alpha, least=0)
        self.classes_per_task = classes_per_task
        self.width = width
        self.hidden = hidden
        self.num_inner_updates = num_inner_updates
        self.second_order = second_order
        self.clip = clip
        self.alpha_init = alpha_init
        self.lr_alpha = lr_alpha
        self.learned_lr = learned_lr
        self.memory_size = memory_size
        self.replay_size = replay_size
        order = torch.randperm(
            self.set.num_classes, generator=seeded(self.instance_seed, *CLASS_ORDER)
        )
        # Of each label its place in that order: task * classes_per_task + class within the task.
        self._places = order.argsort()

    @property
    def num_classes(self) -> int:
        """Classes of one task: which task it is, is known."""
        return self.classes_per_task

    def make_model(self) -> nn.Module:
        """The network with its own initial values."""
        return MultiHeadCNN(self.width, self.hidden, self.num_tasks, self.classes_per_task)

    def members(self, labels: Tensor, task: int) -> Tensor:
        """The images of a task's classes."""
        return (self.task_numbers(labels) == task).nonzero().squeeze(1)

    def task_numbers(self, labels: Tensor) -> Tensor:
        """The task of each label; num_tasks and above where it belongs to none."""
        return self._places.to(labels.device)[labels] // self.classes_per_task

    def inputs(self, pixels: Tensor, labels: Tensor, task: int) -> tuple[Tensor, Tensor]:
        """Normalised images (num_images, 3, 32, 32), and the task of each."""
        return self._normalization(pixels), self.task_numbers(labels)

    def targets(self, labels: Tensor) -> Tensor:
        """The place of each class within its task."""
        return self._places.to(labels.device)[labels] % self.classes_per_task

    def logits(self, model: nn.Module, inputs: tuple[Tensor, Tensor]) -> Tensor:
        """The outputs of each image's own head."""
        return model(*inputs)

    # Looking ahead.

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The meta-loss, with its graph, at the rates as they are."""
        parameters = dict(model.named_parameters())
        with torch.enable_grad():
            inner, outer = self._losses(model, list(parameters), batch)
            rates = self._rates_of(list(parameters.values()), batch)
            return look_ahead(
                list(parameters.values()), rates, inner, outer, self.clip, self.second_order
            )

    def backward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Add the meta-gradient, cut to length `clip`, to `.grad`; the rates learn.

        A batch that is given again (a closure called twice) starts from the same rates again.

        Returns:
            The meta-loss, detached.
        """
        parameters = dict(model.named_parameters())
        tensors = list(parameters.values())
        inner, outer = self._losses(model, list(parameters), batch)
        rates = self._rates_of(tensors, batch)
        looked = look_ahead_gradients(tensors, rates, inner, outer, self.clip, self.second_order)
        grads = looked.grads
        self._rates = [r - self.lr_alpha * g for r, g in zip(rates, looked.rate_grads, strict=True)]
        if self.learned_lr:
            grads = [g * rate.relu() for g, rate in zip(grads, self._rates, strict=True)]
        for parameter, grad in zip(tensors, grads, strict=True):
            parameter.grad = grad if parameter.grad is None else parameter.grad + grad
        return looked.loss

    def _losses(
        self, model: nn.Module, names: list[str], batch: Batch
    ) -> tuple[list[Callable[..., Tensor]], Callable[..., Tensor]]:
        """The losses of the steps that look ahead, and the one that is looked at."""
        images, numbers = batch.inputs

        def mean_loss(inputs, targets, values):
            values = dict(zip(names, values, strict=True))
            return F.cross_entropy(functional_call(model, values, inputs), targets)

        inner = [
            partial(mean_loss, (images[part], numbers[part]), batch.targets[part])
            for part in chunks(batch.num_samples, self.num_inner_updates)
        ]
        if not len(self._memory):
            return inner, partial(mean_loss, batch.inputs, batch.targets)
        (more, their_numbers), their_targets = self.replayed(batch)
        both = (torch.cat([images, more]), torch.cat([numbers, their_numbers]))
        return inner, partial(mean_loss, both, torch.cat([batch.targets, their_targets]))

    def replayed(self, batch: Batch) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Inputs and targets of the images that join a batch.

        They come from passes over the memory in drawn orders: a function of (seed, epoch, index)
        and of what the memory holds.
        """
        per_pass = max(1, len(self._memory) // self.replay_size)
        number, index = divmod(batch.index, per_pass)
        key = (self.seed, batch.epoch, *REPLAY, number)
        order = torch.randperm(len(self._memory), generator=seeded(*key))
        order = order[index * self.replay_size : (index + 1) * self.replay_size]
        chosen = self._memory[order.to(self._memory.device)]
        labels = self._labels["train"][chosen]
        pixels = self.viewed(chosen, (self.seed, batch.epoch, batch.index + 1, 1))
        return self.inputs(pixels, labels, 0), self.targets(labels)

    def _rates_of(self, parameters: list[Tensor], batch: Batch) -> list[Tensor]:
        """The rates that a batch starts from."""
        if self._position != (batch.epoch, batch.index):
            self._position = (batch.epoch, batch.index)
            self._before = self._rates
        if not self._before:
            self._before = [torch.full_like(p, self.alpha_init) for p in parameters]
        return self._before

    # State.

    def after_epoch(self, model: nn.Module, epoch: int) -> None:
        """Let the images of the task that has ended into the reservoir.

        Each draws a number; those with the largest numbers of all stay.
        """
        task = self.has_ended(epoch)
        if task is None or task != self._num_ended:
            return
        own = self._used["train"][task]
        drawn = torch.rand(
            len(own), dtype=torch.float64, generator=seeded(self.seed, epoch, *MEMORY)
        )
        numbers = torch.cat([self._numbers, drawn.to(own.device)])
        kept = numbers.argsort(descending=True)[: self.memory_size]
        self._memory = torch.cat([self._memory, own])[kept]
        self._numbers = numbers[kept]
        self._num_ended = task + 1

    def state_dict(self) -> dict[str, Any]:
        """The rates before and after the last batch, its position, and the memory."""
        state = {"ended": self._num_ended, "memory": self._memory, "numbers": self._numbers}
        if self._position is not None:
            state["epoch"], state["index"] = self._position
        for name, rates in (("before", self._before), ("rate", self._rates)):
            state |= {f"{name}_{index}": rate for index, rate in enumerate(rates)}
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, on the device of the images."""
        device = self._labels["train"].device

        def listed(name):
            count = sum(key.startswith(f"{name}_") for key in state)
            return [state[f"{name}_{index}"].to(device) for index in range(count)]

        self._num_ended = state["ended"]
        self._memory, self._numbers = (state[key].to(device) for key in ("memory", "numbers"))
        self._position = (state["epoch"], state["index"]) if "epoch" in state else None
        self._before, self._rates = listed("before"), listed("rate")

    def reset(self) -> None:
        """Forget the memory; the rates are those of the start."""
        device = self._labels["train"].device
        self._num_ended = 0
        self._memory = torch.zeros(0, dtype=torch.int64, device=device)
        self._numbers = torch.zeros(0, dtype=torch.float64, device=device)
        self._position: tuple[int, int] | None = None
        self._before: list[Tensor] = []
        self._rates: list[Tensor] = []
