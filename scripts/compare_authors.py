"""Run the `authors` readings beside the code that the authors published.

    git clone https://github.com/jonathanmei/kradagrad && export KAPPA_AUTHORS=$PWD/kradagrad
    git clone https://github.com/yangorwell/NGPlus && export KAPPA_AUTHORS_NGPLUS=$PWD/NGPlus
    python -m scripts.compare_authors [--method NGPlus] [--out results/bench]

Both take the same 50 steps from the same start, ResNet-32's without normalisation and the MNIST
autoencoder's. Where a method wants gradients alone they are random. Where it wants samples,
gradients and samples are those of random batches at the start, whatever the parameters have become:
round-off is then not fed back through the network, which would hide what is compared.
The table has the largest |ours - theirs| / |theirs| of a parameter, in the Euclidean norm, and
after the last step that of the way from the start, |ours - theirs| / |theirs - start|.
Exit status 1 if a parameter's difference is above the row's bound, 2 if a clone is missing.
"""

from __future__ import annotations

import argparse
import copy
import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn import functional as F

from optimizers import RecordsSamples
from scripts.authors_cases import Case, cases
from scripts.bench_preconditioners import AUTOENCODER, MODELS
from scripts.bench_report import describe_machine

FOLDER = Path(__file__).resolve().parent.parent / "conf" / "optimizer"
REPORTED = (1, 10, 50)
BATCH = 16


def ours_step(case: Case, model: nn.Module) -> torch.optim.Optimizer:
    """Our optimizer, from its YAML."""
    config = OmegaConf.merge(OmegaConf.load(FOLDER / f"{case.yaml}.yaml"), case.options)
    if case.dtype == torch.float64:
        for name in ("statistics_dtype", "root_dtype", "apply_dtype"):
            if name in config:
                config[name] = "float64"
    return instantiate(config)(model)


def random_gradients(model: nn.Module, index: int, scale: float) -> None:
    """Put the step's normal gradients in place."""
    generator = torch.Generator().manual_seed(index)
    for parameter in model.parameters():
        values = torch.randn(parameter.shape, generator=generator) * scale
        parameter.grad = values.to(parameter)


@contextmanager
def parameters_at(model: nn.Module, values: Sequence[Tensor]) -> Iterator[None]:
    """Give the parameters other values for a while."""
    own = [parameter.detach().clone() for parameter in model.parameters()]
    write(model, values)
    yield
    write(model, own)


@torch.no_grad()
def write(model: nn.Module, values: Sequence[Tensor]) -> None:
    """Set the parameters."""
    for parameter, value in zip(model.parameters(), values, strict=True):
        parameter.copy_(value)


def loss_of(model: nn.Module, name: str, index: int) -> Tensor:
    """The loss of the step's random batch."""
    generator = torch.Generator().manual_seed(index)
    dtype = next(model.parameters()).dtype
    if name == AUTOENCODER:
        pixels = torch.rand(BATCH, 784, generator=generator).to(dtype)
        return (model(pixels) - pixels).square().sum(1).mean()
    images = torch.randn(BATCH, 3, 32, 32, generator=generator).to(dtype)
    labels = torch.randint(10, (BATCH,), generator=generator)
    return F.cross_entropy(model(images), labels)


def give_gradients(
    case: Case, model: nn.Module, start: Sequence[Tensor], index: int, optimizer: Any = None
) -> None:
    """Put the gradients of step `index` in place, recorded for an optimizer that wants samples."""
    if not case.samples:
        random_gradients(model, index, case.scale)
        return
    model.zero_grad()
    wants = isinstance(optimizer, RecordsSamples) and optimizer.wants_samples()
    weights = torch.full((BATCH,), 1 / BATCH)
    with (
        parameters_at(model, start),
        optimizer.record(BATCH, 0, weights) if wants else nullcontext(),
    ):
        loss_of(model, case.model, index).backward()


def largest_difference(
    ours: Sequence[Tensor], theirs: Sequence[Tensor], start: Sequence[Tensor] | None = None
) -> float:
    """The largest |ours - theirs| / |theirs - start| of a tensor; 0 where there is no difference.

    Infinite where one differs and the other has not moved, or where a number is not finite.
    """
    largest = 0.0
    for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        difference = float(torch.linalg.vector_norm(a - b, dtype=torch.float64))
        base = b if start is None else b - start[i]
        size = float(torch.linalg.vector_norm(base, dtype=torch.float64))
        ratio = 0.0 if difference == 0 else difference / size if size > 0 else float("inf")
        largest = max(largest, ratio if ratio == ratio else float("inf"))
    return largest


@dataclass(frozen=True)
class Outcome:
    """What was found: largest differences by step, and the last one relative to the way."""

    differences: dict[int, float]
    of_the_way: float


def compare(case: Case, model: nn.Module, steps: Sequence[int] = REPORTED) -> Outcome:
    """Run both sides from the same start."""
    if case.double_model:
        model = model.to(case.dtype)
    theirs, ours = copy.deepcopy(model), model
    start = [parameter.detach().clone() for parameter in ours.parameters()]
    optimizer, their_step = ours_step(case, ours), case.theirs(theirs, case.dtype)
    values = [[p.detach() for p in side.parameters()] for side in (ours, theirs)]
    differences = {}
    for index in range(max(steps)):
        give_gradients(case, ours, start, index, optimizer)
        give_gradients(case, theirs, start, index)
        optimizer.step()
        their_step(index)
        if index + 1 in steps:
            differences[index + 1] = largest_difference(*values)
    return Outcome(differences, largest_difference(*values, start))


def line(case: Case, outcome: Outcome) -> str:
    """One row of the Markdown table."""
    found = list(outcome.differences.values())
    passed = max(found) <= case.bound
    cells = [case.method, case.model, str(case.dtype).removeprefix("torch.")]
    cells += [f"{value:.1e}" for value in (*found, outcome.of_the_way)]
    cells += [f"{case.bound:.0e}" + ("" if passed else " MISSED")]
    return "| " + " | ".join(cells) + " |"


HEADER = (
    "| method | shapes | dtype | " + " | ".join(f"step {step}" for step in REPORTED) + " | "
    "of the way | bound |",
    "|---|---|---|" + "---:|" * (len(REPORTED) + 2),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--method", action="append", help="part of a name; default: all")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="folder for authors.md")
    options = parser.parse_args(arguments)
    wanted = [
        case
        for case in cases()
        if not options.method or any(part in case.method for part in options.method)
    ]
    missing = {case.clone.command() for case in wanted if not case.clone.is_given()}
    if missing:
        print("the authors' code is missing: " + "; ".join(sorted(missing)), file=sys.stderr)
        return 2
    torch.set_num_threads(options.threads)
    machine = describe_machine(torch.device("cpu"))
    lines = [
        f"{machine}, Python {platform.python_version()}",
        *dict.fromkeys(f"{case.clone.repository} at {case.clone.commit()}" for case in wanted),
        "",
        *HEADER,
    ]
    print(*lines, sep="\n", flush=True)
    passed = True
    for case in wanted:
        torch.manual_seed(0)
        outcome = compare(case, MODELS[case.model]())
        passed &= max(outcome.differences.values()) <= case.bound
        lines.append(line(case, outcome))
        print(lines[-1], flush=True)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "authors.md").write_text("\n".join(lines) + "\n")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
