"""Permuted MNIST by gradient episodic memory (KrADagrad, Fig. 4a)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.base import Batch
from tasks.checks import check_at_least, check_choice, check_integers, check_number
from tasks.continual import MEMORY, ContinualImages
from tasks.gradient_projection import project
from tasks.models.mlp import mlp
from tasks.seeding import seeded

PERMUTATION = (0, 0, 0, 1)  # end of the key (instance_seed, task, ...)


class PermutedMNISTGEM(ContinualImages):
    """Classify images whose pixels each task puts into another fixed order, by an MLP.

    When a task ends, some of its images are kept. From then on the gradient of each batch is
    projected so that it disagrees with the mean gradient of no earlier task's images
    [Lopez-Paz and Ranzato 2017]: `tasks.gradient_projection`.

    Args:
        widths: of the MLP: pixels, hidden layers, classes.
        memory_per_task: images that are kept of a task.
        memory_of: where they are drawn from: "trained", the images that the task has trained on,
            or "task", all of its images, as in the paper's code.
        strength: least multiple of each reference gradient in a projected gradient.
        ridge: added to their squared lengths in the programme.
        common: of `ContinualImages` and `Task`.
    Raises:
        ValueError: on an option out of range.
    """

    def __init__(
        self,
        *,
        widths: Sequence[int],
        memory_per_task: int,
        memory_of: str,
        strength: float,
        ridge: float,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        wanted = "be two or more integers >= 1, pixels first and classes last"
        check_integers("widths", widths, wanted, least=2)
        ends = (torch.Size(self.set.image_shape).numel(), self.set.num_classes)
        if (widths[0], widths[-1]) != ends:
            raise ValueError(
                f"widths must go from {ends[0]} to {ends[1]} for {self.data}, got {list(widths)}"
            )
        check_at_least("memory_per_task", memory_per_task, 1)
        check_choice("memory_of", memory_of, ("trained", "task"))
        check_number("strength", strength, least=0)
        check_number("ridge", ridge, least=0)
        self.widths = tuple(widths)
        self.memory_per_task = memory_per_task
        self.memory_of = memory_of
        self.strength = strength
        self.ridge = ridge
        self._permutations = torch.stack([self.permutation(t) for t in range(self.num_tasks)])

    def permutation(self, task: int) -> Tensor:
        """Which pixel a task shows at each place, (num_pixels,); the first task has one too."""
        return torch.randperm(
            self.widths[0], generator=seeded(self.instance_seed, task, *PERMUTATION)
        )

    @property
    def num_classes(self) -> int:
        """All classes of the set."""
        return self.set.num_classes

    def make_model(self) -> nn.Module:
        """The MLP with torch's own initial values."""
        return mlp(self.widths)

    def members(self, labels: Tensor, task: int) -> Tensor:
        """All images: tasks differ in the order of the pixels alone."""
        return torch.arange(len(labels), device=labels.device)

    def inputs(self, pixels: Tensor, labels: Tensor, task: int) -> Tensor:
        """Normalised pixels in the task's order, (num_images, num_pixels)."""
        order = self._permutations[task].to(pixels.device)
        return self._normalization(pixels).flatten(1).index_select(1, order)

    def targets(self, labels: Tensor) -> Tensor:
        """The labels themselves."""
        return labels

    def logits(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """The model's outputs."""
        return model(inputs)

    def backward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Add the projected gradient of the batch's loss to `.grad`; returns the loss, detached.

        The memory is read, not changed, so that a batch may be given again.
        """
        parameters = [p for p in model.parameters() if p.requires_grad]
        loss = self.loss(model, batch)
        grads = torch.autograd.grad(loss, parameters)
        earlier = self._examples[: self.task_of(batch.epoch)]
        if earlier:
            references = torch.stack([self._flat_grad(model, parameters, *e) for e in earlier])
            flat = torch.cat([grad.flatten() for grad in grads])
            flat = project(flat, references, self.strength, self.ridge)
            parts = flat.split([p.numel() for p in parameters])
            grads = [part.view_as(p) for part, p in zip(parts, parameters, strict=True)]
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter.grad = grad if parameter.grad is None else parameter.grad + grad
        return loss.detach()

    def _flat_grad(
        self, model: nn.Module, parameters: list[Tensor], inputs: Tensor, targets: Tensor
    ) -> Tensor:
        """Gradient of the mean loss of kept images, as one vector."""
        loss = F.cross_entropy(self.logits(model, inputs), targets)
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])

    def after_epoch(self, model: nn.Module, epoch: int) -> None:
        """Keep images of the task that has ended; of the last one none are needed."""
        task = self.has_ended(epoch)
        if task is None or task != len(self._memory):
            return
        own = (self._used if self.memory_of == "trained" else self._members)["train"][task]
        order = torch.randperm(len(own), generator=seeded(self.seed, epoch, *MEMORY))
        self._keep([*self._memory, own[order[: self.memory_per_task].to(own.device)]])

    def _keep(self, memory: list[Tensor]) -> None:
        """Make these the kept images: indices of each ended task's, (memory_per_task,)."""
        same = 0
        for new, old in zip(memory, self._memory, strict=False):
            if not torch.equal(new, old):
                break
            same += 1
        self._memory, self._examples = memory, self._examples[:same]
        # As the model is shown them, so that no step makes them again.
        for task, chosen in enumerate(memory[same:], start=same):
            labels = self._labels["train"][chosen]
            inputs = self.inputs(self._pixels["train"][chosen], labels, task)
            self._examples.append((inputs, self.targets(labels)))

    def state_dict(self) -> dict[str, Any]:
        """Indices of the images that are kept of each task that has ended."""
        return {f"task_{task:02}": chosen for task, chosen in enumerate(self._memory)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        device = self._labels["train"].device
        self._keep([state[f"task_{task:02}"].to(device) for task in range(len(state))])

    def reset(self) -> None:
        """Forget all images that were kept."""
        self._memory: list[Tensor] = []
        self._examples: list[tuple[Tensor, Tensor]] = []
