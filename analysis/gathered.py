"""Any runs in the order of an experiment: a case a task, a method a set of hyperparameters."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis import looks
from analysis.frames import MissingRecordsError, run_row
from analysis.load import DRAWN_STATUSES, Experiment
from runners.records import SCHEMA_VERSION, RecordsError

NAME = "your runs"
# What may differ between the runs of one curve: which of the equal runs it is, and how it was made.
_OWN = (
    "seed", "instance_seed", "data_dir", "runs_dir", "num_workers", "evaluate_at", "spectra_every",
)  # fmt: skip


class Gathered:
    """Runs of several folders as one experiment, for figures made of panels.

    Args:
        paths: roots of runs, or folders in them: of a task, of an optimizer, of a run.
        where: columns of `load_runs` (`task`, `sweep`, `config.optimizer.lr`) and the value that a
            run must have there, compared as text.
    Raises:
        MissingRecordsError: if a folder is missing or no run of it can be drawn.
        RecordsError: if a run cannot be read, or runs of one curve mix versions.
    """

    def __init__(self, paths: Sequence[Path | str], where: Mapping[str, str] | None = None):
        rows, self.num_unfinished = [], 0
        seen = set()
        for path in paths:
            for run_dir in _run_dirs(Path(path)):
                row = {**run_row(run_dir), "run_dir": str(run_dir)}
                if row["run_id"] in seen or not _matches(row, where or {}):
                    continue
                seen.add(row["run_id"])
                if row["status"] in DRAWN_STATUSES:
                    rows.append(row)
                else:
                    self.num_unfinished += 1
        if not rows:
            places = ", ".join(map(str, paths))
            conditions = " ".join(f"{key}={value}" for key, value in (where or {}).items())
            raise MissingRecordsError(
                f"no finished or diverged run in {places}{f' with {conditions}' * bool(conditions)}"
            )
        self.labels: dict[str, str] = {}
        self.targets: dict[str, dict[str, Any]] = {}
        entries = [
            entry
            for rows_of_task in _by(rows, "task").values()
            for entry in self._name(rows_of_task)
        ]
        self.gathered = Experiment(Path(), {
            "schema_version": SCHEMA_VERSION, "name": NAME, "command": "python run.py",
            "stand_in": "", "final": _latest(entries),
        })  # fmt: skip
        self.num_replaced = len(entries) - len(self.gathered.final)

    def experiment(self, name: str) -> Experiment:
        """The one experiment, whatever the name: panels ask for it."""
        return self.gathered

    def _name(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Index entries of one task's runs; names each curve by what makes it differ."""
        case = rows[0]["task"]
        self.targets[case] = {
            key: rows[0].get(f"target.{key}") for key in ("metric", "split", "direction", "value")
        }
        shared = _differing(rows, lambda key: not key.startswith("config.optimizer."))
        entries = []
        for optimizer, own in _by(rows, "optimizer").items():
            keys = [*_differing(own, lambda key: key.startswith("config.optimizer.")), *shared]
            for row in own:
                parts = [f"{key.split('.')[-1]} {_short(row.get(key))}" for key in keys]
                method = f"{optimizer}_{', '.join(parts)}" if parts else optimizer
                name = looks.line(optimizer)["label"]
                self.labels[method] = ", ".join([name, *parts])
                entries.append({
                    "case": case, "method": method, "values": {}, "seed": int(row["seed"]),
                    "task": case, "optimizer": optimizer, "run_id": row["run_id"],
                    "status": row["status"], "run_dir": row["run_dir"],
                    "ended_at": row.get("ended_at") or "",
                })  # fmt: skip
        return sorted(entries, key=lambda entry: (_order(entry["method"]), entry["seed"]))


def _run_dirs(path: Path) -> list[Path]:
    if not path.is_dir():
        raise MissingRecordsError(f"{path} is not a folder of records; python run.py makes runs")
    for depth in range(4):  # <root>/<task>/<optimizer>/<run_id>
        found = sorted(path.glob("*/" * depth + "manifest.json"))
        if found:
            return [manifest.parent for manifest in found]
    return []


def _matches(row: Mapping[str, Any], where: Mapping[str, str]) -> bool:
    for key, wanted in where.items():
        if key not in row and f"config.{key}" not in row:
            raise RecordsError(f"run {row['run_id']} has nothing called {key}")
        value = row.get(key, row.get(f"config.{key}"))
        if _short(value) != wanted and str(value) != wanted:
            return False
    return True


def _by(rows: Sequence[Mapping[str, Any]], key: str) -> dict[Any, list[Mapping[str, Any]]]:
    groups: dict[Any, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row[key], []).append(row)
    return groups


def _differing(rows: Sequence[Mapping[str, Any]], chosen) -> list[str]:
    """Keys of the configuration that are not the same in all rows, in their order.

    What only names a choice (`choices.`, `_target_`) differs together with what it chooses.
    """
    keys = dict.fromkeys(key for row in rows for key in row if key.startswith("config."))
    found = []
    for key in keys:
        parts = key.split(".")
        if not chosen(key) or parts[-1] in _OWN or parts[1] in ("choices", "probe"):
            continue
        if len({json.dumps(row.get(key), default=str) for row in rows}) > 1:
            found.append(key)
    names = [key for key in found if not key.endswith(("_target_", ".path"))]
    return names or found


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if value is None or value != value:
        return "none"
    return str(value).removeprefix("optimizers.").removeprefix("runners.")


def _order(method: str) -> tuple[Any, ...]:
    """Optimizers in the order of their looks, then numbers by size."""
    known = list(looks.LOOKS)
    optimizer = next((n for n in sorted(known, key=len, reverse=True) if method.startswith(n)), "")
    words = method[len(optimizer) :].replace(",", " ").split()
    numbers = [(0, float(w), "") if _is_number(w) else (1, 0.0, w) for w in words]
    return (known.index(optimizer) if optimizer else len(known), numbers)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _latest(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One run a curve and seed: the one that ended last."""
    kept: dict[tuple[str, str, int], dict[str, Any]] = {}
    for entry in entries:
        key = (entry["case"], entry["method"], entry["seed"])
        if key not in kept or entry["ended_at"] > kept[key]["ended_at"]:
            kept[key] = entry
    return list(kept.values())
