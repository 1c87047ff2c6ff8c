"""Make what is missing and cheap of what figures and ledger are made from; say the rest.

    python -m scripts.missing       for the ledger: every experiment and every exact measurement

Made are experiments whose records are never shipped, others that were made nowhere and take with
them at most five minutes in all, runs that an index names and whose records are gone, and exact
measurements. For everything else the command and its cost are said.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runners.measurements import path_of
from runners.progress import Tally
from runners.records import RecordsError
from scripts import catalogue
from scripts.catalogue import ROOT, Entry, duration
from scripts.restore import Gap, find_gap, finished_index

CHEAP_SECONDS = 300.0
STOPPED = 130
# What a stage of an experiment says of its progress, see runners/pool.py.
COUNTED = re.compile(r"^\S+ (?:search|final): (\d+)/(\d+)$")


@dataclass
class Work:
    """What is to be made, and what is left out: name -> one line with command and cost."""

    experiments: list[Entry] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    measurements: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def num_runs(self) -> int:
        """Runs and measurements to be made, those that are found to be there included."""
        runs = sum(entry.num_runs for entry in self.experiments)
        return runs + sum(len(gap.entries) for gap in self.gaps) + len(self.measurements)


def announce(work: Work, tally: Tally, scale: str | None = None) -> None:
    """Say beforehand what a lot of work will cost."""
    seconds = sum(entry.seconds(scale) for entry in work.experiments)
    seconds += sum(gap.seconds for gap in work.gaps)
    if seconds > CHEAP_SECONDS:
        names = ", ".join(entry.name for entry in work.experiments)
        tally.say(f"to be made ({duration(seconds)} on two cores): {names}")


def roots_of(runs: Path | None = None, results: Path | None = None) -> tuple[Path, Path]:
    """Where records are looked for, in this order."""
    return runs or Path(os.environ.get("KAPPA_RUNS") or "runs"), results or ROOT / "results"


def survey(
    experiments: Iterable[str],
    measurements: Iterable[str],
    roots: Sequence[Path],
    scale: str | None = None,
    fresh: bool = False,
) -> Work:
    """Find what is missing of experiments and measurements, and what of it is cheap.

    Args:
        scale: the scale that is asked for; None: whatever there is, else each experiment's own.
        fresh: make all of them again, whatever they cost.
    """
    work = Work()
    if fresh:
        work.experiments = [catalogue.experiment(name) for name in experiments]
        work.measurements = list(measurements)
        return work
    absent = []
    for name in experiments:
        try:
            found = finished_index(roots, name)
            if found is None or scale not in (None, catalogue.scale_of(found[1])):
                absent.append(catalogue.experiment(name))
            elif gap := find_gap(roots, name):
                work.gaps.append(gap)
        except RecordsError as error:
            work.errors.append(str(error))
    choose_cheap(work, absent, scale)
    gone = [n for n in measurements if not any(path_of(root, n).is_file() for root in roots)]
    exact = exact_measurements() if gone else set()
    for name in gone:
        if name in exact:
            work.measurements.append(name)
        else:
            command = f"python -m scripts.measure {name}"
            work.left_out[name] = f"{name}: a timing, on an idle machine: {command}"
    return work


def choose_cheap(work: Work, absent: Sequence[Entry], scale: str | None) -> None:
    """Divide what is missing into what is made now, cheapest first, and what is left out."""
    left = CHEAP_SECONDS
    gaps, work.gaps = sorted(work.gaps, key=lambda gap: gap.seconds), []
    for gap in gaps:
        if gap.seconds <= left:
            left -= gap.seconds
            work.gaps.append(gap)
        else:
            work.left_out[gap.name] = f"{gap}: python -m scripts.restore {gap.name}"
    # What is never shipped is made in any case, and its time is no longer there for the others.
    for entry in sorted(absent, key=lambda entry: (entry.shipped, entry.seconds(scale))):
        seconds = entry.seconds(scale)
        always = not entry.shipped and (scale is None or math.isfinite(seconds))
        if always or seconds <= left:
            left -= seconds
            work.experiments.append(entry)
        else:
            said = f"no records at scale={scale}" if scale else "no records"
            line = f"{entry.name}: {said} ({duration(seconds)}): {entry.command(scale)}"
            work.left_out[entry.name] = line


def exact_measurements() -> set[str]:
    """The names of the measurements that any machine can make at any time."""
    from scripts.measure import all_measurements

    return {name for name, item in all_measurements().items() if item.kind == "exact"}


def make(
    work: Work, tally: Tally, roots: Sequence[Path], scale: str | None = None, fresh: bool = False
) -> int:
    """Make the work, each part by its own command; the worst exit status, or 130 after a stop."""
    runs = ["--runs", str(roots[0])]
    commands = [(e.arguments(scale, fresh), e.num_runs) for e in work.experiments]
    for gap in work.gaps:
        place = ["--runs", str(gap.root), "--results", str(gap.root)]
        commands.append((["-m", "scripts.restore", gap.name, *place], len(gap.entries)))
    if work.measurements:
        out = ["--out", runs[1]]
        call_measure = ["-m", "scripts.measure", *work.measurements, *out]
        commands.append((call_measure, len(work.measurements)))
    announce(work, tally, scale)
    status = 2 if work.errors else 0
    for error in work.errors:
        tally.say(error)
    for arguments, num_runs in commands:
        status = max(status, call(arguments, tally, num_runs))
        if status == STOPPED:
            break
    return status


def call(arguments: Sequence[str], tally: Tally, num_runs: int) -> int:
    """Run one command of the project, its counts shown as progress; the exit status.

    A stop reaches the command as one from the keyboard would, and what it had begun is kept.
    """
    tally.say(" ".join(["python", *arguments]))
    counted, before = 0, 0
    with subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            for line in process.stdout:
                match = COUNTED.match(line)
                if match:
                    done = int(match[1])
                    counted += done - before if done > before else done
                    before = done
                    tally.set(min(counted, num_runs), line.strip())
                else:
                    tally.say(line.rstrip())
            status = process.wait()
        except KeyboardInterrupt:
            os.killpg(process.pid, signal.SIGINT)
            process.wait()
            return STOPPED
    tally.finish(num_runs)
    return status


def report_left_out(work: Work, tally: Tally) -> None:
    """Say what was not made, with the command and the cost of each."""
    if work.left_out:
        tally.say("left out:")
        for line in work.left_out.values():
            tally.say(f"  {line}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.missing", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--runs", type=Path, help="your runs; default: $KAPPA_RUNS or runs")
    parser.add_argument("--results", type=Path, help="shipped records; default: results")
    options = parser.parse_args(argv)
    roots = roots_of(options.runs, options.results)
    work = survey(catalogue.experiment_names(), sorted(exact_measurements()), roots)
    with Tally("runs", work.num_runs()) as tally:
        status = make(work, tally, roots)
        report_left_out(work, tally)
    return status


if __name__ == "__main__":
    sys.exit(main())
