"""Send finished runs to W&B from their records alone.

    python -m scripts.publish runs
    python -m scripts.publish runs/ptb_lstm/ggt --project kappa --mode online --group figures

A run keeps its id, so publishing again replaces what W&B has of it and never doubles it. Offline,
the files go below `<run>/wandb/`, in place of earlier ones, for `wandb sync`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runners import records
from runners.tracking import WandbTracker

ENDED = ("finished", "diverged")


def main(arguments: Sequence[str] | None = None) -> int:
    """Publish the runs named on the command line.

    Returns:
        0, or 1 if W&B failed for a run, or 2 if a path holds no records that can be read.
    """
    options = _parser().parse_args(arguments)
    try:
        runs = [
            (run_dir, records.read_manifest(run_dir))
            for place in options.places
            for run_dir in _find(place)
        ]
        results = [_publish(run_dir, manifest, options) for run_dir, manifest in runs]
    except records.RecordsError as error:
        print(error, file=sys.stderr)
        return 2
    return 0 if all(results) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.publish", description="Send finished runs to W&B."
    )
    parser.add_argument(
        "places", nargs="+", type=Path, metavar="RUN_OR_ROOT", help="a run, or a folder of runs"
    )
    parser.add_argument("--project", default="kappa", help="W&B project (default: %(default)s)")
    parser.add_argument(
        "--mode", choices=("online", "offline"), help="default: online if logged in"
    )
    parser.add_argument("--group", help="default: the sweep or experiment of each run")
    return parser


def _find(place: Path) -> list[Path]:
    # A root, one of its tasks or optimizers, or one run: whichever the user points at.
    if not place.is_dir():
        raise records.RecordsError(f"{place} is not a folder")
    runs = sorted(path.parent for path in place.rglob("manifest.json"))
    if not runs:
        raise records.RecordsError(f"{place} holds no runs: no manifest.json in or below it")
    return runs


def _publish(run_dir: Path, manifest: dict[str, Any], options: argparse.Namespace) -> bool:
    """Publish one run and print its line; True unless W&B failed."""
    status, run_id = manifest["status"], run_dir.resolve().name
    if status not in ENDED:
        print(f"{run_dir}: skipped, its status is {status}")
        return True
    # Everything is read before W&B hears of the run, so that damaged records publish nothing.
    rows = {name: _rows(run_dir, name) for name in records.TABLES}
    config = records.read_config(run_dir)
    pattern = f"wandb/*run-*-{run_id}"
    earlier = set(run_dir.glob(pattern))
    names = [manifest.get(key) for key in ("task", "optimizer", "scale")]
    tags = [name for name in names if name]
    tracker = WandbTracker(project=options.project, mode=options.mode, group=options.group)
    tracker.start(
        run_dir=run_dir,
        run_id=run_id,
        name=" ".join([*tags[:2], run_id]),
        config=config,
        group=manifest.get("experiment") or manifest.get("sweep"),
        tags=tags,
        resume_step=0,
    )
    tracker.log(rows)
    best = (manifest.get("best") or {}).get("value")
    tracker.finish(status, {} if best is None else {"best": best})
    if tracker.problem:
        print(f"{run_dir}: not published, {tracker.problem}")
        return False
    # W&B names folders by the second: within one it may have written into an earlier one.
    if set(run_dir.glob(pattern)) - earlier:
        for folder in earlier:
            shutil.rmtree(folder)
    print(f"{run_dir}: published {tracker.mode}, {status}, {len(rows['steps'])} steps")
    return True


def _rows(run_dir: Path, table: str) -> list[tuple]:
    columns = records.read_table(run_dir, table).to_pydict()
    return list(zip(*(columns[name] for name in records.TABLES[table].names), strict=True))


if __name__ == "__main__":
    sys.exit(main())
