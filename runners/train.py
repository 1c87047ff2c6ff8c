"""The training loop, one path for every task and every optimizer."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from functools import partial

import torch
from torch.nn.utils import clip_grad_norm_

from optimizers.capture.record import RecordsSamples
from optimizers.telemetry import ReportsSpectra
from runners.averaging import enters_average
from runners.records import spectrum_row
from runners.settings import Settings
from runners.state import Run

# Raised when the loop itself changes the numbers of a run.
NUMERICS_VERSION = 1


def train(run: Run, surroundings) -> str:
    """Train until the budget is spent, the loss is no number, or a stop is asked for.

    Args:
        run: advanced in place; `run.step` counts the updates made.
        surroundings: `after_step(run, loss)` writes checkpoints and shows progress, and returns
            True when the run is to stop; `after_evaluation(run)` is told of new metrics.
    Returns:
        "finished", "diverged" or "interrupted".
    """
    task, model, optimizer, settings = run.task, run.model, run.optimizer, run.settings
    clip = settings.grad_clip
    data = step_batches(task, run.step, run.steps_per_epoch, settings.accumulate)
    while run.step < settings.max_steps:
        if run.step in run.eval_steps:
            evaluate(run)
            surroundings.after_evaluation(run)
            if stops_early(run):
                return "finished"
        with run.clock:
            run.schedule.set(run.step)
            seed_step(settings.seed, run.step)
            epoch, batches = next(data)
            optimizer.zero_grad()
            carried = task.state_dict()
            loss = add_gradients(run, batches)
        finite = math.isfinite(loss)
        if not (clip and finite):
            norm = length([p.grad for p in run.parameters if p.grad is not None])
        if not finite:
            run.writer.add("steps", (run.step, loss, lr(run), norm, run.clock.seconds, None))
            return "diverged"
        watched = settings.spectra_every and run.step % settings.spectra_every == 0
        if watched:
            remember_parameters(run)
        if run.probe is not None:
            run.probe.observe(run.parameters, run.step, run.writer)
        with run.clock:
            if clip:
                norm = clip_gradients(run.parameters, clip)
            update(run, batches, carried)
            if (run.step + 1) % run.steps_per_epoch == 0:
                task.after_epoch(model, epoch)
        change = record_spectra(run) if watched else None
        run.writer.add("steps", (run.step, loss, lr(run), norm, run.clock.seconds, change))
        run.step += 1
        if run.averaged is not None and enters_average(run):
            run.averaged.update_parameters(model)
        if surroundings.after_step(run, loss):
            return "interrupted"
    evaluate(run)
    surroundings.after_evaluation(run)
    return "finished" if run.last is None or math.isfinite(run.last) else "diverged"


def step_batches(
    task, start_step: int, steps_per_epoch: int, accumulate: int
) -> Iterator[tuple[int, list]]:
    """Yield (epoch, micro-batches) of every step from `start_step` on, for ever."""
    epoch, index = divmod(start_step, steps_per_epoch)
    while True:
        batches = task.batches(epoch, start=index * accumulate)
        for _ in range(index, steps_per_epoch):
            yield epoch, [next(batches) for _ in range(accumulate)]
        epoch, index = epoch + 1, 0


def add_gradients(run: Run, batches: list) -> float:
    """Fill `.grad` with the mean gradient of the micro-batches; returns their mean loss."""
    with autocast(run.settings):
        losses = [backward(run, batch) for batch in batches]
    if len(losses) == 1:
        return losses[0].item()
    for parameter in run.parameters:
        if parameter.grad is not None:
            parameter.grad /= len(losses)
    return torch.stack(losses).mean().item()


def backward(run: Run, batch) -> torch.Tensor:
    """Add a batch's gradient to `.grad`; the optimizer records the pass where it wants samples."""
    if not wants_samples(run.optimizer):
        return run.task.backward(run.model, batch)
    with run.task.curvature_pass(batch) as info:
        record = run.optimizer.record(info.num_samples, info.batch_dim, info.weights)
        with record:
            return run.task.backward(run.model, batch)


