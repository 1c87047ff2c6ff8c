"""Training of the applied tasks in plain torch, over their models and data: a step at a time.

What takes the loops' place in `scripts.bench_applied` is a step that returns the batch's loss. Each
has batches of its own, in the order in which Kappa's loop visits the samples where that decides
what a step costs or lets their losses be compared.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_

from scripts.bench_tasks import Kappa, cropped
from tasks.data.graphs import stacked
from tasks.seeding import seeded

Step = Callable[[], float]


def orders(task, count: int, first_epoch: int = 0) -> Iterator[tuple[int, Tensor]]:
    """Yield (epoch, samples) of each batch for ever, `count` samples an epoch in Kappa's order."""
    for epoch in itertools.count(first_epoch):
        order = torch.randperm(count, generator=seeded(task.seed, epoch))
        for chosen in order.split(task.batch_size):
            yield epoch, chosen


def schnet(kappa: Kappa) -> Step:
    """SchNet on the task's own graphs: neighbour lists are data."""
    task, model = kappa.task, kappa.task.build_model()
    optimizer = kappa.make_optimizer(model)
    graphs, deviation = task._graphs["train"], task.standard.deviation
    # Kappa's order: how far a batch is padded follows from who is in it.
    batches = orders(task, len(graphs))

    def step() -> float:
        _, chosen = next(batches)
        numbers, neighbours, distances, energies = stacked(
            [graphs[i] for i in chosen.tolist()], torch.float32
        )
        optimizer.zero_grad()
        loss = F.mse_loss(deviation * model(numbers, neighbours, distances), energies)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def dlrm(kappa: Kappa) -> Step:
    """DLRM on rows whose logarithms and tables' rows are made beforehand."""
    task, model = kappa.task, kappa.task.build_model()
    optimizer = kappa.make_optimizer(model)
    count = task._bounds["train"][1]
    (integers, categories), labels = task._samples(torch.arange(count))
    batches = orders(task, count)

    def step() -> float:
        _, chosen = next(batches)
        optimizer.zero_grad()
        logits = model(integers[chosen], categories[chosen])
        loss = F.binary_cross_entropy_with_logits(logits, labels[chosen])
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def hvamp(kappa: Kappa) -> Step:
    """H+Vamp on clicks that lie in memory as a dense matrix."""
    task, model = kappa.task, kappa.task.build_model()
    optimizer = kappa.make_optimizer(model)
    dense = task._train.rows(torch.arange(len(task._train)), torch.float32)
    batches = orders(task, len(dense))

    def step() -> float:
        epoch, chosen = next(batches)
        clicks = dense[chosen]
        beta = task.max_beta * min(1.0, (epoch + 1) / task.warmup_epochs)
        optimizer.zero_grad()
        reading = model(clicks)
        total = F.binary_cross_entropy_with_logits(reading.logits, clicks, reduction="sum")
        loss = total / len(clicks) + beta * reading.kl.mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def gem(kappa: Kappa) -> Step:
    """Gradient episodic memory from the task on at which Kappa's loop is, with the same memory."""
    task, model = kappa.task, kappa.task.build_model()
    optimizer = kappa.make_optimizer(model)
    parameters = list(model.parameters())
    sizes = [p.numel() for p in parameters]
    images, labels = task._pixels["train"], task._labels["train"]
    permutations = [task.permutation(number) for number in range(task.num_tasks)]
    batches = orders(task, task.per_task["train"], len(task._memory))

    def shown(chosen: Tensor, number: int) -> tuple[Tensor, Tensor]:
        pixels = (images[chosen].flatten(1) / 255 - task.mean[0]) / task.std[0]
        return pixels[:, permutations[number]], labels[chosen]

    def gradient(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        loss = F.cross_entropy(model(inputs), targets)
        return loss, torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])

    memory = [shown(chosen, number) for number, chosen in enumerate(task._memory)]

    def step() -> float:
        number, chosen = next(batches)
        number = min(number, task.num_tasks - 1)
        if number > len(memory):  # a task has ended
            kept = torch.randperm(len(images))[: task.memory_per_task]
            memory.append(shown(kept, number - 1))
        references = [gradient(*kept)[1] for kept in memory]
        loss, grad = gradient(*shown(chosen, number))
        if references:
            references = torch.stack(references)
            if (references @ grad < 0).any():
                grad = projected(grad, references, task.strength, task.ridge)
        for parameter, part in zip(parameters, grad.split(sizes), strict=True):
            parameter.grad = part.view_as(parameter)
        optimizer.step()
        return loss.item()

    return step


