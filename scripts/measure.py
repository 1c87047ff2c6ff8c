"""Make measurements: computations that are no training runs, kept as records.

    python -m scripts.measure NAME...      these
    python -m scripts.measure --exact      all of exact mathematics and counting (about a minute)
    python -m scripts.measure --slow       all computations that take minutes, seeded loops mostly
    python -m scripts.measure --timed      all timings, each alone on the machine
    python -m scripts.measure --list       their names

Each is written to <runs_dir>/measurements/NAME.json; `--out results` writes the shipped ones. A
measurement is a function in a module of scripts/measurements, listed there in EXACT, SLOW or TIMED.
What is slow is written as "exact" too: the same numbers again, up to round-off.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from time import perf_counter
from typing import Any

from runners import measurements
from runners.environment import commit, hardware, packages
from runners.load import MOST_OTHER_CORES, LoadWatch, other_cores
from runners.locks import timing_lock
from runners.progress import say

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Measurement:
    """One computation: its name, "exact", "slow" or "timed", and what returns its rows."""

    name: str
    kind: str
    function: Callable[[], Rows]


def all_measurements() -> dict[str, Measurement]:
    """Every measurement of the modules in scripts/measurements, by name, sorted.

    Raises:
        ValueError: if two have one name.
    """
    from scripts import measurements as package

    found: dict[str, Measurement] = {}
    for info in iter_modules(package.__path__):
        module = import_module(f"{package.__name__}.{info.name}")
        for kind, table in (("exact", "EXACT"), ("slow", "SLOW"), ("timed", "TIMED")):
            for name, function in getattr(module, table, {}).items():
                if name in found:
                    raise ValueError(f"two measurements are called {name}; one is in {info.name}")
                found[name] = Measurement(name, kind, function)
    return dict(sorted(found.items()))


def measure(measurement: Measurement, num_threads: int = 1) -> tuple[Rows, dict[str, Any]]:
    """Make one measurement: its rows, and the facts of its making but the command.

    A timed one waits until it is alone among the runs of this machine, and records how busy other
    processes kept it. Torch's default generator
    is seeded and its number of threads set; both are left as they were.
    """
    import torch

    timed = measurement.kind == "timed"
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    started_at = datetime.now(timezone.utc).isoformat(timespec="seconds")
    with timing_lock(True, say) if timed else contextlib.nullcontext():
        start, load = perf_counter(), LoadWatch()
        try:
            torch.set_num_threads(num_threads)
            torch.manual_seed(0)
            rows = list(measurement.function())
        finally:
            torch.set_num_threads(threads)
            torch.set_rng_state(state)
        seconds, beside = perf_counter() - start, load.facts()
    measurements.check_rows(measurement.name, rows)
    revision, dirty = commit()
    facts = {
        "commit": revision,
        "dirty": dirty,
        "hardware": hardware(),
        "packages": packages(),
        "num_threads": num_threads,
        "timing": "exclusive" if timed else None,
        "load": beside if timed else None,
        "started_at": started_at,
        "seconds": seconds,
    }
    return rows, facts


def make(names: Sequence[str], out: Path, num_threads: int = 1) -> int:
    """Make and write measurements, a printed line each; the exit status.

    One that fails is said and does not stop the others (status 1); an unknown name stops all
    (status 2).
    """
    known = all_measurements()
    unknown = [name for name in names if name not in known]
    if unknown:
        print(
            f"no measurement is called {unknown[0]} (measurements: {', '.join(known)})",
            file=sys.stderr,
        )
        return 2
    status = 0
    for name in names:
        try:
            rows, facts = measure(known[name], num_threads)
        except Exception as error:  # said, and the others are made
            print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
            status = 1
            continue
        command = f"python -m scripts.measure {shlex.quote(name)}"
        kind = "timed" if known[name].kind == "timed" else "exact"
        if num_threads != 1:
            command += f" --threads {num_threads}"
        path = measurements.write(out, name, kind, rows, {**facts, "command": command})
        print(f"{name}: {len(rows)} rows in {facts['seconds']:.1f} s | {path}", flush=True)
        others = other_cores(facts["load"], num_threads)
        if others is not None and others > MOST_OTHER_CORES:
            print(f"{name}: other processes used {others:.1f} cores; measure it again", flush=True)
    return status


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.measure", description=__doc__.splitlines()[0]
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="measurements to make")
    parser.add_argument("--exact", action="store_true", help="all that are exact or counted")
    parser.add_argument("--slow", action="store_true", help="all that take minutes")
    parser.add_argument("--timed", action="store_true", help="all timings; needs an idle machine")
    parser.add_argument("--list", action="store_true", help="print the names and do nothing")
    parser.add_argument(
        "--out", metavar="DIR", help="root of records; default: $KAPPA_RUNS or runs"
    )
    parser.add_argument("--threads", type=int, default=1, help="of torch; default: 1")
    options = parser.parse_args(argv)
    if options.list:
        for item in all_measurements().values():
            print(f"{item.kind}  {item.name}")
        return 0
    names = list(options.names)
    for kind in ("exact", "slow", "timed"):
        if getattr(options, kind):
            names += [item.name for item in all_measurements().values() if item.kind == kind]
    if not names:
        parser.error("name a measurement, or give --exact, --slow, --timed or --list")
    out = Path(options.out or os.environ.get("KAPPA_RUNS") or "runs")
    return make(list(dict.fromkeys(names)), out, options.threads)


if __name__ == "__main__":
    sys.exit(main())
