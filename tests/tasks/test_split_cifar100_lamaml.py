"""Split CIFAR-100 with La-MAML: its network, its gradient, its rates and its reservoir."""

import math

import pytest
import torch
from torch.nn import functional as F

from tasks.models.multi_head_cnn import MultiHeadCNN
from tests.commands import assert_same, command
from tests.tasks.continual_tasks import after, gradients, lamaml, ready

# Sums of some hundred products, in another order, in float64.
CLOSE = {"rtol": 1e-9, "atol": 1e-12}


def plain_network(values, images, tasks):
    """The network from its parameters, one image at a time through its own head."""
    x = images
    for n in (1, 2, 3):
        x = F.conv2d(
            x, values[f"features.conv{n}.weight"], values[f"features.conv{n}.bias"], 2, 1
        ).clamp(min=0)
    x = x.flatten(1)
    for n in (1, 2):
        x = x @ values[f"features.linear{n}.weight"].T + values[f"features.linear{n}.bias"]
        x = x.clamp(min=0)
    rows = [
        values[f"heads.{t}.weight"] @ row + values[f"heads.{t}.bias"]
        for row, t in zip(x, tasks.tolist(), strict=True)
    ]
    return torch.stack(rows)


def test_the_network_is_the_papers():
    model = MultiHeadCNN(160, 320, 20, 5)
    convs = 160 * (27 + 1) + 2 * 160 * (9 * 160 + 1)
    linear = 320 * (2560 + 1) + 320 * (320 + 1)
    assert sum(p.numel() for p in model.parameters()) == convs + linear + 20 * 5 * (320 + 1)
    small = MultiHeadCNN(3, 4, 3, 5).double()
    images, tasks = torch.randn(6, 3, 32, 32).double(), torch.tensor([0, 2, 1, 1, 0, 2])
    expected = plain_network(dict(small.named_parameters()), images, tasks)
    assert expected.std() > 1e-2
    torch.testing.assert_close(small(images, tasks), expected, **CLOSE)


def test_the_start_is_la_mamls():
    model = MultiHeadCNN(32, 64, 2, 5)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert name.startswith("heads") or (parameter == 0).all()
            continue
        fan_in = parameter[0].numel()
        wanted = 1 / (3 * fan_in) if name.startswith("heads") else 2 / fan_in
        # 320 to 32,768 draws: a deviation of a tenth and less.
        assert parameter.var().item() == pytest.approx(wanted, rel=0.25)


# ---------------------------------------------------------------- the gradient


def plain_step(values, rates, batch, replay, task):
    """Meta-loss and gradients as Gupta et al. 2020 say it: one parameter after the other."""
    values = {name: p.detach().clone().requires_grad_() for name, p in values.items()}
    rates = {name: r.clone().requires_grad_() for name, r in rates.items()}
    (images, tasks), targets = batch.inputs, batch.targets
    both = images, tasks, targets
    if replay is not None:
        (more, their_tasks), their_targets = replay
        both = torch.cat([images, more]), torch.cat([tasks, their_tasks])
        both = (*both, torch.cat([targets, their_targets]))
    fast, losses = dict(values), []
    size = math.ceil(len(images) / task.num_inner_updates)
    for start in range(0, len(images), size):
        part = slice(start, start + size)
        loss = F.cross_entropy(plain_network(fast, images[part], tasks[part]), targets[part])
        for name, grad in zip(
            fast,
            torch.autograd.grad(loss, list(fast.values()), create_graph=True, allow_unused=True),
            strict=True,
        ):
            if grad is not None:
                fast[name] = fast[name] - rates[name] * grad.clamp(-task.clip, task.clip)
        losses.append(F.cross_entropy(plain_network(fast, *both[:2]), both[2]))
    loss = sum(losses) / len(losses)
    found = []
    for wanted in (values, rates):
        grads = torch.autograd.grad(
            loss, list(wanted.values()), retain_graph=True, allow_unused=True
        )
        grads = {
            name: torch.zeros_like(p) if g is None else g
            for (name, p), g in zip(wanted.items(), grads, strict=True)
        }
        length = math.sqrt(sum(g.square().sum().item() for g in grads.values()))
        share = min(1.0, task.clip / (length + 1e-6))
        found.append({name: share * g for name, g in grads.items()})
    return loss.detach(), *found


@pytest.mark.parametrize("learned_lr", [False, True])
def test_steps_are_those_of_the_paper(learned_lr, fake_sets):
    task, model = ready(lamaml, fake_sets, learned_lr=learned_lr, pad=4, flip=True)
    rates = {n: torch.full_like(p, 0.1).detach() for n, p in model.named_parameters()}
    steps = [(0, b) for b in list(task.batches(0))[:2]] + [
        (1, b) for b in list(task.batches(1))[:2]
    ]
    ended = False
    for epoch, batch in steps:
        if epoch == 1 and not ended:
            after(task, model, 0)
            ended = True
        replay = task.replayed(batch) if ended else None
        values = dict(model.named_parameters())
        loss, expected, rate_grads = plain_step(values, rates, batch, replay, task)
        found_loss, found = gradients(task, model, batch)
        rates = {name: rates[name] - 0.25 * rate_grads[name] for name in rates}
        if learned_lr:
            expected = {name: g * rates[name].clamp(min=0) for name, g in expected.items()}
        torch.testing.assert_close(found_loss, loss, **CLOSE)
        for (name, wanted), grad in zip(expected.items(), found, strict=True):
            torch.testing.assert_close(grad, wanted, **CLOSE, msg=name)
        for (name, wanted), rate in zip(rates.items(), task._rates, strict=True):
            torch.testing.assert_close(rate, wanted, **CLOSE, msg=name)
        with torch.no_grad():
            for parameter, grad in zip(model.parameters(), found, strict=True):
                parameter -= 0.5 * grad
    assert any((rate != 0.1).any() for rate in task._rates)


