"""Tiny synthetic records, written as the runner writes them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from runners.records import RecordWriter, spectrum_row, write_json, write_manifest

HARDWARE = {"cpu": "a processor", "cores": 2, "memory_gib": 8.0, "gpu": None, "fingerprint": "f0"}


def write_run(root: Path, task: str, optimizer: str, run_id: str, tables=None, **manifest) -> Path:
    """Write one run: `tables` maps a table's name to its rows."""
    run_dir = Path(root) / task / optimizer / run_id
    run_dir.mkdir(parents=True)
    (run_dir / "config.yaml").write_text("optimizer:\n  lr: 0.1\n  betas: [0.9, 0.999]\nseed: 0\n")
    writer = RecordWriter(run_dir)
    for table, rows in (tables or {}).items():
        for row in rows:
            writer.add(table, row)
    writer.flush()
    defaults = {
        "run_id": run_id, "task": task, "optimizer": optimizer, "status": "finished", "seed": 0,
        "scale": "smoke", "precision": "float64", "device": "cpu", "timing": "exclusive",
        "num_threads": 1, "hardware": HARDWARE, "packages": {"torch": "2.13.0"},
        "commit": "0123456789abcdef", "dirty": False, "steps_per_epoch": 1, "task_facts": {},
    }  # fmt: skip
    write_manifest(run_dir, {**defaults, **manifest})
    return run_dir


def write_experiment(root: Path, name: str, final, choice=(), trials=(), status="finished", **more):
    """Write an experiment's index; `final` holds (case, method, seed, task, optimizer, status)."""
    entries = [
        {
            "case": case, "method": method, "values": {"optimizer.lr": 0.1}, "seed": seed,
            "task": task, "optimizer": optimizer, "status": state,
            "run_id": run_id_of(case, method, seed),
        }
        for case, method, seed, task, optimizer, state in final
    ]  # fmt: skip
    path = Path(root) / "experiments" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "schema_version": 1, "name": name, "command": f"python run.py experiment={name}",
        "rule": "the least mean loss on instances 100-102", "status": status,
        "trials": list(trials), "choice": list(choice), "final": entries, **more,
    }  # fmt: skip
    write_json(path, document)
    return path


def run_id_of(case: str, method: str, seed: int) -> str:
    return f"{case}-{method}-{seed}"


def choice_of(case: str, method: str, at_edge: bool = False) -> dict:
    values = {"optimizer.lr": 0.1}
    return {
        "case": case, "method": method, "values": values, "score": 0.5, "num_trials": 9,
        "at_edge": at_edge,
    }  # fmt: skip


NUM_STEPS = 40
OPTIMUM = 0.25


def convex_losses(method: str, seed: int) -> list[float]:
    """Losses that fall to the optimum at a rate of the method's, shifted by the instance."""
    rate = {"sgd": 0.1, "diag": 0.2, "full_window": 5.0}[method]
    return [OPTIMUM + seed + math.exp(-rate * step) for step in range(NUM_STEPS)]


def write_fig2(root: Path, name: str = "ggt_fig2", cases=("logistic", "barrier"), optimum=True):
    """Three methods on three instances; SGD diverges on the last instance of the last case."""
    final, choice = [], []
    for case in cases:
        for method in ("sgd", "diag", "full_window"):
            choice.append(choice_of(case, method, at_edge=method == "diag"))
            for seed in (0, 1, 2):
                losses, status = convex_losses(method, seed), "finished"
                if (case, method, seed) == (cases[-1], "sgd", 2):
                    losses, status = [*losses[:4], math.nan], "diverged"
                steps = [(i, v, 0.1, 1.0, 0.001 * i, None) for i, v in enumerate(losses)]
                facts = {"optimum": OPTIMUM + seed} if optimum else {}
                write_run(
                    root, case, method, run_id_of(case, method, seed), {"steps": steps},
                    seed=seed, status=status, task_facts=facts,
                )  # fmt: skip
                final.append((case, method, seed, case, method, status))
    return write_experiment(root, name, final, choice)


def write_ptb(root: Path, **manifest):
    """SGD and GGT on three seeds, 40 steps of 10 an epoch, spectra of GGT's window."""
    final, choice = [], []
    for method, rate in (("sgd", 0.05), ("ggt", 0.2)):
        choice.append(choice_of("ptb", method))
        for seed in (0, 1, 2):
            losses = [1.0 + 0.01 * seed + 3 * math.exp(-rate * step) for step in range(NUM_STEPS)]
            steps = [(i, v, 0.1, 1.0, 0.5 * (i + 1), None) for i, v in enumerate(losses)]
            evals = [
                (i, i / 10, "valid", "perplexity", math.exp(losses[min(i, NUM_STEPS - 1)]), 0.5 * i)
                for i in range(0, NUM_STEPS + 1, 10)
            ]
            evals += [(0, 0.0, "valid", "loss", 4.0, 0.0), (0, 0.0, "test", "perplexity", 9.0, 0.0)]
            spectra = [
                spectrum_row(i, "window", "gram", [1e-9, 1e-2, 0.1, 10.0 + seed], 1e-5, 1e-7, 0)
                for i in range(0, NUM_STEPS, 2)
            ]
            tables = {"steps": steps, "evals": evals, "spectra": spectra if method == "ggt" else []}
            write_run(
                root, "ptb_lstm", method, run_id_of("ptb", method, seed), tables,
                **{"seed": seed, "steps_per_epoch": 10, "precision": "float32", **manifest},
            )  # fmt: skip
            final.append(("ptb", method, seed, "ptb_lstm", method, "finished"))
    return write_experiment(root, "ggt_fig3_bottom", final, choice)


def write_tasks(root: Path, tasks=("first", "second")):
    """One run a task, 100 steps of 50 an epoch, evaluated three times."""
    final = []
    for task in tasks:
        target = {"metric": "accuracy", "split": "test", "direction": "max", "value": 0.9}
        steps = [(i, 2.0 / (i + 1), 0.1, 1.0, 0.1 * i, None) for i in range(100)]
        evals = [(i, i / 50, "test", "accuracy", 0.1 + i / 200, 0.1 * i) for i in (0, 50, 100)]
        evals += [(0, 0.0, "train", "accuracy", 0.0, 0.0), (0, 0.0, "test", "loss", 3.0, 0.0)]
        write_run(
            root, task, "adam", run_id_of(task, "given", 0), {"steps": steps, "evals": evals},
            target=target, steps_per_epoch=50, task_facts={"trivial": 0.1}, num_parameters=5,
            data="some", scale="small", budget="full",
            parameter_groups=[{"names": ["w"], "options": {"lr": 0.01}}],
        )  # fmt: skip
        final.append((task, "given", 0, task, "adam", "finished"))
    return write_experiment(root, "tasks_small", final)


class Maker:
    """What tests write records with."""

    run = staticmethod(write_run)
    experiment = staticmethod(write_experiment)
    fig2 = staticmethod(write_fig2)
    ptb = staticmethod(write_ptb)
    tasks = staticmethod(write_tasks)
    run_id = staticmethod(run_id_of)
    num_steps = NUM_STEPS
    optimum = OPTIMUM


@pytest.fixture
def make():
    return Maker
