"""What every task is asked about its batches, its samples' weights and steps on its loss."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch
from torch import Tensor, nn

from tasks.base import Batch, CurvatureInfo, Task


def set_up(task: Task) -> tuple[Task, nn.Module]:
    """The task, set up, and its model, in float64."""
    task.setup("cpu", torch.float64)
    return task, task.build_model().double()


def assert_continues(task: Task, whole: list[Batch], epoch: int, start: int) -> None:
    """The batches from `start` on are those of the whole epoch; no global number is drawn."""
    torch.manual_seed(9)
    state = torch.get_rng_state()
    again = list(task.batches(epoch, start))
    assert torch.equal(torch.get_rng_state(), state)
    assert len(again) == len(whole) - start
    for batch, expected in zip(again, whole[start:], strict=True):
        assert torch.equal(batch.inputs, expected.inputs)
        assert torch.equal(batch.targets, expected.targets)
        assert (batch.epoch, batch.index) == (epoch, expected.index)


def assert_weighted(info: CurvatureInfo, losses: Tensor, loss: Tensor) -> None:
    """The losses of the samples, weighted, are the loss of the batch."""
    assert (info.num_samples, info.batch_dim) == (len(losses), 0)
    # The weights are float32.
    torch.testing.assert_close((info.weights * losses).sum(), loss, rtol=1e-6, atol=0)


def assert_refused(make, changes: dict, message: str) -> None:
    """Options that cannot be are refused with this message."""
    with pytest.raises(ValueError) as error:
        make(**changes)
    assert str(error.value) == message


def take_steps(
    task: Task,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Batch],
) -> None:
    for batch in batches:
        optimizer.zero_grad()
        task.backward(model, batch)
        optimizer.step()
