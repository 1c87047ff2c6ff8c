"""One experiment: its index, and the records of its final runs as frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa

from analysis.frames import flatten, labelled_table
from analysis.versions import check_alike
from runners import records

# What the experiments are made from: it knows about stand-ins that older indices do not name.
PLANS = Path(__file__).resolve().parents[1] / "conf" / "experiment"

ENTRY_COLUMNS = ("case", "method", "values", "seed", "task", "optimizer", "run_id", "status")
CHOICE_COLUMNS = ("case", "method", "values", "score", "num_trials", "at_edge")

# Only these statuses leave curves that can be drawn; a diverged run is a result.
DRAWN_STATUSES = ("finished", "diverged")


class MissingRun(NamedTuple):
    """A final run that the index names and whose folder is absent."""

    case: str
    method: str
    seed: int
    run_id: str


class Experiment:
    """One finished experiment: its index and the records of its final runs.

    Args:
        root: the folder its runs lie in.
        index: the parsed `experiments/<name>.json`.
    """

    def __init__(self, root: Path, index: Mapping[str, Any]):
        self.root = Path(root)
        self.name: str = index["name"]
        self.rule: str = index.get("rule") or ""
        self.command: str = index.get("command") or f"python run.py experiment={self.name}"
        self._index = index
        self._tables: dict[tuple[Any, ...], pd.DataFrame] = {}

    @cached_property
    def stand_in(self) -> str:
        """What stands for what, in one line; empty if the paper's own data and models are used."""
        if "stand_in" not in self._index and (PLANS / f"{self.name}.yaml").is_file():
            import yaml

            plan = yaml.safe_load((PLANS / f"{self.name}.yaml").read_text())
            return plan.get("stand_in") or ""
        return self._index.get("stand_in") or ""

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row a search run; `score` is nan where the run diverged.

        Raises:
            RecordsError: if the records of the trials are there and mix versions.
        """
        entries = self._index.get("trials") or ()
        check_alike(self._manifests(entries), self.name, self.command)
        return _entries(entries, (*ENTRY_COLUMNS, "score"))

    @cached_property
    def choice(self) -> pd.DataFrame:
        """One row a (case, method): `values` chosen (dict), `score`, `num_trials`, `at_edge`."""
        return _entries(self._index.get("choice"), CHOICE_COLUMNS)

    @cached_property
    def final(self) -> pd.DataFrame:
        """One row a final run, whatever its status."""
        return _entries(self._index.get("final"), ENTRY_COLUMNS)

    def cases(self) -> list[str]:
        """The names of the cases, in the order of the index."""
        return list(dict.fromkeys(self.final["case"]))

    def methods(self, case: str) -> list[str]:
        """The methods compared in `case`, in the order of the index."""
        return list(dict.fromkeys(self.final.loc[self.final["case"] == case, "method"]))

    def diverged(self, case: str, method: str) -> set[int]:
        """Seeds whose final run has diverged."""
        return self._diverged.get((case, method), set())

    @cached_property
    def _diverged(self) -> dict[tuple[str, str], set[int]]:
        found: dict[tuple[str, str], set[int]] = {}
        for entry in self._index.get("final") or ():
            if entry["status"] == "diverged":
                found.setdefault((entry["case"], entry["method"]), set()).add(entry["seed"])
        return found

    @property
    def missing(self) -> list[MissingRun]:
        """The final runs that ended well or diverged, and whose records are not there."""
        return [
            MissingRun(*(entry[name] for name in MissingRun._fields))
            for entry in self._ended()
            if not self._is_there(entry)
        ]

    def runs(self, case: str | None = None) -> pd.DataFrame:
        """One row a final run that can be drawn: case, method, seed, then its flat manifest.

        Raises:
            RecordsError: if runs of one method, or of one case, mix versions.
        """
        rows = [row for row in self._checked if case in (None, row["case"])]
        columns = ["case", "method", "seed", "run_id"]
        frame = pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)
        return frame[[*columns, *frame.columns.difference(columns, sort=False)]]

    def steps(self, case: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Steps of the case's final runs: case, method, seed, run_id, then the table's columns.

        Runs that failed or were interrupted are left out, and so are missing ones: `final` and
        `missing` say which.

        Args:
            columns: of the table; by default all.
        Raises:
            RecordsError: if runs of one method, or of one case, mix versions.
        """
        return self._table("steps", case, columns)

    def evals(self, case: str) -> pd.DataFrame:
        """Evaluations of the case's final runs; columns and errors as for `steps`."""
        return self._table("evals", case)

    def spectra(self, case: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Spectra of the case's final runs; columns and errors as for `steps`."""
        return self._table("spectra", case, columns)

    def _table(self, table: str, case: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
        key = (table, case, None if columns is None else tuple(columns))
        if key not in self._tables:
            text = pa.string()
            labels = {"case": text, "method": text, "seed": pa.int64(), "run_id": text}
            runs = [(row, row["run_dir"]) for row in self._checked if row["case"] == case]
            self._tables[key] = labelled_table(runs, table, labels, columns)
        return self._tables[key].copy(deep=False)

    @cached_property
    def _checked(self) -> list[dict[str, Any]]:
        """Flat manifests of the final runs that are there, with their labels; of one version."""
        rows = self._manifests(self._ended())
        check_alike(rows, self.name, self.command)
        return rows

    def _manifests(self, entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        rows = []
        for entry in entries:
            if self._is_there(entry):
                run_dir = self._run_dir(entry)
                labels = {name: entry[name] for name in ("case", "method", "seed", "run_id")}
                manifest = flatten(records.read_manifest(run_dir))
                rows.append({**manifest, **labels, "run_dir": run_dir})
        return rows

    def _ended(self) -> list[Mapping[str, Any]]:
        return [e for e in self._index.get("final") or () if e["status"] in DRAWN_STATUSES]

    def _run_dir(self, entry: Mapping[str, Any]) -> Path:
        # Runs that were gathered from several places say where they lie.
        place = entry.get("run_dir")
        return Path(place or self.root / entry["task"] / entry["optimizer"] / entry["run_id"])

    def _is_there(self, entry: Mapping[str, Any]) -> bool:
        # A trial that could not be started has no run.
        return bool(entry.get("run_id")) and (self._run_dir(entry) / "manifest.json").is_file()


def _entries(rows: Sequence[Mapping[str, Any]] | None, columns: Sequence[str]) -> pd.DataFrame:
    frame = pd.DataFrame(list(rows or ()))
    frame = frame.reindex(columns=list(dict.fromkeys([*columns, *frame.columns])))
    if "score" in frame:
        frame["score"] = frame["score"].astype(float)
    return frame
