"""Records as data frames, and the experiments that figures are drawn from."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from runners import records
from runners.records import RecordsError

RESULTS = Path(__file__).resolve().parents[1] / "results"

ENTRY_COLUMNS = ("case", "method", "values", "seed", "task", "optimizer", "run_id", "status")
CHOICE_COLUMNS = ("case", "method", "values", "score", "num_trials", "at_edge")

# Only these statuses leave curves that can be drawn; a diverged run is a result.
DRAWN_STATUSES = ("finished", "diverged")


class MissingRecordsError(RecordsError):
    """Records that were not made yet; the message names the command that makes them."""


def runs_root() -> Path:
    """The folder of the user's own runs: the environment variable KAPPA_RUNS, or `runs`."""
    return Path(os.environ.get("KAPPA_RUNS") or "runs")


# ---------------------------------------------------------------- one frame a table


def load_runs(root: Path | str | None = None) -> pd.DataFrame:
    """Load one row a run: its manifest and its configuration, both flattened with dots.

    Args:
        root: a folder of runs or one run's folder; by default `runs_root()`.
    Returns:
        Columns named as in the manifest (`status`, `hardware.fingerprint`, `task_facts.optimum`)
        and `config.` plus the key (`config.optimizer.lr`). A key that a run lacks is missing in
        its row; lists stay lists. No runs: an empty frame with the column `run_id`.
    Raises:
        RecordsError: if the folder is missing, or a manifest is damaged or of an unknown version.
    """
    rows = []
    for run_dir in _run_dirs(root):
        row = manifest_row(run_dir)
        # A run that has only just started may have a manifest and no configuration yet.
        if (run_dir / "config.yaml").is_file():
            row.update(_flatten(records.read_config(run_dir), "config."))
        rows.append(row)
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=["run_id"])


def load_steps(root: Path | str | None = None) -> pd.DataFrame:
    """Load `run_id` and the columns of the table `steps`, one row a step.

    Args and errors as for `load_runs`. Non-finite values stay what they are.
    """
    return _load_table(root, "steps")


def load_evals(root: Path | str | None = None) -> pd.DataFrame:
    """Load `run_id` and the columns of the table `evals`, one row a metric and evaluation.

    Args and errors as for `load_runs`. Non-finite values stay what they are.
    """
    return _load_table(root, "evals")


def load_spectra(root: Path | str | None = None) -> pd.DataFrame:
    """Load `run_id` and the columns of the table `spectra`; `eigenvalues` holds lists of floats.

    Args and errors as for `load_runs`. Non-finite values stay what they are.
    """
    return _load_table(root, "spectra")


def manifest_row(run_dir: Path) -> dict[str, Any]:
    """One run's manifest, flattened with dots; `run_id` falls back on the folder's name."""
    return {"run_id": run_dir.name, **_flatten(records.read_manifest(run_dir))}


def _run_dirs(root: Path | str | None) -> Iterator[Path]:
    root = runs_root() if root is None else Path(root)
    if not root.is_dir():
        raise MissingRecordsError(f"{root} is not a folder of records; python run.py makes runs")
    return records.find_runs(root)


