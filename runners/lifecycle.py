"""A run from its identity to its end: skip, lock, resume, train, record."""

from __future__ import annotations

import contextlib
import shutil
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from runners import checkpoint, environment, records
from runners.averaging import check_average
from runners.clock import Clock
from runners.job import Job
from runners.keeper import Keeper
from runners.layers import require_layers
from runners.locks import Busy, run_lock, timing_lock
from runners.messages import first_line
from runners.preflight import measure
from runners.progress import say
from runners.settings import Outcome, Settings
from runners.state import Run
from runners.train import check_samples, train
from tasks.data.store import DataError


def run_job(job: Job, wait: bool = False) -> Outcome:
    """Make a job's run, or find that it is there already.

    Args:
        wait: wait for another process that is making the same run, instead of saying "busy".
    Raises:
        ValueError, DataError: a user's mistake found while setting up; nothing is left behind.
        OSError: if the place of the records cannot be written.
    """
    place, run_id = job.place, job.run_id
    run_dir = place.run_dir(run_id)
    if is_done(run_dir, job.settings):
        return skipped(job, run_id, run_dir)
    try:
        with run_lock(place.runs_dir, run_id, wait=wait):
            if is_done(run_dir, job.settings):  # made while the lock was waited for
                return skipped(job, run_id, run_dir)
            with timing_lock(job.settings.timing == "exclusive", on_wait=say):
                return make_run(job, run_id, run_dir)
    except Busy as busy:
        return outcome(job, "busy", run_id, run_dir, reason=str(busy))


def is_done(run_dir: Path, settings: Settings) -> bool:
    """Whether the run is complete and as good as the one asked for."""
    if settings.force or not (run_dir / "manifest.json").exists():
        return False
    manifest = records.read_manifest(run_dir)
    alone = settings.timing != "exclusive" or manifest["timing"] == "exclusive"
    return manifest["status"] in ("finished", "diverged") and alone


def outcome(job: Job, status: str, run_id: str, run_dir: Path, **more: Any) -> Outcome:
    return Outcome(
        status=status,
        task=job.place.task,
        optimizer=job.place.optimizer,
        run_id=run_id,
        run_dir=str(run_dir),
        **more,
    )


def skipped(job: Job, run_id: str, run_dir: Path) -> Outcome:
    manifest = records.read_manifest(run_dir)
    best = manifest["best"]
    return outcome(
        job,
        "skipped",
        run_id,
        run_dir,
        reason="there already (force=true makes it again)",
        metric=f"{best['split']} {best['metric']}",
        value=best["value"],
        last=best["last"],
        record_status=manifest["status"],
    )


def make_run(job: Job, run_id: str, run_dir: Path) -> Outcome:
    """Set up, train and record; the caller holds the run's lock."""
    settings, task = job.settings, job.task
    check_average(task, settings.max_steps)
    torch.set_num_threads(settings.num_threads)
    task.setup(settings.device, settings.dtype)
    cost = None if job.quiet else measure(task, job.make_optimizer, settings)
    saved = checkpoint.load(run_dir) if goes_on(run_dir, settings) else None
    run = build_run(job, saved)
    if cost is not None:  # said only now: a mistake has had its one line
        say(cost.line())
    if saved is None:
        clear(run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    run.writer = records.RecordWriter(run_dir, num_parts=saved["num_parts"] if saved else 0)
    keeper = Keeper(job, run, run_id, run_dir)
    status, reason = keeper.close(*keep_and_train(keeper))
    return outcome(
        job,
        status,
        run_id,
        run_dir,
        reason=reason,
        metric=f"{task.target.split} {task.target.metric}",
        value=run.best,
        last=run.last,
        record_status=status,
    )


def keep_and_train(keeper: Keeper) -> tuple[str, str]:
    """Train with records being kept; returns the status and, where it needs one, a reason."""
    run = keeper.run
    try:
        keeper.begin()
        with keeper.stops_on_signals():
            status = train(run, keeper)
        keeper.end(status)
    except OSError as error:
        return "failed", keeper.storage_failed(error)
    except DataError as error:  # in a set too large to be read as a whole beforehand
        with contextlib.suppress(OSError):
            keeper.flush()
        return "failed", first_line(error)
    except Exception as error:  # whatever a task or an optimizer raises is this run's outcome
        traceback.print_exc()
        with contextlib.suppress(OSError):
            keeper.flush()  # the rows that led there; resuming takes back what is made again
        return "failed", f"{type(error).__name__}: {error}".splitlines()[0]
    if status == "interrupted":
        return status, f"stopped at step {run.step}; the same command goes on from there"
    if status == "diverged":
        what = "loss" if run.step < run.settings.max_steps else "last evaluation"
        return status, f"the {what} was no finite number at step {run.step}"
    return status, ""


def goes_on(run_dir: Path, settings: Settings) -> bool:
    """Whether a checkpoint of this run may be continued.

    Not where a finished run is to be made again, and not where seconds measured under other
    conditions would enter a run that is to be timed alone.
    """
    if not (run_dir / "manifest.json").exists():
        return False
    manifest = records.read_manifest(run_dir)
    if manifest["status"] in ("finished", "diverged"):
        return False
    same = manifest["timing"], manifest["hardware"]["fingerprint"]
    return settings.timing != "exclusive" or same == (
        "exclusive",
        environment.hardware()["fingerprint"],
    )


def clear(run_dir: Path) -> None:
    """Delete a run's folder; a kill in between leaves none that says it is finished."""
    (run_dir / "manifest.json").unlink(missing_ok=True)
    shutil.rmtree(run_dir, ignore_errors=True)


def build_run(job: Job, saved: Mapping[str, Any] | None) -> Run:
    """Build the run, at its beginning or where its checkpoint left it."""
    settings, task = job.settings, job.task
    environment.reset_peak_memory(torch.cuda if settings.device.startswith("cuda") else None)
    model = task.build_model().to(settings.device, settings.dtype)
    checkpoint.seed_rng(settings.seed)  # an optimizer may draw as soon as it is made
    optimizer = job.make_optimizer(model)
    require_layers(optimizer)
    check_samples(task, optimizer)
    synchronize = torch.cuda.synchronize if settings.device.startswith("cuda") else None
    run = Run(
        task=task,
        model=model,
        optimizer=optimizer,
        schedule=job.schedule,
        settings=settings,
        clock=Clock(synchronize=synchronize),
        probe=job.probe,
    )
    job.schedule.attach(optimizer, settings.max_steps, run.steps_per_epoch)
    if job.probe is not None:
        job.probe.attach(run.parameters)
    if saved:
        run.load_state_dict(saved)
    return run
