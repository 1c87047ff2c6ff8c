"""The one schema of Kappa's records, with its writer and its reader.

A run is a folder `<root>/<task>/<optimizer>/<run_id>/`:

    config.yaml      the resolved configuration, of what can change numbers
    manifest.json    schema version, status, versions, hardware, seeds, times, parameter groups
    steps/           one row a step      } numbered Parquet parts, one a checkpoint,
    evals/           one row a metric    } written beside and renamed when complete
    spectra/         one row a spectrum  }

Analysis reads runs only through this module, so it imports neither torch nor the loop.
"""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA_VERSION = 2
# 1 lacks the column `staleness` of the spectra; it is read as null.
READABLE_VERSIONS = (1, 2)
STATUSES = ("finished", "diverged", "failed", "interrupted")

TABLES: dict[str, pa.Schema] = {
    # loss: mean over the batch, before the step; grad_norm: before clipping; train_seconds:
    # cumulative, without evaluation, norms, telemetry, logging and checkpointing;
    # update_norm: length of the parameters' change, only where spectra are recorded.
    "steps": pa.schema(
        [
            ("step", pa.int64()),
            ("loss", pa.float64()),
            ("lr", pa.float64()),
            ("grad_norm", pa.float64()),
            ("train_seconds", pa.float64()),
            ("update_norm", pa.float64()),
        ]
    ),
    "evals": pa.schema(
        [
            ("step", pa.int64()),
            ("epoch", pa.float64()),
            ("split", pa.string()),
            ("metric", pa.string()),
            ("value", pa.float64()),
            ("train_seconds", pa.float64()),
        ]
    ),
    # resolution: eigenvalues below it are round-off (GGT's step leaves them out);
    # condition_number and effective_rank count only the eigenvalues above it;
    # staleness: steps since the root in use was computed.
    "spectra": pa.schema(
        [
            ("step", pa.int64()),
            ("name", pa.string()),
            ("kind", pa.string()),
            ("eigenvalues", pa.list_(pa.float64())),
            ("resolution", pa.float64()),
            ("condition_number", pa.float64()),
            ("effective_rank", pa.float64()),
            ("root_residual", pa.float64()),
            ("fallbacks", pa.int64()),
            ("staleness", pa.int64()),
        ]
    ),
}


class RecordsError(Exception):
    """Records that cannot be read: damaged, missing, or of an unknown schema version."""


# ---------------------------------------------------------------- writing


def write_atomically(path: Path, write) -> None:
    """Call `write(temporary_path)` and rename onto `path`; on any error `path` is as before."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write `value` as JSON, atomically; non-finite numbers stay what they are."""
    text = json.dumps(value, indent=1, sort_keys=True) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text))


def write_manifest(run_dir: Path, manifest: Mapping[str, Any]) -> None:
    """Write a run's manifest with the schema version of this module."""
    write_json(run_dir / "manifest.json", {**manifest, "schema_version": SCHEMA_VERSION})


class RecordWriter:
    """Collects rows in memory and writes them as one numbered part of each table.

    Args:
        run_dir: the run's folder, made when the first part is written.
        num_parts: parts that a checkpoint vouches for; later ones are removed, since their
            steps are going to be made again.
    """

    def __init__(self, run_dir: Path, num_parts: int = 0):
        self.run_dir = Path(run_dir)
        self.num_parts = num_parts
        self.rows: dict[str, list[tuple]] = {name: [] for name in TABLES}
        self._seen: dict[str, int] = dict.fromkeys(TABLES, 0)
        for name in TABLES:
            for index, part in _parts(self.run_dir / name):
                if index >= num_parts:
                    part.unlink()
        # What a killed process was writing; a checkpoint can be as large as the memory.
        for folder in (self.run_dir, *(self.run_dir / name for name in TABLES)):
            for left in folder.glob(".*.tmp"):
                left.unlink()

    def add(self, table: str, row: tuple) -> None:
        """Append one row, its values in the order of `TABLES[table]`."""
        self.rows[table].append(row)

    def unseen(self) -> dict[str, list[tuple]]:
        """Rows added since the last call and not yet written: what tracking is fed with."""
        fresh = {name: rows[self._seen[name] :] for name, rows in self.rows.items()}
        self._seen = {name: len(rows) for name, rows in self.rows.items()}
        return fresh

    def flush(self) -> int:
        """Write the collected rows as the next part; returns the number of parts on disk.

        Call `unseen` first where somebody listens: written rows are forgotten.

        Raises:
            OSError: if a part cannot be written; parts written before are intact.
        """
        for name, rows in self.rows.items():
            if rows:
                _write_part(self.run_dir / name, self.num_parts, TABLES[name], rows)
        if any(self.rows.values()):
            self.num_parts += 1
        self.rows = {name: [] for name in TABLES}
        self._seen = dict.fromkeys(TABLES, 0)
        return self.num_parts


