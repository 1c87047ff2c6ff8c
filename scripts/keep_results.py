"""Copy an experiment's index and final runs from the records into results/, to be committed.

    python -m scripts.keep_results NAME [--runs DIR] [--results DIR]

The trials of the search stay behind: their scores are in the index.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from runners.records import RecordsError, check_version, read_manifest

ROOT = Path(__file__).resolve().parent.parent
KEPT = ("config.yaml", "manifest.json", "steps", "evals", "spectra")


def keep(name: str, runs_dir: Path, results: Path) -> int:
    """Copy one experiment; returns the number of runs.

    Raises:
        RecordsError: if the experiment is missing or not finished.
    """
    path = runs_dir / "experiments" / f"{name}.json"
    if not path.is_file():
        raise RecordsError(f"{path} is missing; make it with: python run.py experiment={name}")
    index = json.loads(path.read_text())
    check_version(index, path)
    if index["status"] != "finished":
        raise RecordsError(f"{path} is not finished; go on with: {index['command']}")
    kept = places(index)
    for place in kept:
        read_manifest(runs_dir / place)
    drop(results, name)
    for place in kept:
        shutil.rmtree(results / place, ignore_errors=True)
        (results / place).mkdir(parents=True)
        for part in KEPT:
            source = runs_dir / place / part
            if source.is_dir():
                shutil.copytree(source, results / place / part)
            elif source.is_file():
                shutil.copy(source, results / place / part)
    (results / "experiments").mkdir(parents=True, exist_ok=True)
    shutil.copy(path, results / "experiments")
    return len(kept)


def places(index: dict[str, Any]) -> list[Path]:
    """Where an index's final runs lie; one that failed before it began has no records."""
    return [
        Path(run["task"], run["optimizer"], run["run_id"])
        for run in index["final"]
        if run["run_id"]
    ]


def drop(results: Path, name: str) -> None:
    """Delete the runs that were kept for an experiment before, and for no other one."""
    path = results / "experiments" / f"{name}.json"
    if not path.is_file():
        return
    others = {
        place
        for other in path.parent.glob("*.json")
        if other != path
        for place in places(json.loads(other.read_text()))
    }
    for place in set(places(json.loads(path.read_text()))) - others:
        shutil.rmtree(results / place, ignore_errors=True)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="experiment, as in conf/experiment")
    parser.add_argument("--runs", type=Path, default=Path(os.environ.get("KAPPA_RUNS", "runs")))
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    options = parser.parse_args(argv)
    try:
        count = keep(options.name, options.runs, options.results)
    except RecordsError as error:
        print(f"keep_results: {error}", file=sys.stderr)
        return 2
    print(f"{options.name}: {count} runs in {options.results}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
