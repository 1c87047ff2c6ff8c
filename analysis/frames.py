"""Any folder of records as pandas data frames: one row a run, a step, a metric or a spectrum."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from runners import records
from runners.records import RecordsError


class MissingRecordsError(RecordsError):
    """Records that were not made yet; the message names the command that makes them."""


def runs_root() -> Path:
    """The folder of the user's own runs: the environment variable KAPPA_RUNS, or `runs`."""
    return Path(os.environ.get("KAPPA_RUNS") or "runs")


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
    rows = [run_row(run_dir) for run_dir in run_dirs(root)]
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
    return {"run_id": run_dir.name, **flatten(records.read_manifest(run_dir))}


def run_row(run_dir: Path) -> dict[str, Any]:
    """One run's manifest and configuration, as a row of `load_runs`."""
    row = manifest_row(run_dir)
    # A run that has only just started may have a manifest and no configuration yet.
    if (run_dir / "config.yaml").is_file():
        row.update(flatten(records.read_config(run_dir), "config."))
    return row


def run_dirs(root: Path | str | None) -> Iterator[Path]:
    """The run folders under `root`, by default `runs_root()`.

    Raises:
        MissingRecordsError: if `root` is no folder.
    """
    root = runs_root() if root is None else Path(root)
    if not root.is_dir():
        raise MissingRecordsError(f"{root} is not a folder of records; python run.py makes runs")
    return records.find_runs(root)


def flatten(tree: Mapping[str, Any] | None, prefix: str = "") -> dict[str, Any]:
    """A tree of mappings as one mapping, its keys joined with dots."""
    flat: dict[str, Any] = {}
    for key, value in (tree or {}).items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def labelled_table(
    runs: Iterable[tuple[Mapping[str, Any], Path]],
    table: str,
    labels: Mapping[str, pa.DataType],
    columns: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Concatenate one table of many runs, each run's labels repeated in front of its rows.

    Args:
        runs: the labels' values and the folder of each run.
        table: "steps", "evals" or "spectra".
        labels: names and types of the columns put in front.
        columns: of the table, in this order; by default all.
    """
    names = records.TABLES[table].names if columns is None else columns
    fields = [records.TABLES[table].field(name) for name in names]
    schema = pa.schema([*labels.items(), *fields])
    parts = [schema.empty_table()]
    for values, run_dir in runs:
        rows = records.read_table(run_dir, table, names)
        front = [
            pa.repeat(pa.scalar(values[name], kind), len(rows)) for name, kind in labels.items()
        ]
        parts.append(pa.Table.from_arrays([*front, *rows.columns], schema=schema))
    whole = pa.concat_tables(parts)
    frame = whole.to_pandas()
    if "eigenvalues" in names:
        frame["eigenvalues"] = pd.Series(whole["eigenvalues"].to_pylist(), dtype=object)
    return frame


def _load_table(root: Path | str | None, table: str) -> pd.DataFrame:
    runs = (({"run_id": manifest_row(run_dir)["run_id"]}, run_dir) for run_dir in run_dirs(root))
    return labelled_table(runs, table, labels={"run_id": pa.string()})
