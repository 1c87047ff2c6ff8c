"""The progress bar: loss, target metric, steps a second and time left."""

from __future__ import annotations

import sys
from time import perf_counter

REFRESH_SECONDS = 0.1


def say(text: str) -> None:
    """A line on the console beside the progress bar; standard output is for results."""
    print(text, file=sys.stderr, flush=True)


class NoBar:
    """Shows nothing."""

    def start(self, step: int, max_steps: int, label: str) -> None: ...

    def update(self, step: int, loss: float, metric: str) -> None: ...

    def stop(self) -> None: ...


class Bar:
    """A bar drawn by rich, refreshed ten times a second whatever the number of steps."""

    def __init__(self):
        self._progress = None
        self._task = None
        self._next = 0.0
        self._shown: dict = {}

    def start(self, step: int, max_steps: int, label: str) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]} {task.fields[metric]}"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            auto_refresh=False,
        )
        self._task = self._progress.add_task(
            label, total=max_steps, completed=step, loss="", metric="", rate=""
        )
        self._first, self._began = step, perf_counter()
        self._progress.start()

    def update(self, step: int, loss: float, metric: str) -> None:
        now = perf_counter()
        self._shown = {"step": step, "loss": loss, "metric": metric}
        if now >= self._next:
            self._next = now + REFRESH_SECONDS
            self._draw(now)

    def _draw(self, now: float) -> None:
        step, loss = self._shown["step"], self._shown["loss"]
        rate = (step - self._first) / max(now - self._began, 1e-9)
        self._progress.update(
            self._task,
            completed=step,
            loss=f"loss {loss:.4g}",
            metric=self._shown["metric"],
            rate=f"{rate:.1f} it/s",
        )
        self._progress.refresh()

    def stop(self) -> None:
        if self._progress is not None:
            if self._shown:
                self._draw(perf_counter())
            self._progress.stop()


def make_bar(kind: str, quiet: bool) -> Bar | NoBar:
    """A bar where one is asked for, or where "auto" finds a terminal to draw it in."""
    if kind == "bar" or (kind == "auto" and not quiet and sys.stderr.isatty()):
        return Bar()
    return NoBar()


class Tally:
    """Counts what a command of many parts has made: a bar in a terminal, else lines.

    Args:
        label: what is counted.
        total: how many there will be.
    """

    def __init__(self, label: str, total: int):
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
        )

        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.finished = 0
        self.task = self.progress.add_task(label, total=total, note="")

    def __enter__(self) -> Tally:
        self.progress.start()
        return self

    def __exit__(self, *_) -> None:
        self.progress.stop()

    def restart(self, label: str, total: int) -> None:
        """Count something else, in a bar of its own below."""
        self.finished = 0
        self.task = self.progress.add_task(label, total=total, note="")

    def set(self, count: int, note: str = "") -> None:
        """So many of the part in hand are made."""
        self.progress.update(self.task, completed=self.finished + count, note=note)
        if note and not self.console.is_terminal:
            self.say(note)

    def finish(self, count: int) -> None:
        """A part of `count` is complete."""
        self.finished += count
        self.progress.update(self.task, completed=self.finished, note="")

    def say(self, text: str) -> None:
        """A line above the bar."""
        self.console.print(text, markup=False)
