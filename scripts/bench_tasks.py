"""Time the tasks' input pipeline and training step against plain torch code.

    python -m scripts.bench_tasks [--quick] [--threads 2] [--rounds 15]

Images and text are random, as their values do not change the time. The input pipeline of CIFAR-10
is measured against ResNet-32's training step; that step and the character LSTM's, with records
being written, against loops written by hand over the same models and data. Both take turns, a
block of steps each, in one process, and ratios are of medians. Exit status 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_

import run as command
import tasks.image_classification
import tasks.streamed_text
from runners.keeper import Keeper
from runners.lifecycle import build_run
from runners.records import RecordWriter
from runners.state import Run
from runners.train import train
from scripts.bench_ggt import medians, report
from tasks.data import ptb

STEP_TARGET = 1.02  # times a plain loop's step
PIPELINE_TARGET = 0.05  # of ResNet-32's training step
RATE_TARGET = 20_000  # augmented images a second
NUM_IMAGES = {"train": 50_000, "test": 500}
NUM_SYMBOLS = 500_000
# Steps in a block: long enough that what begins and ends one does not count.
BLOCKS = {"cifar10_resnet32": 5, "ptb_lstm": 40}


def random_images(
    folder: Path, split: str, image_shape: tuple[int, ...], num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Noise in the place of what `load_images` reads."""
    generator = np.random.default_rng(0)
    shape = (NUM_IMAGES[split], *image_shape)
    labels = generator.integers(0, num_classes, shape[0], dtype=np.uint8)
    return generator.integers(0, 256, shape, dtype=np.uint8), labels


def random_symbols(path: Path) -> np.ndarray:
    """Noise in the place of what `read_symbols` reads."""
    return np.random.default_rng(0).integers(0, len(ptb.SYMBOLS), NUM_SYMBOLS, dtype=np.uint8)


@contextlib.contextmanager
def random_data() -> Iterator[None]:
    """Let both tasks take noise for their data."""
    with contextlib.ExitStack() as stack:
        for module in (tasks.image_classification, tasks.streamed_text):
            stack.enter_context(mock.patch.object(module, "require", lambda *_: Path()))
        stack.enter_context(
            mock.patch.object(tasks.image_classification, "load_images", random_images)
        )
        stack.enter_context(mock.patch.object(ptb, "read_symbols", random_symbols))
        yield


class Kappa:
    """A run as run.py makes it, of which each call trains one block of steps.

    Args:
        overrides: of the command.
        block: steps in a block.
        folder: for its records.
        data: makes the context in which the task reads its data.
    """

    def __init__(
        self,
        overrides: list[str],
        block: int,
        folder: Path,
        data: Callable[[], contextlib.AbstractContextManager[None]] = random_data,
    ) -> None:
        more = ["tracking=none", "progress=none", "max_steps=1000000", "task.evaluate_at=[0]"]
        cfg = command.compose([*overrides, *more, f"runs_dir={folder}"])
        job = command.build_job(cfg, sweep=None, experiment=None, workers=1, quiet=True)
        with data():
            job.task.setup(job.settings.device, job.settings.dtype)
        run_dir = job.place.run_dir("bench")
        run_dir.mkdir(parents=True)
        self.task = job.task
        self.make_optimizer = job.make_optimizer
        self.block = block
        self.run = build_run(job, None)
        self.run.eval_steps = frozenset()
        self.run.writer = RecordWriter(run_dir)
        self.keeper = Keeper(job, self.run, "bench", run_dir)
        self.keeper.begin()
        self.first = 0

    def skip(self, num_epochs: int) -> None:
        """Go on after some epochs as if they had been trained; parameters stay as they are."""
        for epoch in range(num_epochs):
            self.task.after_epoch(self.run.model, epoch)
        self.first = self.run.step = num_epochs * self.run.steps_per_epoch

    def __call__(self) -> None:
        status = train(self.run, self)
        assert status == "interrupted", f"no whole block was measured: {status}"

    def after_step(self, run: Run, loss: float) -> bool:
        """What the keeper does, and a stop at the end of a block."""
        return self.keeper.after_step(run, loss) or (run.step - self.first) % self.block == 0


def cropped(pixels: torch.Tensor, pad: int, generator: torch.Generator) -> torch.Tensor:
    """Random crops of padded images (n, side, side, channels), every other one mirrored."""
    count, side = pixels.shape[:2]
    wide = F.pad(pixels, (0, 0, pad, pad, pad, pad))
    corners = torch.randint(2 * pad + 1, (2, count), generator=generator)
    rows, columns = corners[:, :, None] + torch.arange(side)
    mirrored = torch.rand(count, generator=generator) < 0.5
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    each = torch.arange(count)[:, None, None]
    return wide[each, rows[:, :, None], columns[:, None]]


