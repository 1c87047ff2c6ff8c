"""Run every optimizer on every task at scale=smoke: what `make matrix` calls.

    python -m scripts.matrix [--task NAME ...] [--optimizer NAME ...] [--data-dir DIR]

Prints the table, and writes it to docs/matrix.md where every task had its data. Of some tasks or
optimizers alone, the other cells stay as they are on that page, which is written if it is whole. It
took 15 minutes on two cores that had other work as well. With --runs DIR the records stay there,
and what has run there is not run again. Exit status 1 if a cell failed, which no cell may: an
optimizer runs on a task, or is refused with a reason.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from scripts.matrix_cells import Cell, names, run_cells
from scripts.matrix_page import known_cells, page, table

PAGE = Path(__file__).resolve().parent.parent / "docs" / "matrix.md"
# Of the processor. The slowest cell, Newton's method on a CNN, takes 30.
SECONDS = 120


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = parse(arguments)
    pairs = [(optimizer, task) for task in options.task for optimizer in options.optimizer]
    try:
        cells = run_all(pairs, options)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    print(table(cells))
    if all(cell.status not in ("no data", "failed") for cell in cells):
        both = known_cells(PAGE.read_text()) if PAGE.is_file() else {}
        both |= {(cell.optimizer, cell.task): cell for cell in cells}
        every = [(o, t) for t in names("task") for o in names("optimizer")]
        if all(pair in both for pair in every):
            PAGE.write_text(page([both[pair] for pair in every]))
            print(f"wrote {PAGE}")
    return int(any(cell.status == "failed" for cell in cells))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line's options; a name that does not exist ends the command."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.matrix", description="Run every optimizer on every task."
    )
    for group in ("task", "optimizer"):
        known = names(group)
        parser.add_argument(
            f"--{group}", nargs="+", choices=known, default=known, metavar="NAME",
            help=f"only these files of conf/{group}",
        )  # fmt: skip
    parser.add_argument("--data-dir", metavar="DIR", help="folder of the data sets")
    parser.add_argument("--runs", metavar="DIR", help="keep the records here")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes at once")
    return parser.parse_args(arguments)


def run_all(pairs: list[tuple[str, str]], options: argparse.Namespace) -> list[Cell]:
    """Run the pairs, saying what failed as it comes; the cells in the order of the pairs."""
    with contextlib.ExitStack() as stack:
        kept = options.runs or stack.enter_context(
            tempfile.TemporaryDirectory(prefix="kappa-matrix-", ignore_cleanup_errors=True)
        )
        found = {}
        for cell in run_cells(pairs, Path(kept), options.data_dir, SECONDS, options.workers):
            found[cell.optimizer, cell.task] = cell
            if cell.status == "failed":
                print(f"failed: {cell.optimizer} on {cell.task}: {cell.reason}", file=sys.stderr)
            if len(found) % 20 == 0:
                print(f"{len(found)}/{len(pairs)}", file=sys.stderr, flush=True)
    return [found[pair] for pair in pairs]


if __name__ == "__main__":
    sys.exit(main())