def projected(grad: Tensor, references: Tensor, strength: float, ridge: float) -> Tensor:
    """GEM's projection by its dual programme, solved as a non-negative least-squares problem."""
    rows = references.double().numpy()
    gram = rows @ rows.T + ridge * np.eye(len(rows))
    linear = rows @ grad.double().numpy() + strength * gram.sum(1)
    root = np.linalg.cholesky(gram)
    weights = strength + nnls(root.T, np.linalg.solve(root, -linear))[0]
    return grad + torch.from_numpy(weights).float() @ references


def lamaml(kappa: Kappa) -> Step:
    """La-MAML from the task on at which Kappa's loop is, with a memory of the same size."""
    task, model = kappa.task, kappa.task.build_model()
    optimizer = kappa.make_optimizer(model)
    parameters = dict(model.named_parameters())
    rates = [torch.full_like(p, task.alpha_init, requires_grad=True) for p in parameters.values()]
    images, memory = task._pixels["train"], [task._memory]
    labels = task._labels["train"]
    places, numbers = task.targets(labels), task.task_numbers(labels)
    mean, std = (255 * torch.tensor(list(x)) for x in (task.mean, task.std))
    generator = torch.Generator().manual_seed(0)
    part = -(-task.batch_size // task.num_inner_updates)
    drawn = streamed(task, memory, kappa.run.step // task.steps_per_epoch)

    def shown(chosen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pixels = images[chosen]
        if task.pad:
            pixels = cropped(pixels, task.pad, generator)
        inputs = ((pixels.float() - mean) / std).permute(0, 3, 1, 2)  # channels last in memory
        return inputs, numbers[chosen], places[chosen]

    def loss_of(values: list[Tensor], inputs: Tensor, heads: Tensor, targets: Tensor) -> Tensor:
        named = dict(zip(parameters, values, strict=True))
        return F.cross_entropy(functional_call(model, named, (inputs, heads)), targets)

    def step() -> float:
        both = own = shown(next(drawn))
        if len(memory[0]):
            replayed = memory[0][torch.randperm(len(memory[0]))[: task.replay_size]]
            both = [torch.cat(pair) for pair in zip(own, shown(replayed), strict=True)]
        values, losses = list(parameters.values()), []
        for few in zip(*(x.split(part) for x in own), strict=True):
            grads = torch.autograd.grad(
                loss_of(values, *few), values, create_graph=True, allow_unused=True
            )
            values = [
                v if g is None else v - rate * g.clamp(-task.clip, task.clip)
                for v, rate, g in zip(values, rates, grads, strict=True)
            ]
            losses.append(loss_of(values, *both))
        loss = torch.stack(losses).mean()
        optimizer.zero_grad()
        for rate in rates:
            rate.grad = None
        loss.backward()
        clip_grad_norm_(parameters.values(), task.clip)
        clip_grad_norm_(rates, task.clip)
        with torch.no_grad():
            for rate in rates:
                rate -= task.lr_alpha * rate.grad
        optimizer.step()
        return loss.item()

    return step


def streamed(task, memory: list[Tensor], first: int) -> Iterator[Tensor]:
    """Yield images, batch by batch, from an epoch on; keep some of each task that ends."""
    for epoch in itertools.count(first):
        number, rest = divmod(epoch, task.epochs_per_task)
        own = task._used["train"][min(number, task.num_tasks - 1)]
        if epoch > first and not rest and number < task.num_tasks:  # a task has ended
            seen = torch.cat([memory[0], task._used["train"][number - 1]])
            memory[0] = seen[torch.randperm(len(seen))[: task.memory_size]]
        order = own[torch.randperm(len(own), generator=seeded(task.seed, epoch))]
        yield from order.split(task.batch_size)[: task.steps_per_epoch]