def images_by_hand(kappa: Kappa) -> Callable[[], None]:
    """A block of ResNet-32's training in plain torch, over the same images."""
    task, model = kappa.task, kappa.task.build_model()
    optimizer = kappa.make_optimizer(model)
    pixels, labels = task._pixels["train"], task._labels["train"]
    mean, std = (255 * torch.tensor(list(x)) for x in (task.mean, task.std))
    generator = torch.Generator().manual_seed(0)
    losses = []

    def batch() -> tuple[torch.Tensor, torch.Tensor]:
        chosen = torch.randint(len(pixels), (task.batch_size,), generator=generator)
        crops = cropped(pixels[chosen], task.pad, generator)
        return ((crops.float() - mean) / std).permute(0, 3, 1, 2), labels[chosen]

    def block() -> None:
        for _ in range(kappa.block):
            inputs, targets = batch()
            optimizer.zero_grad()
            loss = F.cross_entropy(model(inputs), targets)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())

    return block


def text_by_hand(kappa: Kappa) -> Callable[[], None]:
    """A block of the LSTM's training in plain torch, over the same text."""
    task, model = kappa.task, kappa.task.build_model()
    optimizer = kappa.make_optimizer(model)
    text = task._text["train"]
    length = len(text) // task.batch_size
    streams = text[: task.batch_size * length].view(task.batch_size, length)
    losses, carried = [], [0, None]

    def block() -> None:
        for _ in range(kappa.block):
            first, state = carried
            window = streams[:, first : first + task.bptt + 1].long()
            optimizer.zero_grad()
            logits, state = model(window[:, :-1], state)
            loss = F.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())
            loss.backward()
            clip_grad_norm_(model.parameters(), task.clip_norm)
            optimizer.step()
            losses.append(loss.item())
            first += task.bptt
            carried[:] = first, tuple(part.detach() for part in state)
            if first + task.bptt >= length:
                carried[:] = 0, None

    return block


def bench_step(
    name: str, kappa: Kappa, by_hand: Callable[[], object], rounds: int, target: float | None
) -> tuple[bool, float]:
    """Compare blocks of a task's training with those of a plain loop; returns seconds a step too.

    Args:
        by_hand: trains as many steps as a block of `kappa`.
        target: of the ratio; None: print it only.
    """
    found = medians({"plain": by_hand, "kappa": kappa}, rounds)
    plain, ours = (found[kind] / kappa.block for kind in ("plain", "kappa"))
    detail = f"{plain * 1e3:.2f} ms a plain step, {ours * 1e3:.2f} ms Kappa's"
    return report(f"{name}: training step over a plain loop's", detail, ours / plain, target), ours


def bench_pipeline(kappa: Kappa, step_seconds: float, rounds: int) -> bool:
    """Compare the making of batches with a training step, and with the rate that is asked for."""
    batches, count = kappa.task.batches(0), min(20, kappa.task.steps_per_epoch // (rounds + 2))

    def block() -> None:
        for _ in range(count):
            next(batches)

    seconds = medians({"block": block}, rounds)["block"] / count
    rate = kappa.task.batch_size / seconds
    detail = f"{seconds * 1e3:.2f} ms a batch, {rate:,.0f} augmented images a second"
    share = seconds / step_seconds
    passed = report("CIFAR-10: input pipeline over a training step", detail, share, PIPELINE_TARGET)
    wanted = f"CIFAR-10: {RATE_TARGET:,} over the augmented images a second"
    return report(wanted, detail, RATE_TARGET / rate, 1) and passed


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny models: a smoke test")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    more = {name: [] for name in BLOCKS}
    if options.quick:
        more["cifar10_resnet32"] = ["task.model.depth=8", "task.model.width=2"]
        more["ptb_lstm"] = ["task.hidden_size=8", "task.embedding_size=8"]
    passed = []
    by_hand = {"cifar10_resnet32": images_by_hand, "ptb_lstm": text_by_hand}
    for name, block in BLOCKS.items():
        with tempfile.TemporaryDirectory() as folder:
            kappa = Kappa([f"task={name}", "optimizer=sgd", *more[name]], block, Path(folder))
            plain = by_hand[name](kappa)
            met, seconds = bench_step(name, kappa, plain, options.rounds, STEP_TARGET)
        passed.append(met)
        if name == "cifar10_resnet32":
            passed.append(bench_pipeline(kappa, seconds, options.rounds))
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
