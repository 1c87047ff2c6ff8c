"""Runs and measurements as the ledger reads them: each file once, tables as plain arrays."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.frames import MissingRecordsError
from analysis.ledger.samples import Evidence, NotTested
from analysis.load import Experiment, Records
from runners import records as schema
from runners.load import MOST_OTHER_CORES, recorded_cores


class Run:
    """One final run: its flat manifest, and its tables as arrays.

    Args:
        facts: the flat manifest with `case`, `method`, `seed`, `run_id` and `run_dir`.
    """

    def __init__(self, facts: Mapping[str, Any]):
        self.facts = facts
        self.seed = int(facts["seed"])
        self.diverged = facts["status"] == "diverged"
        self._folder = Path(facts["run_dir"])

    @cached_property
    def steps(self) -> dict[str, np.ndarray]:
        """`step`, `loss` and `train_seconds` of every step."""
        return self._arrays("steps", ["step", "loss", "train_seconds"])

    @cached_property
    def spectra(self) -> pd.DataFrame:
        """`step`, `name`, `kind` and `condition_number` of every spectrum."""
        columns = ["step", "name", "kind", "condition_number"]
        return schema.read_table(self._folder, "spectra", columns).to_pandas()

    @cached_property
    def _evals(self) -> pd.DataFrame:
        return schema.read_table(self._folder, "evals").to_pandas()

    def evals(self, metric: str, split: str) -> pd.DataFrame:
        """Evaluations of one metric on one split, in order.

        Raises:
            NotTested: if there are none; names those there are.
        """
        frame = self._evals
        chosen = frame[(frame["metric"] == metric) & (frame["split"] == split)]
        if chosen.empty:
            known = sorted(
                {f"{s} {m}" for s, m in zip(frame["split"], frame["metric"], strict=True)}
            )
            raise NotTested(
                f"run {self.facts['run_id']} has no {split} {metric}, only {', '.join(known)}"
            )
        return chosen

    @property
    def budget(self) -> int:
        """Steps that the run was to make."""
        return int(self.facts.get("max_steps") or self.facts["steps_done"])

    def _arrays(self, table: str, columns: list[str]) -> dict[str, np.ndarray]:
        rows = schema.read_table(self._folder, table, columns)
        return {name: rows.column(name).to_numpy() for name in columns}


class Sources:
    """Reads the records of quantities, each file once.

    Args:
        records: where experiments and measurements are looked for.
    """

    def __init__(self, records: Records):
        self.records = records
        self._runs: dict[str, dict[tuple[str, str], list[Run]]] = {}
        self._measured: dict[str, dict[str, Any]] = {}

    def measurement(self, name: str) -> dict[str, Any]:
        """A measurement as it was written: the facts of its making, and its `rows`."""
        if name not in self._measured:
            self._measured[name] = self.records.measured(name)
        return self._measured[name]

    def runs(self, experiment: str, case: str, method: str) -> tuple[list[Run], Evidence]:
        """Final runs of one method in one case, in order of seeds, and their evidence.

        Raises:
            MissingRecordsError: if there are none, for want of records.
            RecordsError: if versions are mixed.
            NotTested: if the experiment has no such case or method, or its runs have all failed.
        """
        found = self.records.experiment(experiment)
        if experiment not in self._runs:
            grouped: dict[tuple[str, str], list[Run]] = {}
            for row in found.runs().to_dict("records"):
                # In a frame of several tasks, what a run's own manifest lacks is nan.
                facts = {key: value for key, value in row.items() if value == value}
                grouped.setdefault((row["case"], row["method"]), []).append(Run(facts))
            self._runs[experiment] = grouped
        runs = sorted(self._runs[experiment].get((case, method), ()), key=lambda run: run.seed)
        final = found.final
        planned = final[(final["case"] == case) & (final["method"] == method)]
        if planned.empty:
            raise NotTested(f"experiment {experiment} has no method {method} in case {case}")
        if not runs:
            absent = [m for m in found.missing if (m.case, m.method) == (case, method)]
            if absent:
                raise MissingRecordsError(
                    f"runs of {method} in {experiment} are absent; make them with: {found.command}"
                )
            raise NotTested(f"all runs of {method} in case {case} of {experiment} have failed")
        return runs, _evidence(found, case, method, runs)


def _evidence(experiment: Experiment, case: str, method: str, runs: list[Run]) -> Evidence:
    where = f"{method} ({experiment.name}, {case})"
    remarks = set()
    final = experiment.final
    for entry in final[(final["case"] == case) & (final["method"] == method)].to_dict("records"):
        if entry["status"] == "diverged":
            remarks.add(f"{where}: seed {entry['seed']} diverged")
        elif entry["status"] != "finished":
            remarks.add(f"{where}: seed {entry['seed']} {entry['status']}")
    remarks |= {
        f"{where}: the run of seed {gone.seed} is absent"
        for gone in experiment.missing
        if (gone.case, gone.method) == (case, method)
    }
    chosen = experiment.choice
    chosen = chosen[(chosen["case"] == case) & (chosen["method"] == method)]
    if chosen["at_edge"].fillna(False).astype(bool).any():
        remarks.add(f"{where}: chosen at the edge of its grid")
    facts = [run.facts for run in runs]
    return Evidence(
        runs=frozenset(f["run_id"] for f in facts),
        experiments=frozenset([experiment.name]),
        scales=frozenset(str(f["scale"]) for f in facts if f.get("scale")),
        data=frozenset(str(f.get("data") or f["task"]) for f in facts),
        stand_ins=frozenset([experiment.stand_in] if experiment.stand_in else []),
        commits=frozenset(str(f["commit"])[:10] for f in facts if f.get("commit")),
        versions=frozenset(v for f in facts for v in _versions(f)),
        rules=frozenset([(experiment.name, experiment.rule)] if experiment.rule else []),
        remarks=frozenset(remarks),
        seconds=min((float(f.get("train_seconds") or np.inf) for f in facts), default=np.inf),
    )


def _versions(facts: Mapping[str, Any]) -> list[tuple]:
    """What of a run must agree with every other run that it is put beside."""
    of = {"task": facts["task"], "optimizer": facts["optimizer"], "runner": "the training loop"}
    run = f"run {facts['run_id']}"
    return [
        ("the numerics version", of[part], facts[f"numerics_versions.{part}"], run)
        for part in of
        if facts.get(f"numerics_versions.{part}") is not None
    ]


def seconds_of(facts: Mapping[str, Any], what: str, group: str) -> Evidence:
    """The evidence of something in seconds: its clock, and whether it had the machine to itself.

    Args:
        facts: a flat manifest, or the flat facts of a measurement.
        what: what was timed, for messages.
        group: what it is part of, for the remark that nothing is known.
    """
    # What two times must share to be compared.
    clock = (facts.get("timing"), facts.get("hardware.fingerprint"), facts.get("num_threads"))
    others = recorded_cores(facts)
    disturbed, remarks = [], []
    if others is None:
        remarks = [f"{group}: what else the machine did was not recorded with these seconds"]
    elif others > MOST_OTHER_CORES:
        disturbed = [f"other processes used {others:.2g} cores beside {what}"]
    return Evidence(
        clocks=frozenset([clock]), disturbed=frozenset(disturbed), remarks=frozenset(remarks)
    )
