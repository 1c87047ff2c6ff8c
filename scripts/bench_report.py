"""Targets of the step benchmark, and its tables on the console and on disk."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from runners.environment import hardware
from scripts.bench_steps import Timing

COLUMNS = (
    "model",
    "optimizer",
    "amortised_ms",
    "worst_ms",
    "over_sgd",
    "statistics",
    "roots",
    "application",
    "state_bytes",
    "host_syncs",
)


@dataclass(frozen=True)
class Target:
    """At most `limit` times the amortised step of `other`, on the shapes of `model`."""

    model: str
    optimizer: str
    other: str
    limit: float


@dataclass(frozen=True)
class Row:
    """One line of the table; `over_sgd` is a ratio of amortised steps."""

    model: str
    optimizer: str
    timing: Timing
    over_sgd: float

    def cells(self) -> list[str]:
        """Values in the order of COLUMNS; empty where nothing was measured."""
        timing = self.timing
        shares = [timing.shares.get(part) for part in ("statistics", "roots", "application")]
        return [
            self.model,
            self.optimizer,
            f"{timing.amortised * 1e3:.3f}",
            f"{timing.worst * 1e3:.3f}",
            f"{self.over_sgd:.2f}",
            *("" if share is None else f"{share:.3f}" for share in shares),
            str(timing.state_bytes),
            "" if timing.syncs is None else f"{timing.syncs:.2f}",
        ]


def describe_machine(device: torch.device) -> str:
    """One line on what the numbers are measured on."""
    machine = hardware()
    where = f"{machine['cpu']}, {machine['cores']} cores"
    if device.type == "cuda":
        where = f"{torch.cuda.get_device_name(device)}; {where}"
    return f"{where}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def table(rows: Iterable[Row]) -> list[str]:
    """One model's lines as a Markdown table."""
    header = ("", "step ms", "worst ms", "x SGD", "stat.", "roots", "appl.", "state MB", "syncs")
    cells = [header, ("---", *["---:"] * (len(header) - 1))]
    for row in rows:
        _, name, amortised, worst, over_sgd, *shares, size, syncs = row.cells()
        percents = [f"{float(share):.0%}" if share else "" for share in shares]
        megabytes = f"{int(size) / 1e6:.2f}"
        times = [f"{float(amortised):.2f}", f"{float(worst):.2f}"]
        cells.append((name, *times, over_sgd, *percents, megabytes, syncs))
    widths = [max(len(line[i]) for line in cells) for i in range(len(header))]
    cells[1] = ("-" * widths[0], *["-" * (width - 1) + ":" for width in widths[1:]])
    return [
        "| "
        + " | ".join(
            [line[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        )
        + " |"
        for line in cells
    ]


def judge(
    targets: Iterable[Target], rows: Iterable[Row], absent: Mapping[str, str]
) -> tuple[list[str], bool]:
    """A line a target, met, missed or not measured; and whether all are met.

    Args:
        targets: what must hold; those on models without rows are left out.
        rows: what was measured.
        absent: name of a contender that could not take part -> why.
    """
    found = {(row.model, row.optimizer): row.timing.amortised for row in rows}
    lines, passed = [], True
    for target in targets:
        pair = (target.optimizer, target.other)
        times = [found.get((target.model, name)) for name in pair]
        if times == [None, None] and target.model not in {model for model, _ in found}:
            continue
        title = f"{target.optimizer} over {target.other}, {target.model}"
        if None in times:
            why = absent.get(pair[times.index(None)], "it did not take part")
            lines.append(f"{title}: NOT MEASURED (target {target.limit:g}); {why}")
            passed = False
            continue
        ratio = times[0] / times[1]
        met = ratio <= target.limit
        passed &= met
        lines.append(
            f"{title}: {ratio:.3f} (target {target.limit:g}: {'met' if met else 'MISSED'}); "
            f"{times[0] * 1e3:.2f} ms, the other {times[1] * 1e3:.2f} ms"
        )
    return lines, passed


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """Write all lines as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(row.cells() for row in rows)
