"""The matrix as a table of marks with numbered reasons: written, and read again by the tests."""

from __future__ import annotations

import itertools
import re
import string
from collections.abc import Sequence

from scripts.matrix_cells import Cell

# "refused" has the number of its requirement.
MARKS = {"finished": "+", "diverged": "d", "no data": "?", "failed": "!"}

HEAD = """# Every optimizer on every task

Written by `make matrix`: each YAML of `conf/optimizer` with each of `conf/task` at scale=smoke, a
dozen steps at the optimizer's default learning rate, which is tuned for no task.

`+` it ran; `d` it ran, and the loss left the finite numbers (at this rate); a number: it is refused
in one line, which says what must hold, as listed below, and what it got.
"""


def requirement(reason: str) -> str:
    """What a refusal asks for, without what it got, which differs from model to model."""
    return reason.split(", got ")[0]


def numbered(cells: Sequence[Cell]) -> dict[str, int]:
    """Requirement -> its number, those that refuse most often first."""
    reasons = [requirement(cell.reason) for cell in cells if cell.status == "refused"]
    often = sorted(set(reasons), key=lambda reason: (-reasons.count(reason), reason))
    return {reason: number for number, reason in enumerate(often, 1)}


def mark(cell: Cell, numbers: dict[str, int]) -> str:
    """The mark of a cell in the table."""
    if cell.status == "refused":
        return str(numbers[requirement(cell.reason)])
    return MARKS[cell.status]


def rows(cells: Sequence[Cell]) -> tuple[list[str], list[list[str]]]:
    """Tasks, and a row of marks an optimizer, its name first."""
    tasks = sorted({cell.task for cell in cells})
    numbers = numbered(cells)
    marks = {(cell.optimizer, cell.task): mark(cell, numbers) for cell in cells}
    optimizers = sorted({cell.optimizer for cell in cells})
    return tasks, [[name, *(marks.get((name, task), "") for task in tasks)] for name in optimizers]


def letters(count: int) -> list[str]:
    """Short heads of columns: a, b, ..., z, aa, ab, ..."""
    lengths = (itertools.product(string.ascii_lowercase, repeat=n) for n in itertools.count(1))
    words = itertools.islice(itertools.chain.from_iterable(lengths), count)
    return ["".join(word) for word in words]


def table(cells: Sequence[Cell]) -> str:
    """The table for the console, with every reason."""
    tasks, lines = rows(cells)
    heads = letters(len(tasks))
    width = max(len(line[0]) for line in lines)
    longest = len(heads[-1])
    said = [f"{head:{longest}}  {task}" for head, task in zip(heads, tasks, strict=True)]
    said += ["", " " * width + "".join(f"{head:>3}" for head in heads)]
    said += [line[0].ljust(width) + "".join(f"{m:>3}" for m in line[1:]) for line in lines]
    said += [f"{number}  {reason}" for reason, number in numbered(cells).items()]
    for cell in cells:
        if cell.status in ("failed", "no data"):
            said.append(f"{cell.status}: {cell.optimizer} on {cell.task}: {cell.reason}")
    return "\n".join(said)


def page(cells: Sequence[Cell]) -> str:
    """The page of docs/matrix.md."""
    tasks, lines = rows(cells)
    heads = letters(len(tasks))
    ran = sum(cell.status in ("finished", "diverged") for cell in cells)
    legend = ", ".join(f"{head} `{task}`" for head, task in zip(heads, tasks, strict=True))
    parts = [HEAD, f"{ran} of {len(cells)} pairs run. Tasks: {legend}.", ""]
    parts.append(f"| | {' | '.join(heads)} |")
    parts.append(f"|---|{':-:|' * len(heads)}")
    parts += [f"| `{line[0]}` | {' | '.join(line[1:])} |" for line in lines]
    parts += ["", "## What must hold", ""]
    parts += [f"{number}. {reason}" for reason, number in numbered(cells).items()]
    return "\n".join(parts) + "\n"


def read_page(text: str) -> dict[tuple[str, str], tuple[str, str]]:
    """Read a page back: (optimizer, task) -> (mark, requirement or "")."""
    legend = text.partition("Tasks: ")[2].partition("\n")[0]
    tasks = dict(re.findall(r"\b([a-z]+) `(\w+)`", legend))
    heads: list[str] = []
    said = dict(re.findall(r"^(\d+)\. (.*)$", text, re.M))
    found = {}
    for line in text.splitlines():
        if line.startswith("| |"):
            heads = line.strip("| ").split(" | ")
        elif match := re.match(r"\| `(\w+)` \| (.*) \|$", line):
            for head, sign in zip(heads, match[2].split(" | "), strict=True):
                found[match[1], tasks[head]] = (sign, said.get(sign, ""))
    return found


def known_cells(text: str) -> dict[tuple[str, str], Cell]:
    """The cells of a page, (optimizer, task) -> cell; a refusal has its requirement as reason."""
    statuses = {sign: status for status, sign in MARKS.items()}
    return {
        pair: Cell(*pair, statuses.get(sign, "refused"), reason)
        for pair, (sign, reason) in read_page(text).items()
    }
