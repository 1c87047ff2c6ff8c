"""Refuses to put together runs whose numbers were made by different versions of the code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runners.records import RecordsError

# What every run of a case shares, whatever the method: its data and losses, and the loop.
_SHARED = ("numerics_versions.task", "numerics_versions.runner")


def check_alike(rows: Sequence[Mapping[str, Any]], name: str, command: str) -> None:
    """Check that runs which are averaged or compared are of one version each.

    Within one method of a case: the schema version and every numerics version. Between the methods
    of a case: the numerics versions of the task and of the loop.

    Args:
        rows: flat manifests with `case`, `method` and `run_id`.
        name: of the experiment, for the message.
        command: makes the experiment's runs.
    Raises:
        RecordsError: if versions are mixed; names two runs and their versions.
    """
    first: dict[tuple[str, ...], tuple[str, Any]] = {}
    for row in rows:
        own = [
            key for key in row if key == "schema_version" or key.startswith("numerics_versions.")
        ]
        places = [(row["case"], row["method"], key) for key in own]
        places += [(row["case"], key) for key in _SHARED]
        for place in places:
            version = row.get(place[-1])
            run_id, expected = first.setdefault(place, (row["run_id"], version))
            if version != expected:
                where = (
                    f"method {place[1]} of case {place[0]}"
                    if len(place) == 3
                    else f"case {place[0]}"
                )
                raise RecordsError(
                    f"experiment {name} mixes versions in {where}: {place[-1]} is {expected} in "
                    f"run {run_id} and {version} in run {row['run_id']}; make all runs again with: "
                    f"{command} force=true"
                )
