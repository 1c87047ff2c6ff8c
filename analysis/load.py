"""The experiments that figures are drawn from, and where their records lie."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.experiments import DRAWN_STATUSES, PLANS, Experiment, MissingRun
from analysis.frames import (
    MissingRecordsError,
    load_evals,
    load_runs,
    load_spectra,
    load_steps,
    runs_root,
)
from runners import measurements, records
from runners.records import RecordsError

__all__ = [
    "DRAWN_STATUSES", "PLANS", "RESULTS", "Experiment", "MissingRecordsError", "MissingRun",
    "Records", "load_evals", "load_runs", "load_spectra", "load_steps", "runs_root",
]  # fmt: skip

RESULTS = Path(__file__).resolve().parents[1] / "results"


class Records:
    """Where figures read from: the user's runs first, then the shipped results.

    Args:
        roots: folders with the layout of runs_dir, in order of preference; by default
            `runs_root()` and the `results` that are shipped. Folders may be missing.
    """

    def __init__(self, roots: Sequence[Path | str] | None = None):
        self.roots = [Path(root) for root in ((runs_root(), RESULTS) if roots is None else roots)]
        # By name: the index file, when it was written, and the experiment read from it.
        self._read: dict[str, tuple[Path, int, Experiment]] = {}

    def experiment(self, name: str) -> Experiment:
        """Return the experiment from the first root where it is finished; roots never mix.

        What was read of it is kept, and read again when its index has changed.

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
            written = path.stat().st_mtime_ns
            if self._read.get(name, ())[:2] == (path, written):
                return self._read[name][2]
            document = _read_index(path)
            if document.get("status") == "finished":
                experiment = _drawable(Experiment(root, document))
                self._read[name] = (path, written, experiment)
                return experiment
            command = document.get("command") or command
            begun.append(str(root))
        if begun:
            places = ", ".join(begun)
            raise MissingRecordsError(
                f"experiment {name} is unfinished in {places}; continue it with: {command}"
            )
        raise MissingRecordsError(f"no records of experiment {name}; make them with: {command}")

    def measurement(self, name: str) -> pd.DataFrame:
        """Return a measurement's rows; the facts of its making are the frame's `attrs`.

        Raises:
            MissingRecordsError, RecordsError: as for `measured`.
        """
        document = self.measured(name)
        frame = pd.DataFrame(document["rows"])
        frame.attrs.update({key: value for key, value in document.items() if key != "rows"})
        return frame

    def measured(self, name: str) -> dict[str, Any]:
        """Return a measurement as it was written, from the first root that has it.

        Returns:
            The facts of its making (kind, command, commit, hardware, ...) and `rows`, a mapping
            each, where a null and a number that is not finite are still told apart.
        Raises:
            MissingRecordsError: if no root has it; names the command that makes it.
            RecordsError: if its file is damaged or has an unknown schema version.
        """
        for root in self.roots:
            path = measurements.path_of(root, name)
            if path.is_file():
                return measurements.read(path)
        raise MissingRecordsError(
            f"no records of measurement {name}; make them with: python -m scripts.measure {name}"
        )


def _drawable(experiment: Experiment) -> Experiment:
    if len(experiment.missing) == len(experiment._ended()) > 0:
        raise MissingRecordsError(
            f"experiment {experiment.name} in {experiment.root} lacks all its final runs; "
            f"make them with: {experiment.command}"
        )
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
