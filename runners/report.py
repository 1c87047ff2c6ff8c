"""What a command says at its end: the last line of a run, the table of a sweep, the exit status."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any


def announce(outcomes: list[dict[str, Any]], wait: bool = True) -> int:
    """Say what came out, after waiting for runs that another process makes; the exit status."""
    if len(outcomes) > 1:
        if wait:
            outcomes = [settled(o) for o in outcomes]
        print(table([row(o) for o in outcomes], ["job", "outcome", "best", "records"]))
    elif outcomes:
        print_last_line(outcomes[0])
    statuses = {o["status"] for o in outcomes}
    if statuses & {"interrupted"}:
        return 130
    if statuses and statuses <= {"invalid", "busy"}:
        return 2
    return 1 if statuses & {"failed", "invalid", "busy"} else 0


def settled(outcome: dict[str, Any]) -> dict[str, Any]:
    """Wait for a run that another process was making, and take its outcome."""
    if outcome["status"] != "busy":
        return outcome
    from runners.locks import run_lock
    from runners.records import RecordsError, read_manifest

    run_dir = Path(outcome["run_dir"])
    with (
        run_lock(run_dir.parents[2], outcome["run_id"], wait=True),
        contextlib.suppress(RecordsError),
    ):
        manifest = read_manifest(run_dir)
        best = manifest["best"]
        return {
            **outcome,
            "status": manifest["status"],
            "reason": "made by another process",
            "metric": f"{best['split']} {best['metric']}",
            "value": best["value"],
        }
    return {**outcome, "status": "interrupted", "reason": "left by another process"}


def row(outcome: dict[str, Any]) -> list[str]:
    """An outcome's row in the table at the end of a sweep."""
    said = outcome["record_status"] if outcome["status"] == "skipped" else outcome["status"]
    note = outcome.get("reason", "")
    status = f"{said} ({note})" if note else said
    value = outcome.get("value")
    best = f"{outcome['metric']} {value:.5g}" if value is not None else ""
    return [" ".join(outcome["overrides"]), status, best, outcome["run_dir"]]


def print_last_line(outcome: dict[str, Any]) -> None:
    """Where the records of a single run are and what came out."""
    status, reason = outcome["status"], outcome["reason"]
    if not outcome.get("run_dir") or status == "busy":
        if reason:
            print(f"run.py: {reason}", file=sys.stderr)
        return
    value, last = outcome.get("value"), outcome.get("last")
    came = f"best {outcome['metric']} {value:.5g}" if value is not None else "no metric"
    if last is not None:
        came += f", last {last:.5g}"
    said = f"{status}: {reason}" if reason else status
    print(f"{said} | {came} | records in {outcome['run_dir']}")


def announce_experiment(index: dict[str, Any], path: Path) -> str:
    """Say what an experiment chose and what went wrong; returns its status."""
    rows = [
        [
            c["case"],
            c["method"],
            ", ".join(f"{k}={v}" for k, v in c["values"].items()),
            "not tuned" if c["score"] is None else f"{c['score']:.4g}",
            str(c["num_trials"]),
            "at the edge of its grid" if c["at_edge"] else "",
        ]
        for c in index["choice"]
    ]
    print(table(rows, ["case", "method", "chosen", "score", "trials", ""]))
    runs = index["trials"] + index["final"]
    bad = [run for run in runs if run["status"] not in ("finished", "diverged")]
    for run in bad[:20]:
        where = f"{run['case']} {run['method']} {run['values']} seed {run['seed']}"
        print(f"{run['status']}: {where}: {run['reason']}")
    counts = f"{len(index['trials'])} trials, {len(index['final'])} final runs"
    print(f"{index['name']}: {index['status']} | {counts} | {path}")
    if any(run["status"] == "interrupted" for run in bad):
        return "interrupted"
    return "failed" if bad else "finished"


def table(rows: list[list[str]], header: list[str]) -> str:
    """A plain aligned table."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = [
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
        for row in [header, *rows]
    ]
    return "\n".join([lines[0], "  ".join("-" * w for w in widths), *lines[1:]])