def wants_samples(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the optimizer must see the samples of the coming step."""
    return isinstance(optimizer, RecordsSamples) and optimizer.wants_samples()


def check_samples(task, optimizer: torch.optim.Optimizer) -> None:
    """Refuse a task without per-sample information to an optimizer that needs it.

    Raises:
        ValueError: from the task, by its name.
    """
    if wants_samples(optimizer):
        with task.curvature_pass(next(task.batches(0))):
            pass


def update(run: Run, batches: list, carried: dict) -> None:
    """Let the optimizer step, with a closure if it says that it `needs_closure`.

    Args:
        carried: the task's state before the step's own pass.
    """
    if not getattr(run.optimizer, "needs_closure", False):
        run.optimizer.step()
        return
    left = run.task.state_dict()
    run.optimizer.step(partial(evaluate_again, run, batches, carried))
    run.task.load_state_dict(left)


def evaluate_again(run: Run, batches: list, carried: dict, backward: bool = True) -> torch.Tensor:
    """The mean loss of the step's micro-batches at the parameters' present values.

    Drawn numbers and carried state are those of the step's own pass.

    Args:
        backward: fill `.grad` anew, clipped where the run clips; False: leave it alone and return
            the loss with its graph.
    """
    run.task.load_state_dict(carried)
    seed_step(run.settings.seed, run.step)
    if not backward:
        with autocast(run.settings):
            return torch.stack([run.task.loss(run.model, batch) for batch in batches]).mean()
    run.optimizer.zero_grad()
    loss = add_gradients(run, batches)
    if run.settings.grad_clip:
        clip_gradients(run.parameters, run.settings.grad_clip)
    return torch.tensor(loss, dtype=torch.float64)


def autocast(settings: Settings):
    """The context of a pass through the model: bfloat16 where `precision` asks for it."""
    if settings.precision == "bf16_autocast":
        return torch.autocast(torch.device(settings.device).type, torch.bfloat16)
    return contextlib.nullcontext()


def seed_step(seed: int, step: int) -> None:
    """Seed the global generator for one step.

    Dropout masks then depend on (seed, step) alone: an optimizer that draws random numbers, or
    an evaluation, does not change what the next step sees.
    """
    # Multiplied by a large odd number, so that the streams of neighbouring seeds do not overlap.
    value = (seed * 0x9E3779B97F4A7C15 + step) % 2**63
    torch.default_generator.manual_seed(value)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(value)


def lr(run: Run) -> float:
    """Learning rate of the first parameter group."""
    return float(run.optimizer.param_groups[0]["lr"])


def length(tensors: list[torch.Tensor]) -> float:
    """Euclidean norm of all tensors together; 0 of none."""
    # Of a sparse gradient the rows that are in it; they may be there several times.
    tensors = [t.coalesce().values() if t.is_sparse else t for t in tensors]
    # torch.nn.utils.get_total_norm does the same, but first groups the tensors by device and
    # dtype, at a third of a small model's step.
    return (
        torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors))).item()
        if tensors
        else 0.0
    )


def clip_gradients(parameters: list[torch.Tensor], most: float) -> float:
    """Scale all gradients, in place, so that their length is at most `most`.

    Returns:
        Their length before.
    """
    grads = [p.grad for p in parameters if p.grad is not None]
    if not any(grad.is_sparse for grad in grads):
        return clip_grad_norm_(parameters, most).item()
    norm = length(grads)
    scale = min(1.0, most / (norm + 1e-6))  # as there
    for grad in grads:
        grad.mul_(scale)
    return norm


@torch.no_grad()
def remember_parameters(run: Run) -> None:
    """Copy the parameters as they are before a step."""
    if run.remembered is None:
        run.remembered = [torch.empty_like(p) for p in run.parameters]
    # Into the same memory each time: fresh memory of a few MB costs a CPU more than the copy.
    torch._foreach_copy_(run.remembered, run.parameters)


@torch.no_grad()
def record_spectra(run: Run) -> float:
    """Record the optimizer's spectra; returns the length of the step it has just made."""
    if isinstance(run.optimizer, ReportsSpectra):
        for s in run.optimizer.spectra():
            values = s.eigenvalues.tolist()
            numbers = (s.resolution, s.root_residual, s.fallbacks, s.staleness)
            row = spectrum_row(run.step, s.name, s.kind, values, *numbers)
            run.writer.add("spectra", row)
    torch._foreach_sub_(run.remembered, run.parameters)
    return length(run.remembered)


def evaluate(run: Run) -> None:
    """Evaluate on the task's splits and record every metric."""
    task, target = run.task, run.task.target
    # Averaged parameters stand in once the last step is made.
    averaged = run.averaged is not None and run.step >= run.settings.max_steps
    model = run.averaged.module if averaged else run.model
    epoch = run.step / run.steps_per_epoch
    for split in task.eval_splits:
        with run.eval_clock, autocast(run.settings):
            metrics = task.evaluate(model, split)
        for metric, value in metrics.items():
            run.writer.add("evals", (run.step, epoch, split, metric, value, run.clock.seconds))
        if split == target.split and target.metric in metrics:
            watch_target(run, metrics[target.metric])


def watch_target(run: Run, value: float) -> None:
    """Keep the best value of the task's target metric, and tell the schedule of the new one."""
    minimise = run.task.target.direction == "min"
    run.last = value
    run.schedule.observe(value, run.task.target.direction)
    better = run.best is None or (value < run.best if minimise else value > run.best)
    if better and math.isfinite(value):
        run.best, run.best_step, run.evaluations_since_best = value, run.step, 0
    else:
        run.evaluations_since_best += 1


def stops_early(run: Run) -> bool:
    """Whether the task's patience, in evaluations without improvement, has run out."""
    patience = run.task.early_stopping
    return patience is not None and run.evaluations_since_best >= patience
