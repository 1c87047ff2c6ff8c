"""What the base class promises for every task."""

import pytest
import torch
from torch import nn

from tasks.base import Target, Task


class Toy(Task):
    """A linear model without data."""

    def __init__(self, **changes):
        options = {"seed": 0, "data": "synthetic", "max_steps": 1, "batch_size": 1}
        options |= {"evaluate_at": [0, 1], "eval_splits": ["train"]}
        super().__init__(target=Target("loss", "train", "min", 0.0), **options, **changes)
        self.seen = None

    def data_hash(self):
        return ""

    def make_model(self):
        return nn.Sequential(nn.Linear(2, 2), nn.Dropout())

    def setup(self, device, dtype):
        pass

    @property
    def steps_per_epoch(self):
        return 1

    def batches(self, epoch, start=0):
        return iter(())

    def loss(self, model, batch):
        return sum(p.sum() for p in model.parameters())

    def measure(self, model, split):
        self.seen = (model.training, torch.is_grad_enabled())
        return {"loss": 0.0}


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_sets_the_mode_and_puts_it_back(training):
    task = Toy()
    model = task.build_model().train(training)
    task.evaluate(model, "train")
    assert task.seen == (False, False)
    assert model.training is training
    assert all(module.training is training for module in model.modules())


def test_evaluation_puts_the_mode_back_after_an_error():
    class Failing(Toy):
        def measure(self, model, split):
            raise RuntimeError

    task = Failing()
    model = task.build_model()
    with pytest.raises(RuntimeError):
        task.evaluate(model, "train")
    assert model.training


def test_backward_fills_grad_and_returns_a_detached_loss():
    task = Toy()
    model = task.build_model()
    loss = task.backward(model, None)
    assert not loss.requires_grad
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in model.parameters())


def test_a_task_without_per_sample_information_is_refused_by_name():
    with pytest.raises(ValueError, match="got Toy, which has none"):
        Toy().curvature_pass(None)


def test_defaults_say_nothing():
    task = Toy()
    assert (task.clip_norm, task.early_stopping, task.average_last) == (None, None, 0)
    assert task.evaluate_at == (0, 1)
    assert task.facts() == {}
    assert task.state_dict() == {}


def test_a_target_has_a_direction():
    with pytest.raises(ValueError, match="direction must be min or max, got down"):
        Target("loss", "train", "down", 1.0)


def test_the_seed_decides_the_model():
    def weights(seed):
        task = Toy()
        task.seed = seed
        return task.build_model()[0].weight

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))