def _flatten(tree: Mapping[str, Any] | None, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in (tree or {}).items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _load_table(root: Path | str | None, table: str) -> pd.DataFrame:
    runs = (({"run_id": manifest_row(run_dir)["run_id"]}, run_dir) for run_dir in _run_dirs(root))
    return _labelled_table(runs, table, labels={"run_id": pa.string()})


def _labelled_table(
    runs: Iterable[tuple[Mapping[str, Any], Path]], table: str, labels: Mapping[str, pa.DataType]
) -> pd.DataFrame:
    """Concatenate one table of many runs, each run's labels repeated in front of its rows."""
    schema = pa.schema([*labels.items(), *records.TABLES[table]])
    parts = [schema.empty_table()]
    for values, run_dir in runs:
        rows = records.read_table(run_dir, table)
        columns = [
            pa.repeat(pa.scalar(values[name], kind), len(rows)) for name, kind in labels.items()
        ]
        parts.append(pa.Table.from_arrays([*columns, *rows.columns], schema=schema))
    whole = pa.concat_tables(parts)
    frame = whole.to_pandas()
    if table == "spectra":
        frame["eigenvalues"] = pd.Series(whole["eigenvalues"].to_pylist(), dtype=object)
    return frame


# ---------------------------------------------------------------- experiments


class Records:
    """Where figures read from: the user's runs first, then the shipped results.

    Args:
        roots: folders with the layout of runs_dir, in order of preference; by default
            `runs_root()` and the `results` that are shipped. Folders may be missing.
    """

    def __init__(self, roots: Sequence[Path | str] | None = None):
        self.roots = [Path(root) for root in ((runs_root(), RESULTS) if roots is None else roots)]

    def experiment(self, name: str) -> Experiment:
        """Return the experiment from the first root where it is finished; roots never mix.

        Raises:
            MissingRecordsError: if it is finished nowhere, or all its final runs have failed;
                names the command that makes it.
            RecordsError: if an index is damaged or has an unknown schema version.
        """
        begun = []
        command = f"python run.py experiment={name}"
        for root in self.roots:
            path = root / "experiments" / f"{name}.json"
            if not path.is_file():
                continue
            document = _read_index(path)
            if document.get("status") == "finished":
                return _drawable(Experiment(root, document))
            command = document.get("command") or command
            begun.append(str(root))
        if begun:
            places = ", ".join(begun)
            raise MissingRecordsError(
                f"experiment {name} is unfinished in {places}; continue it with: {command}"
            )
        raise MissingRecordsError(f"no records of experiment {name}; make them with: {command}")


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

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row a search run; `score` is nan where the run diverged."""
        return _entries(self._index.get("trials"), (*ENTRY_COLUMNS, "score"))

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

    def runs(self, case: str | None = None) -> pd.DataFrame:
        """One row a final run that can be drawn: case, method, seed, then its flat manifest."""
        entries = self._drawn(case)
        rows = [{**manifest_row(run_dir), **labels} for labels, run_dir in entries]
        columns = ["case", "method", "seed", "run_id"]
        frame = pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)
        return frame[[*columns, *frame.columns.difference(columns, sort=False)]]

    def steps(self, case: str) -> pd.DataFrame:
        """Steps of the case's final runs: case, method, seed, run_id, then the table's columns.

        Runs that failed or were interrupted are left out; `final` says which.

        Raises:
            MissingRecordsError: if a run's folder is missing; names the command that makes it.
        """
        return self._table("steps", case)

    def evals(self, case: str) -> pd.DataFrame:
        """Evaluations of the case's final runs; columns and errors as for `steps`."""
        return self._table("evals", case)

    def spectra(self, case: str) -> pd.DataFrame:
        """Spectra of the case's final runs; columns and errors as for `steps`."""
        return self._table("spectra", case)

    def _table(self, table: str, case: str) -> pd.DataFrame:
        text = pa.string()
        labels = {"case": text, "method": text, "seed": pa.int64(), "run_id": text}
        return _labelled_table(self._drawn(case), table, labels)

    def _drawn(self, case: str | None) -> list[tuple[dict[str, Any], Path]]:
        drawn = []
        for entry in self._index.get("final") or ():
            if entry["status"] not in DRAWN_STATUSES or case not in (None, entry["case"]):
                continue
            run_dir = self.root / entry["task"] / entry["optimizer"] / entry["run_id"]
            if not (run_dir / "manifest.json").is_file():
                raise MissingRecordsError(
                    f"experiment {self.name} lacks its run {run_dir}; make it with: {self.command}"
                )
            labels = {name: entry[name] for name in ("case", "method", "seed", "run_id")}
            drawn.append((labels, run_dir))
        return drawn


def _drawable(experiment: Experiment) -> Experiment:
    if not experiment.final["status"].isin(DRAWN_STATUSES).any():
        raise MissingRecordsError(
            f"experiment {experiment.name} in {experiment.root} has no final run that ended well "
            f"or diverged; run it again with: {experiment.command}"
        )
    return experiment


def _read_index(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise RecordsError(f"{path} is damaged: {error}") from None
    records.check_version(document, path)
    return document


def _entries(rows: Sequence[Mapping[str, Any]] | None, columns: Sequence[str]) -> pd.DataFrame:
    frame = pd.DataFrame(list(rows or ()))
    frame = frame.reindex(columns=list(dict.fromkeys([*columns, *frame.columns])))
    if "score" in frame:
        frame["score"] = frame["score"].astype(float)
    return frame
