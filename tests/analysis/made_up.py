"""Tiny made-up records of any experiment and measurement, for tests of the figures drawn from them.

The runs are those that the experiment's YAML asks for: its cases, methods and hyperparameters, with
the facts and the metrics of the task's shipped runs; only their numbers are made up.
"""

from __future__ import annotations

import json
import math
import shutil
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from analysis.load import RESULTS, load_evals
from runners import measurements, records
from runners.plan import Plan, Request, make_plan, points
from runners.records import RecordWriter, spectrum_row

CONF = Path(__file__).resolve().parents[2] / "conf"
NUM_STEPS, STEPS_PER_EPOCH = 60, 20
DIVERGED_AT = 4
# Of a task that has no shipped run yet: every metric that a task may have.
ANY_METRICS = [
    (metric, split)
    for metric in ("loss", "accuracy", "perplexity", "suboptimality", "nll", "bleu", "excess")
    for split in ("train", "valid", "val", "test")
]
GROWING = ("accuracy", "accuracy_top5", "bleu")


class MadeUp:
    """Writes records into `root`, from tables that are made once a session.

    Args:
        cache: a folder for those tables.
        root: of the records.
    """

    def __init__(self, cache: Path, root: Path):
        self.cache, self.root = cache, root

    def experiment(
        self,
        name: str,
        num_seeds: int = 2,
        diverging: str | None = None,
        missing: str | None = None,
    ) -> Plan:
        """Write an experiment as if it were finished.

        Args:
            num_seeds: of the final runs, at most as many as the YAML has.
            diverging: a method all of whose runs diverge.
            missing: a method whose last run of the first case has no records.
        """
        document = yaml.safe_load((CONF / "experiment" / f"{name}.yaml").read_text())
        plan = make_plan(document, None, {})
        choice = [
            _choice(case, method, points(plan.grids[method])[0], bool(plan.search_seeds))
            for case in plan.cases
            for method in plan.methods
        ]
        seeds = plan.final_seeds[:num_seeds]
        final = []
        for request in plan.finals(choice):
            if request.seed not in seeds:
                continue
            status = "diverged" if request.method == diverging else "finished"
            place = (request.case, request.method, request.seed)
            absent = place == (next(iter(plan.cases)), missing, seeds[-1])
            final.append(self._run(name, plan, request, status, absent))
        records.write_json(self._made(self.root / "experiments") / f"{name}.json", {
            "schema_version": records.SCHEMA_VERSION, "name": name, "status": "finished",
            "command": f"python run.py experiment={name}", "rule": "least made-up loss",
            "trials": [], "choice": choice, "final": final, **plan.facts,
        })  # fmt: skip
        return plan

    def measurement(self, name: str) -> None:
        """Write a measurement: the shipped one, or the rows that its own function computes.

        Raises:
            LookupError: for timings that are not shipped.
        """
        shipped = measurements.path_of(RESULTS, name)
        if shipped.is_file():
            shutil.copy(shipped, self._made(self.root / "measurements"))
            return
        kept = measurements.path_of(self.cache, name)
        if not kept.is_file():
            # Imported where it is needed: it brings torch and every measurement along.
            from scripts.measure import all_measurements, measure

            made = all_measurements()[name]
            if made.kind != "exact":
                raise LookupError(f"the {made.kind} measurement {name} is not shipped yet")
            rows, facts = measure(made)
            measurements.write(self.cache, name, "exact", rows, {**facts, "command": "made up"})
        shutil.copy(kept, self._made(self.root / "measurements"))

    def _run(
        self, name: str, plan: Plan, request: Request, status: str, absent: bool
    ) -> dict[str, Any]:
        """Write one run; returns its entry in the index."""
        task = str(request.overrides.get("task"))
        optimizer = str(request.overrides.get("optimizer"))
        number = list(plan.methods).index(request.method)
        run_id = f"{name}-{request.case}-{request.method}-{request.seed}"
        run_dir = self.root / task / optimizer / run_id
        if not absent:
            tables = self._tables(task, optimizer, number % 4, request.seed % 3, status)
            shutil.copytree(tables, run_dir)
            facts = self._facts(task)
            settings = {
                key: request.overrides[key]
                for key in ("scale", "precision", "budget", "timing", "num_threads")
                if key in request.overrides
            }
            lr = float(request.overrides.get("optimizer.lr", 0.1))
            options = {"lr": lr, "momentum": float(request.overrides.get("optimizer.momentum", 0))}
            group = {"names": ["w"], "num_parameters": 1, "optimizer": "x", "options": options}
            manifest = {
                **facts, **settings, "task": task, "optimizer": optimizer, "run_id": run_id,
                "status": status, "seed": request.seed, "steps_per_epoch": STEPS_PER_EPOCH,
                "steps_done": NUM_STEPS, "max_steps": NUM_STEPS, "experiment": name,
                "parameter_groups": [group], "schema_version": records.SCHEMA_VERSION,
            }  # fmt: skip
            (run_dir / "manifest.json").write_text(json.dumps(manifest))
        return {
            "case": request.case, "method": request.method, "values": request.values,
            "seed": request.seed, "task": task, "optimizer": optimizer, "run_id": run_id,
            "status": status, "reason": "",
        }  # fmt: skip

    def _facts(self, task: str) -> dict[str, Any]:
        """A shipped run's manifest of the task, or another task's with no facts."""
        own = self._shipped.get(task)
        manifest = records.read_manifest(own or next(iter(self._shipped.values())))
        facts = manifest["task_facts"] if own else {}
        return {**manifest, "task_facts": {"optimum": 0.25, "trivial": 0.1, **facts}}

    def _tables(self, task: str, optimizer: str, rate: int, seed: int, status: str) -> Path:
        folder = self.cache / "tables" / f"{task}-{optimizer}-{rate}-{seed}-{status}"
        if not folder.is_dir():
            writer = RecordWriter(folder)
            losses = [
                1 + 0.05 * seed + 3 * math.exp(-(rate + 1) * s / 30) for s in range(NUM_STEPS)
            ]
            if status == "diverged":
                losses = [*losses[:DIVERGED_AT], math.nan]
            for step, loss in enumerate(losses):
                writer.add("steps", (step, loss, 0.1, 1.0, 0.01 * (rate + 1) * (step + 1), None))
            for step in range(0, len(losses) + 1, 10):
                loss = losses[min(step, NUM_STEPS - 1)]
                for metric, split in self._metrics(task):
                    value = 1 / loss if metric in GROWING else loss
                    place = (step, step / STEPS_PER_EPOCH, split, metric, value)
                    writer.add("evals", (*place, 0.01 * (rate + 1) * step))
            kind = ("window", "gram") if "ggt" in optimizer else ("weight[0].mode0", "factor")
            for step in range(0, len(losses), 2):
                values = [1e-9, 1e-2, 0.1, 10.0 + seed + step / 10]
                writer.add("spectra", spectrum_row(step, *kind, values, 1e-5, 1e-7, 0))
            writer.flush()
        return folder

    def _metrics(self, task: str) -> list[tuple[str, str]]:
        if task not in self._shipped:
            return ANY_METRICS
        evals = load_evals(self._shipped[task])
        return sorted(set(zip(evals["metric"], evals["split"], strict=True)))

    @cached_property
    def _shipped(self) -> dict[str, Path]:
        """One shipped run of each task."""
        return {run_dir.parents[1].name: run_dir for run_dir in records.find_runs(RESULTS)}

    @staticmethod
    def _made(folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def _choice(case: str, method: str, values: dict[str, Any], searched: bool) -> dict[str, Any]:
    return {
        "case": case, "method": method, "values": values, "score": 1.0 if searched else None,
        "num_trials": 4 if searched else 0, "at_edge": False,
    }  # fmt: skip
