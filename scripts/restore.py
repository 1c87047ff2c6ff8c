"""Make again the final runs whose records are gone, from what their experiment's index chose.

    python -m scripts.restore [NAME ...] [--runs DIR] [--results DIR] [--list]

The search is not repeated: an index keeps what it chose. Each run comes back where it was missing,
and only if its identity is still the one in the index. --list says what is missing, and makes
nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runners.plan import Plan, Request, command_line, make_plan
from runners.progress import say
from runners.records import RecordsError, check_version, read_manifest
from scripts import catalogue
from scripts.catalogue import duration

ROOT = Path(__file__).resolve().parent.parent
# Of these an index says that there are records.
RECORDED = ("finished", "diverged")


@dataclass(frozen=True)
class Gap:
    """Final runs that an experiment's index names and whose records are gone.

    Attributes:
        root: the folder of records with the index.
        entries: the index's lines of the missing runs.
        seconds: how long they will take one after the other; inf where nothing tells.
    """

    root: Path
    name: str
    index: dict[str, Any]
    entries: list[dict[str, Any]]
    seconds: float

    def __str__(self) -> str:
        runs = "1 run" if len(self.entries) == 1 else f"{len(self.entries)} runs"
        return f"{self.name} lacks {runs} in {self.root} ({duration(self.seconds)})"


def read_index(root: Path, name: str) -> dict[str, Any] | None:
    """An experiment's index in a folder of records; None if there is none.

    Raises:
        RecordsError: if it is damaged or of an unknown schema version.
    """
    path = root / "experiments" / f"{name}.json"
    try:
        index = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except json.JSONDecodeError as error:
        raise RecordsError(f"{path} is damaged: {error}") from None
    check_version(index, path)
    return index


def finished_index(roots: Iterable[Path], name: str) -> tuple[Path, dict[str, Any]] | None:
    """The index that figures are drawn from: the first that is finished, with its root."""
    for root in roots:
        index = read_index(root, name)
        if index is not None and index["status"] == "finished":
            return root, index
    return None


def find_gap(roots: Iterable[Path], name: str) -> Gap | None:
    """The missing runs of an experiment; None if it is nowhere finished or nothing is missing."""
    found = finished_index(roots, name)
    if found is None:
        return None
    root, index = found
    said = [entry for entry in index["final"] if entry["status"] in RECORDED]
    missing = [entry for entry in said if not (folder(root, entry) / "manifest.json").is_file()]
    if not missing:
        return None
    return Gap(root, name, index, missing, sum(expected(root, index, e) for e in missing))


def folder(root: Path, entry: dict[str, Any]) -> Path:
    """Where the records of an index's line lie."""
    return root / entry["task"] / entry["optimizer"] / entry["run_id"]


def expected(root: Path, index: dict[str, Any], entry: dict[str, Any]) -> float:
    """Seconds that a run will take: its own of before, else the mean of its method's.

    Where neither is known, its share of what the experiment is said to cost; else inf.
    """
    if entry.get("seconds") is not None:
        return float(entry["seconds"])
    known = []
    for other in index["final"]:
        if (other["case"], other["method"]) == (entry["case"], entry["method"]):
            try:
                known.append(read_manifest(folder(root, other))["wall_seconds"])
            except (RecordsError, KeyError):
                continue
    if known:
        return math.fsum(known) / len(known)
    try:
        whole = catalogue.experiment(index["name"])
    except FileNotFoundError:
        return math.inf
    return whole.seconds(catalogue.scale_of(index)) / whole.num_runs


def plan_of(gap: Gap) -> Plan:
    """The experiment as it was asked for, from the command that its index keeps."""
    from omegaconf import OmegaConf

    import run

    typed = [item for item in shlex.split(gap.index["command"])[2:] if item != "force=true"]
    cfg = run.compose(typed)
    extra, _ = command_line(typed)
    extra["runs_dir"] = str(gap.root)
    return make_plan(OmegaConf.to_container(cfg.experiment, resolve=True), None, extra)


def requests_of(gap: Gap, plan: Plan) -> list[Request]:
    """The missing runs, as the experiment asks for them today.

    Raises:
        RecordsError: if one is asked for no more, or would be another run than the index names.
    """
    import run
    from runners.pool import list_overrides

    requests = []
    for entry in gap.entries:
        case, method = entry["case"], entry["method"]
        where = f"{gap.name}: {case}, {method}, seed {entry['seed']}"
        again = f"make all of it again with: {gap.index['command']}"
        if case not in plan.cases or method not in plan.methods:
            raise RecordsError(f"{where} is not in conf/experiment any more; {again}")
        request = plan.request(case, method, entry["values"], entry["seed"], plan.final_overrides)
        cfg = run.compose(list_overrides(request))
        with run.user_errors(str(gap.root)):
            job = run.build_job(cfg, sweep=None, experiment=gap.name, workers=1, quiet=True)
        if job.run_id != entry["run_id"]:
            raise RecordsError(
                f"{where} would be run {job.run_id}, the index has {entry['run_id']}: its "
                f"configuration, data or numerics have changed since; {again}"
            )
        requests.append(request)
    return requests


def fill(gap: Gap) -> int:
    """Make a gap's runs; the exit status: 0 all are there again, 1 a run failed.

    Raises:
        RecordsError: if a run cannot come out as the one that is missing; none is made then.
        ValueError, run.UserError: if a run is not possible as asked for.
    """
    import run
    from runners.pool import run_requests

    plan = plan_of(gap)
    requests = requests_of(gap, plan)
    outcomes = run_requests(run.compose_and_run, plan, requests, "final")
    bad = [o for o in outcomes if o.record_status not in RECORDED]
    for outcome in bad:
        say(f"{gap.name}: {outcome.run_id} {outcome.status}: {outcome.reason}")
    return 1 if bad else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.restore", description=__doc__.splitlines()[0]
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="experiments; default: all")
    parser.add_argument("--runs", type=Path, default=Path(os.environ.get("KAPPA_RUNS") or "runs"))
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    parser.add_argument("--list", action="store_true", help="say what is missing, make nothing")
    options = parser.parse_args(argv)
    roots = (options.runs, options.results)
    known = sorted({p.stem for root in roots for p in (root / "experiments").glob("*.json")})
    unknown = [name for name in options.names if name not in known]
    if unknown:
        print(f"restore: no index of {unknown[0]} (there are: {', '.join(known)})", file=sys.stderr)
        return 2
    import run

    status = 0
    for name in options.names or known:
        try:
            gap = find_gap(roots, name)
            if gap is None:
                continue
            print(gap, flush=True)
            status = max(status, 0 if options.list else fill(gap))
        except (RecordsError, ValueError, run.UserError) as error:
            print(f"restore: {error}", file=sys.stderr)
            status = 2
        except KeyboardInterrupt:
            print("restore: stopped; the same command goes on from here", file=sys.stderr)
            return 130
    return status


if __name__ == "__main__":
    sys.exit(main())
