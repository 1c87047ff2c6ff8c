"""One job from its identity to its last line: skip, lock, resume, train, record."""

from __future__ import annotations

import contextlib
import math
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from runners import checkpoint, environment, identity, records
from runners.clock import Clock
from runners.locks import Busy, run_lock, timing_lock
from runners.preflight import count_parameters, measure
from runners.progress import make_bar
from runners.settings import Outcome, Place, Settings
from runners.train import NUMERICS_VERSION, TRACKING_BLOCK, Run, train


@dataclass
class Job:
    """What run.py makes of a configuration.

    Attributes:
        task, schedule, probe, tracker: built, but nothing loaded or started yet.
        make_optimizer: model -> optimizer.
        optimizer_version: the optimizer's `numerics_version`.
        config: the resolved configuration that can change numbers.
        describe_groups: (optimizer, model) -> the parameter groups as plain data.
        quiet: one of many jobs: no preflight, no bar, no last line.
    """

    task: Any
    make_optimizer: Callable[[torch.nn.Module], torch.optim.Optimizer]
    optimizer_version: int
    schedule: Any
    probe: Any
    tracker: Any
    settings: Settings
    place: Place
    config: dict[str, Any]
    describe_groups: Callable[[torch.optim.Optimizer, torch.nn.Module], list[dict]]
    quiet: bool = False

    @property
    def numerics_versions(self) -> dict[str, int]:
        return {
            "runner": NUMERICS_VERSION,
            "task": self.task.numerics_version,
            "optimizer": self.optimizer_version,
        }

    @property
    def run_id(self) -> str:
        return identity.run_id(self.config, self.task.data_hash(), self.numerics_versions)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run_job(job: Job) -> Outcome:
    """Make a job's run, or find that it is there already.

    Raises:
        ValueError, DataError: a user's mistake found while setting up; nothing is left behind.
    """
    place, run_id = job.place, job.run_id
    run_dir = place.run_dir(run_id)
    if is_done(run_dir, job.settings):
        return skipped(job, run_id, run_dir)
    try:
        with run_lock(place.runs_dir, run_id):
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
    torch.set_num_threads(settings.num_threads)
    task.setup(settings.device, settings.dtype)
    if not job.quiet:
        say(measure(task, job.make_optimizer, settings).line())
    saved = None if settings.force else checkpoint.load(run_dir)
    run = build_run(job, run_dir, saved)
    if saved is None and run_dir.exists():
        shutil.rmtree(run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    keeper = Keeper(job, run, run_id, run_dir)
    keeper.begin(resumed=saved is not None)
    reason = ""
    try:
        with keeper.stops_on_signals():
            status = train(run, keeper)
        keeper.end(status)
    except OSError as error:
        status, reason = "failed", keeper.storage_failed(error)
    except Exception as error:  # whatever a task or an optimizer raises is this run's outcome
        traceback.print_exc()
        status, reason = "failed", f"{type(error).__name__}: {error}".splitlines()[0]
    if status == "diverged":
        reason = f"the loss was no finite number at step {run.step}"
    elif status == "interrupted":
        reason = f"stopped at step {run.step}; the same command goes on from there"
    keeper.close(status, reason)
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


def build_run(job: Job, run_dir: Path, saved: Mapping[str, Any] | None) -> Run:
    """Build the run, at its beginning or where its checkpoint left it."""
    settings, task = job.settings, job.task
    model = task.build_model().to(settings.device, settings.dtype)
    optimizer = job.make_optimizer(model)
    synchronize = torch.cuda.synchronize if settings.device.startswith("cuda") else None
    run = Run(
        task=task,
        model=model,
        optimizer=optimizer,
        schedule=job.schedule,
        settings=settings,
        clock=Clock(synchronize=synchronize),
        writer=records.RecordWriter(run_dir, num_parts=saved["num_parts"] if saved else 0),
        probe=job.probe,
    )
    job.schedule.attach(optimizer, settings.max_steps, run.steps_per_epoch)
    if job.probe is not None:
        job.probe.attach(run.parameters)
    if saved:
        restore(run, saved)
    return run


def snapshot(run: Run, num_parts: int) -> dict[str, Any]:
    """Everything the run needs to go on bit for bit."""
    return {
        "step": run.step,
        "num_parts": num_parts,
        "model": run.model.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "schedule": run.schedule.state_dict(),
        "task": run.task.state_dict(),
        "probe": run.probe.state_dict() if run.probe is not None else {},
        "averaged": run.averaged.state_dict() if run.averaged is not None else {},
        "rng": checkpoint.rng_state(),
        "num_threads": torch.get_num_threads(),
        "train_seconds": run.clock.seconds,
        "watch": [run.best, run.best_step, run.last, run.evaluations_since_best],
    }


def restore(run: Run, saved: Mapping[str, Any]) -> None:
    """Put a run where `snapshot` found it."""
    torch.set_num_threads(saved["num_threads"])  # the number of threads changes sums
    run.step = saved["step"]
    run.model.load_state_dict(saved["model"])
    run.optimizer.load_state_dict(saved["optimizer"])
    run.schedule.load_state_dict(saved["schedule"])
    run.task.load_state_dict(saved["task"])
    if run.probe is not None:
        run.probe.load_state_dict(saved["probe"])
    if run.averaged is not None:
        run.averaged.load_state_dict(saved["averaged"])
    checkpoint.restore_rng(saved["rng"])
    run.clock.seconds = saved["train_seconds"]
    run.best, run.best_step, run.last, run.evaluations_since_best = saved["watch"]


class Keeper:
    """What surrounds the loop: checkpoints, manifest, tracking, progress, signals."""

    def __init__(self, job: Job, run: Run, run_id: str, run_dir: Path):
        self.job, self.run, self.run_id, self.run_dir = job, run, run_id, run_dir
        self.settings = job.settings
        self.timer = checkpoint.Timer(
            self.settings.checkpoint_seconds, self.settings.checkpoint_steps
        )
        self.bar = make_bar(self.settings.progress, job.quiet)
        self.stop_requested = False
        self.checkpoint_step = run.step
        self.started = perf_counter()
        self.manifest: dict[str, Any] = {}

    # -------- the loop's callbacks

    def after_step(self, run: Run, loss: float) -> bool:
        if run.step % TRACKING_BLOCK == 0:
            self.job.tracker.log(run.writer.unseen())
        self.bar.update(run.step, loss, self.metric)
        if self.stop_requested or (run.step < self.settings.max_steps and self.timer.due(run.step)):
            self.save()
        return self.stop_requested

    def after_evaluation(self, run: Run) -> None:
        self.job.tracker.log(run.writer.unseen())
        target = run.task.target
        if run.last is not None:
            self.metric = f"{target.split} {target.metric} {run.last:.4g}"

    # -------- begin, save, end

    def begin(self, resumed: bool) -> None:
        import yaml

        self.metric = ""
        config_text = yaml.safe_dump(self.job.config, sort_keys=False)
        records.write_atomically(self.run_dir / "config.yaml", lambda p: p.write_text(config_text))
        self.manifest = self.first_manifest()
        records.write_manifest(self.run_dir, self.manifest)
        place = self.job.place
        self.job.tracker.start(
            run_dir=self.run_dir,
            run_id=self.run_id,
            name=f"{place.task} {place.optimizer} {self.run_id}",
            config=self.job.config,
            group=place.experiment or place.sweep,
            tags=[place.task, place.optimizer, place.scale],
            resume_step=self.run.step,
        )
        if resumed and not self.job.quiet:
            say(f"going on from step {self.run.step:,}")
        label = f"{place.task} {place.optimizer}"
        self.bar.start(self.run.step, self.settings.max_steps, label)

    def first_manifest(self) -> dict[str, Any]:
        job, run, place, settings = self.job, self.run, self.job.place, self.settings
        target, (commit, dirty) = run.task.target, environment.commit()
        return {
            "run_id": self.run_id,
            "task": place.task,
            "optimizer": place.optimizer,
            "scale": place.scale,
            "budget": place.budget,
            "sweep": place.sweep,
            "experiment": place.experiment,
            # A process that is killed cannot say so: this stands until the end says otherwise.
            "status": "interrupted",
            "reason": "",
            "commit": commit,
            "dirty": dirty,
            "packages": environment.packages(),
            "hardware": environment.hardware(),
            "num_threads": torch.get_num_threads(),
            "concurrent_workers": settings.concurrent_workers,
            "timing": settings.timing,
            "precision": settings.precision,
            "device": settings.device,
            "seed": settings.seed,
            "seeds": {"run": settings.seed, "task": run.task.seed},
            "data": run.task.data,
            "data_hash": run.task.data_hash(),
            "numerics_versions": job.numerics_versions,
            "max_steps": settings.max_steps,
            "steps_per_epoch": run.steps_per_epoch,
            "num_parameters": count_parameters(run.model)[0],
            "parameter_groups": job.describe_groups(run.optimizer, run.model),
            "task_facts": run.task.facts(),
            "target": {
                "metric": target.metric,
                "split": target.split,
                "direction": target.direction,
                "value": target.value,
            },
            "started_at": now(),
            "wall_seconds": 0.0,
            **self.progress(),
        }

    def progress(self) -> dict[str, Any]:
        """What changes in the manifest as the run goes on."""
        from optimizers.telemetry import state_bytes

        run, target = self.run, self.run.task.target
        cuda = torch.cuda if self.settings.device.startswith("cuda") else None
        return {
            "steps_done": run.step,
            "train_seconds": run.clock.seconds,
            "peak_memory_bytes": environment.peak_memory_bytes(cuda),
            "optimizer_state_bytes": state_bytes(run.optimizer),
            "best": {
                "metric": target.metric,
                "split": target.split,
                "value": run.best,
                "step": run.best_step,
                "last": run.last,
            },
        }

    def save(self) -> None:
        """Write the rows so far and a checkpoint that vouches for them."""
        start = perf_counter()
        self.flush()
        checkpoint.save(self.run_dir, snapshot(self.run, self.run.writer.num_parts))
        self.checkpoint_step = self.run.step
        self.timer.written(perf_counter() - start)

    def flush(self) -> None:
        self.job.tracker.log(self.run.writer.unseen())
        self.run.writer.flush()

    def end(self, status: str) -> None:
        """Write what is left; a complete run needs no checkpoint any more."""
        if status == "interrupted":
            return  # saved when it was stopped
        if self.settings.keep_checkpoint:
            self.save()
        else:
            self.flush()

    def storage_failed(self, error: OSError) -> str:
        """Say what a failed write left intact."""
        where = f"{error.strerror or error}" + (f" ({error.filename})" if error.filename else "")
        kept = (
            f"the checkpoint of step {self.checkpoint_step} is intact, "
            "and the same command goes on from it"
            if (self.run_dir / checkpoint.FILE).exists()
            else "nothing had been saved yet"
        )
        return f"could not write records: {where}; {kept}"

    def close(self, status: str, reason: str) -> None:
        """Write the manifest, end tracking and progress."""
        self.bar.stop()
        self.manifest.update(
            self.progress(),
            status=status,
            reason=reason,
            ended_at=now(),
            wall_seconds=perf_counter() - self.started,
        )
        if status in ("finished", "diverged"):
            records.write_manifest(self.run_dir, self.manifest)
            if not self.settings.keep_checkpoint:
                checkpoint.remove(self.run_dir)
        else:
            # On a full disk the first manifest stands, and says "interrupted".
            with contextlib.suppress(OSError):
                records.write_manifest(self.run_dir, self.manifest)
        best = self.run.best
        self.job.tracker.finish(
            status, {"best": best} if best is not None and math.isfinite(best) else {}
        )

    @contextlib.contextmanager
    def stops_on_signals(self):
        """Turn the first SIGINT or SIGTERM into a stop after the step; a second one kills."""
        previous = {}

        def request(number, _frame):
            self.stop_requested = True
            signal.signal(number, signal.SIG_DFL)

        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                previous[number] = signal.signal(number, request)
        except ValueError:  # not the main thread: signals stay with whoever has them
            pass
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
