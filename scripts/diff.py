"""Run two optimizers side by side on the same batches and say where they part.

    python -m scripts.diff optimizer=mine reference=shampoo task=ptb_lstm scale=smoke
    python -m scripts.diff optimizer=shampoo reference=shampoo reference.root_dtype=float64 \\
        task=quadratic steps=50 rtol=1e-3

`optimizer` and `reference` name files in conf/optimizer, and `optimizer.lr`, `reference.lr` and so
on their options; for two versions of one class give `reference.cls.path=...`. Everything else is
what run.py takes and holds for both. Each optimizer has its own copy of the model and of the task.
After each step are compared, in this order:

    gradient     at which each arrives
    statistic    tensors of the state, by the name they have in both
    root         those of them that a root or an inverse is kept in
    momentum     those that hold past directions
    update       the change of each parameter

Two tensors part where |a - b| > rtol max(|a|, |b|), Frobenius norms; an update also needs to differ
by more than the rounding of its parameter. The first parting ends the command.

    steps=20     compared at most
    rtol=1e-5    relative tolerance

Exit status: 0 they agree, 1 they part, 2 a mistake in what was asked for.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

import run
from optimizers.routing import members_of
from optimizers.telemetry import ReportsMatrices
from runners import messages
from runners.lifecycle import build_run
from runners.state import Run
from runners.train import add_gradients, seed_step, step_batches, update

QUANTITIES = ("gradient", "statistic", "root", "momentum", "update")
ROWS = 12  # of the table, the largest differences

# What parts of a name say that a tensor of the state is something else than a statistic.
MARKS = {"root": ("root", "inverse", "precond"), "momentum": ("momentum", "exp_avg")}
# Squares of gradients are statistics, and space that a step fills anew is nothing to compare.
STATISTICS, WORKSPACE = ("exp_avg_sq", "square_avg"), ("grad", "update")

Key = tuple[str, str]  # quantity, tensor


@dataclass(frozen=True)
class Difference:
    """How far one tensor of two optimizers is apart, and its norms."""

    quantity: str
    tensor: str
    relative: float
    mine: float
    reference: float

    def row(self) -> str:
        norms = f"{self.mine:<12.5g} {self.reference:<12.5g}"
        return f"{self.quantity:<10} {self.relative:<11.2e} {norms} {self.tensor}"


class Side:
    """One of the two: a run that is stepped by hand."""

    def __init__(self, overrides: Sequence[str]) -> None:
        cfg = composed(list(overrides))
        with run.user_errors(cfg.runs_dir):
            job = run.build_job(cfg, sweep=None, experiment=None, workers=1, quiet=True)
            torch.set_num_threads(job.settings.num_threads)
            job.task.setup(job.settings.device, job.settings.dtype)
            self.run: Run = build_run(job, None)
        self.names = [n for n, p in self.run.model.named_parameters() if p.requires_grad]
        accumulate = self.run.settings.accumulate
        self.data = step_batches(self.run.task, 0, self.run.steps_per_epoch, accumulate)

    def advance(self) -> dict[Key, Tensor]:
        """Take a step; everything there is to compare about it, by quantity and tensor."""
        own, settings = self.run, self.run.settings
        own.schedule.set(own.step)
        seed_step(settings.seed, own.step)
        epoch, batches = next(self.data)
        own.optimizer.zero_grad()
        carried = own.task.state_dict()
        add_gradients(own, batches)
        if settings.grad_clip:
            clip_grad_norm_(own.parameters, settings.grad_clip)
        named = list(zip(self.names, own.parameters, strict=True))
        found = {("gradient", n): p.grad.clone() for n, p in named if p.grad is not None}
        before = [p.detach().clone() for p in own.parameters]
        update(own, batches, carried)
        own.step += 1
        if own.step % own.steps_per_epoch == 0:
            own.task.after_epoch(own.model, epoch)
        found.update(matrices(own.optimizer, {id(p): name for name, p in named}))
        for (name, parameter), old in zip(named, before, strict=True):
            found["update", name] = parameter.detach() - old
        return found

    def rounding(self, tensor: str) -> float:
        """Size of the rounding errors of a parameter, by its name."""
        parameter = self.run.parameters[self.names.index(tensor)].detach()
        return torch.finfo(parameter.dtype).eps * float(torch.linalg.vector_norm(parameter))


def matrices(optimizer: torch.optim.Optimizer, names: dict[int, str]) -> Iterator[Any]:
    """((quantity, tensor), value) of everything that an optimizer keeps."""
    members = members_of(optimizer)
    for index, member in enumerate(members):
        prefix = f"{index}." if len(members) > 1 else ""
        if isinstance(member, ReportsMatrices):
            for name, quantity, value in member.matrices():
                yield (quantity, f"{prefix}{name}"), value.clone()
            continue
        for key, state in member.state.items():
            owner = names.get(id(key), "parameter") if isinstance(key, Tensor) else key
            for path, value in flattened(state):
                if value.is_floating_point() and path.split(".")[0] not in WORKSPACE:
                    yield (quantity_of(path), f"{prefix}{owner} {path}"), value.clone()


def flattened(value: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """(dotted path, tensor) of everything nested in a state."""
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from flattened(item, f"{path}.{key}" if path else str(key))


def quantity_of(path: str) -> str:
    """What a tensor of the state is, by its name."""
    if any(mark in path for mark in STATISTICS):
        return "statistic"
    found = (kind for kind, marks in MARKS.items() if any(mark in path for mark in marks))
    return next(found, "statistic")


def compare(key: Key, mine: Tensor, reference: Tensor, rounding: float = 0.0) -> Difference:
    """Compare two tensors; what is finite in one only, or of another shape, is infinitely far."""
    a, b = (t.detach().to("cpu", torch.float64) for t in (mine, reference))
    norms = [float(torch.linalg.vector_norm(t)) for t in (a, b)]
    if a.shape != b.shape or not torch.equal(a.isfinite(), b.isfinite()):
        return Difference(*key, math.inf, *norms)
    kept = a.isfinite()
    gap = float(torch.linalg.vector_norm((a - b)[kept]))
    scale = max(float(torch.linalg.vector_norm(t[kept])) for t in (a, b))
    return Difference(*key, 0.0 if gap <= rounding else gap / scale, *norms)


def composed(overrides: list[str]) -> Any:
    """Compose a configuration as run.py does.

    Raises:
        UserError: if it does not compose.
    """
    try:
        return run.compose(overrides)
    except (HydraException, OmegaConfBaseException) as error:
        known = messages.known_keys(run.CONF, overrides)
        raise run.UserError(messages.explain(error, known)) from error


def divide(arguments: Sequence[str]) -> tuple[list[str], list[str], int, float]:
    """The overrides of each side, the number of steps and the tolerance.

    Raises:
        UserError: if one of the two is not named, or a number is none.
    """
    mine, reference, own = [], [], {"steps": "20", "rtol": "1e-5"}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if key in own and equals:
            own[key] = value
        elif key.split(".")[0] == "reference":
            reference.append(argument.replace("reference", "optimizer", 1))
        elif key.split(".")[0] == "optimizer":
            mine.append(argument)
        else:
            mine.append(argument)
            reference.append(argument)
    for name, side in (("optimizer", mine), ("reference", reference)):
        if not any(argument.startswith("optimizer=") for argument in side):
            raise run.UserError(f"{name}=... must name a file of conf/optimizer, got none")
    try:
        steps, rtol = int(own["steps"]), float(own["rtol"])
    except ValueError as error:
        raise run.UserError(f"steps and rtol must be numbers, got {own}") from error
    if steps < 1 or not rtol >= 0:
        raise run.UserError(f"steps must be >= 1 and rtol >= 0, got {steps} and {rtol}")
    shared = ["tracking=none", "progress=none", "spectra_every=0"]
    return [*shared, *mine], [*shared, *reference], steps, rtol


def print_table(title: str, differences: Sequence[Difference]) -> None:
    print(f"{title}\n")
    print(f"{'quantity':<10} {'difference':<11} {'|optimizer|':<12} {'|reference|':<12} tensor")
    largest = sorted(differences, key=lambda d: -d.relative)[:ROWS]
    for difference in sorted(largest, key=lambda d: QUANTITIES.index(d.quantity)):
        print(difference.row())
    if len(differences) > ROWS:
        print(f"... and {len(differences) - ROWS} more that differ less")


def run_both(mine: Side, reference: Side, steps: int, rtol: float) -> int:
    """Step both until they part; returns the exit status."""
    worst: dict[str, Difference] = {}
    for step in range(steps):
        ours, theirs = mine.advance(), reference.advance()
        found = []
        for key in ours.keys() & theirs.keys():
            rounding = 4 * mine.rounding(key[1]) if key[0] == "update" else 0.0
            found.append(compare(key, ours[key], theirs[key], rounding))
        if step == 0:
            for name, alone in (("optimizer", ours), ("reference", theirs)):
                only = sorted({f"{q} {t}" for q, t in alone.keys() - (ours.keys() & theirs.keys())})
                if only:
                    more = f" and {len(only) - 3} more" if len(only) > 3 else ""
                    print(f"only in {name}: {', '.join(only[:3])}{more}")
        parted = [d for d in found if d.relative > rtol]
        if parted:
            quantity = next(q for q in QUANTITIES if any(d.quantity == q for d in parted))
            first = max((d for d in parted if d.quantity == quantity), key=lambda d: d.relative)
            title = f"they part at step {step}: {quantity} of {first.tensor}"
            print_table(f"{title}, by {first.relative:.2e} (rtol {rtol:g})", parted)
            return 1
        for d in found:
            if d.quantity not in worst or d.relative > worst[d.quantity].relative:
                worst[d.quantity] = d
    print_table(f"they agree over {steps} steps (rtol {rtol:g}); the largest differences:", [
        worst[quantity] for quantity in QUANTITIES if quantity in worst
    ])  # fmt: skip
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if not arguments or set(arguments) & {"-h", "--help"}:
        print(__doc__)
        return 0 if arguments else 2
    try:
        mine, reference, steps, rtol = divide(arguments)
        sides = [Side(mine), Side(reference)]
    except run.UserError as error:
        print(f"scripts.diff: {error}", file=sys.stderr)
        return 2
    return run_both(*sides, steps, rtol)


if __name__ == "__main__":
    sys.exit(main())
