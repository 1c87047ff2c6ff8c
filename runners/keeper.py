"""What surrounds the loop: checkpoints, manifest, tracking, progress, signals."""

from __future__ import annotations

import contextlib
import math
import signal
from datetime import datetime, timezone
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from runners import checkpoint, environment, records
from runners.job import Job
from runners.layers import describe_layers, layers_text
from runners.load import LoadWatch
from runners.preflight import count_parameters
from runners.progress import make_bar, say
from runners.state import Run

TRACKING_BLOCK = 100  # steps handed to tracking at once


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
        self.metric = ""
        self.started = perf_counter()
        self.load = LoadWatch() if self.settings.timing == "exclusive" else None
        self.manifest = self.first_manifest()

    # -------- the loop's callbacks

    def after_step(self, run: Run, loss: float) -> bool:
        if run.step % TRACKING_BLOCK == 0:
            self.job.tracker.log(run.writer.unseen())
        self.bar.update(run.step, loss, self.metric)
        # Read once: a signal after this line stops the next step, which is then saved as well.
        stop = self.stop_requested
        if stop or (run.step < self.settings.max_steps and self.timer.due(run.step)):
            self.save()
        return stop

    def after_evaluation(self, run: Run) -> None:
        self.job.tracker.log(run.writer.unseen())
        target = run.task.target
        if run.last is not None:
            self.metric = f"{target.split} {target.metric} {run.last:.4g}"

    # -------- begin, save, end

    def begin(self) -> None:
        """Write what is known beforehand, and start tracking and progress."""
        import yaml

        place, resumed = self.job.place, self.run.step > 0
        config_text = yaml.safe_dump(self.job.config, sort_keys=False)
        records.write_atomically(self.run_dir / "config.yaml", lambda p: p.write_text(config_text))
        if resumed:
            earlier = records.read_manifest(self.run_dir)
            self.manifest["started_at"] = earlier["started_at"]
            self.manifest["peak_memory_bytes"] = earlier["peak_memory_bytes"]
            self.started -= earlier["wall_seconds"]
            if self.load is not None:
                self.load = LoadWatch(earlier.get("load"))
        records.write_manifest(self.run_dir, self.manifest)
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
        groups = self.manifest["parameter_groups"]
        routed = len(groups) > 1 or job_rules(self.job.config)
        if routed and not self.job.quiet:
            say(describe(groups))
        if self.manifest["layers"] is not None and not self.job.quiet:
            say(layers_text(self.manifest["layers"]))
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
            "seeds": {"run": settings.seed, **seeds(job.config.get("task", {}))},
            "data": run.task.data,
            "data_hash": run.task.data_hash(),
            "numerics_versions": job.numerics_versions,
            "max_steps": settings.max_steps,
            "steps_per_epoch": run.steps_per_epoch,
            "num_parameters": count_parameters(run.model)[0],
            "parameter_groups": job.describe_groups(run.optimizer, run.model),
            # Of an optimizer that works layer by layer: what it does not precondition, too.
            "layers": describe_layers(run.optimizer),
            "task_facts": run.task.facts(),
            "target": {
                "metric": target.metric,
                "split": target.split,
                "direction": target.direction,
                "value": target.value,
            },
            "started_at": now(),
            "peak_memory_bytes": 0,
            **self.progress(),
        }

    def progress(self) -> dict[str, Any]:
        """What changes in the manifest as the run goes on."""
        from optimizers.telemetry import state_bytes

        run, target = self.run, self.run.task.target
        return {
            "steps_done": run.step,
            "train_seconds": run.clock.seconds,
            "eval_seconds": run.eval_clock.seconds,
            "wall_seconds": perf_counter() - self.started,
            **({} if self.load is None else {"load": self.load.facts()}),
            "optimizer_state_bytes": state_bytes(run.optimizer),
            # Null: the optimizer counts none.
            "fallbacks": getattr(run.optimizer, "num_fallbacks", None),
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
        checkpoint.save(self.run_dir, self.run.state_dict())
        records.write_manifest(self.run_dir, self.up_to_date())
        self.checkpoint_step = self.run.step
        self.timer.written(perf_counter() - start)

    def up_to_date(self, **more: Any) -> dict[str, Any]:
        """The manifest as of now."""
        cuda = torch.cuda if self.settings.device.startswith("cuda") else None
        peak = max(self.manifest["peak_memory_bytes"], environment.peak_memory_bytes(cuda))
        self.manifest.update(self.progress(), peak_memory_bytes=peak, **more)
        return self.manifest

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

    def close(self, status: str, reason: str) -> tuple[str, str]:
        """Write the manifest, end tracking and progress; returns what became of the run."""
        self.bar.stop()
        manifest = self.up_to_date(status=status, reason=reason, ended_at=now())
        try:
            records.write_manifest(self.run_dir, manifest)
            if status in ("finished", "diverged") and not self.settings.keep_checkpoint:
                checkpoint.remove(self.run_dir)
        except OSError as error:  # the manifest before stands, and says "interrupted"
            if status in ("finished", "diverged"):
                status, reason = "failed", self.storage_failed(error)
        best = self.run.best
        self.job.tracker.finish(
            status, {"best": best} if best is not None and math.isfinite(best) else {}
        )
        return status, reason

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


def seeds(task_config: dict[str, Any]) -> dict[str, int]:
    """The task's own seeds, such as that of a synthetic instance."""
    return {f"task.{key}": value for key, value in task_config.items() if key.endswith("seed")}


def job_rules(config: dict[str, Any]) -> list[Any]:
    """The group rules of a configuration; even a single group may then be another optimizer's."""
    return config.get("optimizer", {}).get("groups") or []


def describe(groups: list[dict[str, Any]]) -> str:
    """The parameter groups in a few lines, with their optimizer and the options that differ."""
    options = [group["options"] for group in groups]
    names = dict.fromkeys(name for o in options for name in o)
    differing = [
        k for k in names if k == "lr" or any(o.get(k) != options[0].get(k) for o in options)
    ]
    return "\n".join(
        f"group {i}: {group['optimizer']}, {group['num_parameters']:,} parameters in "
        f"{len(group['names'])} tensor{'s' if len(group['names']) != 1 else ''}"
        + "".join(f", {k}={group['options'][k]}" for k in differing if is_set(group, k))
        for i, group in enumerate(groups)
    )


def is_set(group: dict[str, Any], option: str) -> bool:
    """Whether a group has an option, and not one that is off."""
    return group["options"].get(option) not in (None, False)


def now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