def test_the_gradient_is_that_of_finite_differences(fake_sets):
    # A clip that cuts nothing, so that the gradient is the loss's own.
    task, model = ready(lamaml, fake_sets, clip=1e9, lr_alpha=0.0)
    after(task, model, 0)
    batch = next(task.batches(1))
    _, grads = gradients(task, model, batch)
    generator = torch.Generator().manual_seed(1)
    for parameter, grad in zip(model.parameters(), grads, strict=True):
        # Small enough that no ReLU of a hundred images turns.
        way = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        step = 1e-7 / way.norm()
        losses = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter += sign * step * way
                losses.append(task.loss(model, batch).item())
                parameter -= sign * step * way
        slope = (losses[0] - losses[1]) / (2 * step.item())
        # Round-off of losses of 2, 4e-16, over 2e-7, times the length of the way.
        expected = (grad * way).sum().item()
        assert slope == pytest.approx(expected, rel=1e-5, abs=1e-7 * way.norm().item())
    assert max(grad.abs().max() for grad in grads) > 1e-2


def test_loss_and_backward_say_the_same(fake_sets):
    task, model = ready(lamaml, fake_sets)
    batch = next(task.batches(0))
    with torch.no_grad():
        loss = task.loss(model, batch)
    assert torch.equal(gradients(task, model, batch)[0], loss.detach())


def test_heads_of_other_tasks_have_no_slope(fake_sets):
    task, model = ready(lamaml, fake_sets)
    _, grads = gradients(task, model, next(task.batches(1)))
    for (name, _), grad in zip(model.named_parameters(), grads, strict=True):
        other = name.startswith("heads") and not name.startswith("heads.1.")
        assert (grad == 0).all() == other, name


def test_a_batch_that_is_given_again_starts_from_the_same_rates(fake_sets):
    task, model = ready(lamaml, fake_sets)
    first, second = list(task.batches(0))[:2]
    task.backward(model, first)
    once = gradients(task, model, second)[1]
    state = task.state_dict()
    assert_same(gradients(task, model, second)[1], once)
    assert_same(task.state_dict(), state)
    model.zero_grad()
    for _ in range(2):
        task.backward(model, second)
    assert_same([p.grad for p in model.parameters()], [2 * grad for grad in once])


# ---------------------------------------------------------------- memory


def test_the_reservoir_holds_each_image_with_the_same_probability(fake_sets):
    counts, sizes = torch.zeros(640), None
    for seed in range(200):
        task = lamaml(fake_sets, seed=seed)
        if sizes is None:
            task.setup("cpu", torch.float32)
            kept = task
        else:  # the set is read once
            task._labels, task._used, task._members = kept._labels, kept._used, kept._members
            task.reset()
        after(task, None, 0, 1)
        sizes = [len(own) for own in task._used["train"]]
        assert len(set(task._memory.tolist())) == 10
        counts[task._memory] += 1
    first, second = (counts[own] for own in kept._used["train"][:2])
    assert counts.sum() == first.sum() + second.sum() == 2000
    share = sizes[0] / (sizes[0] + sizes[1])
    # 2,000 draws have a deviation of at most sqrt(2000) / 2 = 22 images; four of them.
    assert abs(first.sum().item() - 2000 * share) < 90
    mean = 2000 / (sizes[0] + sizes[1])
    assert counts.max() < mean + 6 * math.sqrt(mean)


def test_replay_passes_over_the_memory(fake_sets):
    task, model = ready(lamaml, fake_sets, memory_size=9, replay_size=4)
    after(task, model, 0)
    seen = []
    shown = task.viewed

    def viewed(chosen, key):
        seen.append(chosen)
        return shown(chosen, key)

    task.viewed = viewed
    for batch in task.batches(1):
        count = len(seen)
        (images, tasks), targets = task.replayed(batch)
        assert images.shape == (4, 3, 32, 32) and (tasks == 0).all()
        assert torch.equal(targets, task.targets(task._labels["train"][seen[count]]))
    memory = set(task._memory.tolist())
    replays = [chosen.tolist() for chosen in seen[1::2]]  # between them those of the batches
    passes = [a + b for a, b in zip(replays[::2], replays[1::2], strict=False)]
    for one in passes:
        assert len(set(one)) == 8 and set(one) <= memory
    assert len(passes) > 1 and passes[0] != passes[1]


@pytest.mark.parametrize(
    "more", [["optimizer=shampoo"], ["optimizer=gd_line_search", "optimizer.max_evaluations=3"]]
)
def test_runs_finish(more, tmp_path, sets_dir):
    asked = ("task=split_cifar100_lamaml", "scale=smoke", "max_steps=6", "optimizer.lr=0.05")
    result = command(*asked, *more, f"runs_dir={tmp_path}", sets_dir=sets_dir)
    assert result.code == 0, result
    assert result.out.startswith("finished"), result