def _write_part(folder: Path, index: int, schema: pa.Schema, rows: list[tuple]) -> None:
    columns = [
        _array(values, f.type) for f, values in zip(schema, zip(*rows, strict=True), strict=True)
    ]
    table = pa.Table.from_arrays(
        columns, schema=schema.with_metadata({"kappa_schema_version": str(SCHEMA_VERSION)})
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"part-{index:05d}.parquet"
    write_atomically(path, lambda temporary: pq.write_table(table, temporary, compression="zstd"))


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """As `pa.array(values, kind)`, which imports pandas: a quarter of a second of every run."""
    count = len(values)
    if pa.types.is_list(kind) or pa.types.is_string(kind):
        if pa.types.is_string(kind):
            values = [value.encode() for value in values]
        offsets = np.zeros(count + 1, dtype=np.int32)
        np.cumsum([len(value) for value in values], out=offsets[1:])
        buffers = [None, pa.py_buffer(offsets)]
        if pa.types.is_string(kind):
            return pa.Array.from_buffers(kind, count, [*buffers, pa.py_buffer(b"".join(values))])
        children = [_array(list(itertools.chain(*values)), kind.value_type)]
        return pa.Array.from_buffers(kind, count, buffers, children=children)
    known = np.array([value is not None for value in values], dtype=bool)
    numbers = np.array(
        [0 if value is None else value for value in values],
        dtype=np.int64 if pa.types.is_integer(kind) else np.float64,
    )
    bitmap = None if known.all() else pa.py_buffer(np.packbits(known, bitorder="little"))
    return pa.Array.from_buffers(kind, count, [bitmap, pa.py_buffer(numbers)])


def _parts(folder: Path) -> list[tuple[int, Path]]:
    return sorted((int(p.stem.split("-")[1]), p) for p in folder.glob("part-*.parquet"))


# ---------------------------------------------------------------- reading


def find_runs(root: Path | str) -> Iterator[Path]:
    """Yield the run folders under `root`, in order of path; `root` may be one run's folder."""
    root = Path(root)
    if (root / "manifest.json").is_file():
        yield root
        return
    for manifest in sorted(root.glob("*/*/*/manifest.json")):
        yield manifest.parent


def read_manifest(run_dir: Path | str) -> dict[str, Any]:
    """Read a run's manifest.

    Raises:
        RecordsError: if it is missing, is not JSON, or has an unknown schema version.
    """
    path = Path(run_dir) / "manifest.json"
    try:
        manifest = json.loads(path.read_text())
    except FileNotFoundError:
        raise RecordsError(f"{run_dir} holds no run: manifest.json is missing") from None
    except json.JSONDecodeError as error:
        raise RecordsError(f"{path} is damaged: {error}") from None
    check_version(manifest, path)
    return manifest


def check_version(document: Mapping[str, Any], path: Path) -> None:
    """Refuse a document of an unknown schema version, naming the file and the versions."""
    version = document.get("schema_version")
    if version not in READABLE_VERSIONS:
        readable = " and ".join(map(str, READABLE_VERSIONS))
        raise RecordsError(
            f"{path} has schema version {version}; this version of Kappa reads {readable}"
        )


def read_config(run_dir: Path | str) -> dict[str, Any]:
    """Read a run's resolved configuration as plain dicts and lists.

    Raises:
        RecordsError: if it is missing.
    """
    import yaml

    try:
        return yaml.safe_load((Path(run_dir) / "config.yaml").read_text())
    except FileNotFoundError:
        raise RecordsError(f"{run_dir} holds no run: config.yaml is missing") from None


def read_table(run_dir: Path | str, table: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read one of a run's tables ("steps", "evals", "spectra") in order of its parts.

    Args:
        columns: the columns to read, in this order; all by default. A column that the run's
            schema version lacks is null.
    Raises:
        RecordsError: if the run's schema version is unknown or a part is damaged.
    """
    read_manifest(run_dir)
    names = TABLES[table].names if columns is None else columns
    schema = pa.schema([TABLES[table].field(name) for name in names])
    parts = []
    for _, path in _parts(Path(run_dir) / table):
        try:
            parts.append(_read_part(path, schema))
        except (pa.ArrowException, OSError) as error:
            raise RecordsError(f"{path} is damaged: {error}") from None
    return pa.concat_tables(parts) if parts else schema.empty_table()


def _read_part(path: Path, schema: pa.Schema) -> pa.Table:
    # `pq.read_table` would set up a scan of a whole data set for each of these small files.
    with pq.ParquetFile(path) as file:
        there = [name for name in schema.names if name in file.schema_arrow.names]
        part = file.read(columns=there, use_threads=False)
    columns = [
        part[field.name].cast(field.type)
        if field.name in there
        else pa.nulls(len(part), field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


# ---------------------------------------------------------------- spectra


def spectrum_row(
    step: int,
    name: str,
    kind: str,
    eigenvalues: Iterable[float],
    resolution: float,
    root_residual: float,
    fallbacks: int,
    staleness: int = 0,
) -> tuple:
    """A row of the `spectra` table, with its two summaries.

    condition_number: largest / smallest eigenvalue above the resolution; nan if there is none.
    effective_rank: exp of the entropy of the eigenvalues as shares of their sum
    [Roy & Vetterli 2007], over the same eigenvalues.
    """
    eigenvalues = [float(value) for value in eigenvalues]
    kept = [value for value in eigenvalues if value > max(resolution, 0.0)]
    condition, rank = math.nan, 0.0
    if kept and all(map(math.isfinite, kept)):
        condition = max(kept) / min(kept)
        total = math.fsum(kept)
        rank = math.exp(-math.fsum(v / total * math.log(v / total) for v in kept))
    summaries = (condition, rank, root_residual, fallbacks, staleness)
    return (step, name, kind, eigenvalues, resolution, *summaries)
