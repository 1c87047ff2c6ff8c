"""Permuted MNIST with GEM: its network, its memory and the gradient that it gives."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tasks.models.mlp import mlp
from tests.tasks.continual_tasks import after, gem, gradients, ready


def flat(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors])


def plain_gradient(model, inputs, targets):
    """By torch's own backward."""
    model.zero_grad()
    F.cross_entropy(model(inputs), targets).backward()
    return flat([p.grad.clone() for p in model.parameters()])


def test_the_network_is_the_papers():
    model = mlp([784, 100, 100, 10])
    assert sum(p.numel() for p in model.parameters()) == 785 * 100 + 101 * 100 + 101 * 10
    assert [type(layer) for layer in model] == [nn.Linear, nn.ReLU] * 2 + [nn.Linear]
    x = torch.randn(3, 784)
    h = x
    for layer in (model.linear1, model.linear2):
        h = (h @ layer.weight.T + layer.bias).clamp(min=0)
    expected = h @ model.linear3.weight.T + model.linear3.bias
    torch.testing.assert_close(model(x), expected)


def test_without_a_memory_the_gradient_is_the_plain_one(fake_sets):
    task, model = ready(gem, fake_sets)
    batch = next(task.batches(0))
    loss, found = gradients(task, model, batch)
    assert torch.equal(flat(found), plain_gradient(model, batch.inputs, batch.targets))
    assert torch.equal(loss, task.loss(model, batch).detach())


# Without strength and ridge, so that the references' own products say what must come out.
PLAIN = {"strength": 0.0, "ridge": 0.0, "train_per_task": 40, "memory_per_task": 40}


def disagreeing(task, model):
    """A batch of the third task, and the plain gradients of it and of both memories, when the model
    has learned both tasks so well that the batch's gradient disagrees."""
    after(task, model, 0, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(40):
        model.zero_grad()
        sum(F.cross_entropy(model(x), y) for x, y in task._examples).backward()
        optimizer.step()
    memories = torch.stack([plain_gradient(model, x, y) for x, y in task._examples])
    for batch in task.batches(2):
        grad = plain_gradient(model, batch.inputs, batch.targets)
        if (memories @ grad < 0).any():
            return batch, grad, memories
    raise AssertionError("no batch disagrees")


def test_a_projected_gradient_disagrees_with_no_memory(fake_sets):
    task, model = ready(gem, fake_sets, **PLAIN)
    batch, grad, memories = disagreeing(task, model)
    loss, found = gradients(task, model, batch)
    assert torch.equal(loss, task.loss(model, batch).detach())
    moved = flat(found) - grad
    products = memories @ flat(found)
    # Sums of 4,000 products in float64.
    scale = grad.norm() * memories.norm(dim=1)
    assert (products >= -1e-12 * scale).all()
    # It moves along the memories alone, forwards, and only as far as it must.
    weights = torch.linalg.lstsq(memories.T, moved[:, None]).solution.squeeze(1)
    torch.testing.assert_close(weights @ memories, moved, rtol=1e-9, atol=1e-12)
    assert (weights >= -1e-9).all() and weights.max() > 1e-3
    assert ((weights.abs() < 1e-9) | (products.abs() < 1e-9 * scale)).all()


def test_strength_adds_every_memory(fake_sets):
    task, model = ready(gem, fake_sets, **PLAIN | {"strength": 0.5})
    batch, grad, memories = disagreeing(task, model)
    moved = flat(gradients(task, model, batch)[1]) - grad
    weights = torch.linalg.lstsq(memories.T, moved[:, None]).solution.squeeze(1)
    assert (weights >= 0.5 - 1e-9).all()


def test_a_gradient_is_added_to_what_is_there(fake_sets):
    task, model = ready(gem, fake_sets, **PLAIN)
    batch, *_ = disagreeing(task, model)
    _, once = gradients(task, model, batch)
    task.backward(model, batch)
    for parameter, grad in zip(model.parameters(), once, strict=True):
        # Reading the memory changes nothing: the same batch has the same gradient again.
        assert torch.equal(parameter.grad, 2 * grad)


def test_only_earlier_tasks_count(fake_sets):
    task, model = ready(gem, fake_sets, **PLAIN)
    disagreeing(task, model)
    batch = next(task.batches(0))
    _, found = gradients(task, model, batch)
    assert torch.equal(flat(found), plain_gradient(model, batch.inputs, batch.targets))


@pytest.mark.parametrize(("memory_of", "among"), [("trained", 12), ("task", 640)])
def test_what_is_kept(memory_of, among, fake_sets):
    task, model = ready(gem, fake_sets, memory_of=memory_of, memory_per_task=9)
    after(task, model, 0, 1)
    labels = torch.from_numpy(np.load(fake_sets / "mnist" / "train_labels.npy"))
    memories = list(task.state_dict().values())
    assert len(memories) == 2
    for number, chosen in enumerate(memories):
        assert len(set(chosen.tolist())) == 9
        assert chosen.max() < among
        assert (chosen.max() >= 12) == (memory_of == "task")
        inputs, targets = task._examples[number]
        assert torch.equal(targets, labels[chosen].long())
        pixels = task._pixels["train"][chosen]
        assert torch.equal(inputs, task.inputs(pixels, labels[chosen], number))
    assert not torch.equal(*memories)
    other, _ = ready(gem, fake_sets, memory_of=memory_of, memory_per_task=9, seed=1)
    assert not torch.equal(after(other, model, 0)._memory[0], memories[0])
