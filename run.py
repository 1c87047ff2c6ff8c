"""Compose a configuration, build what it names, run it.

    python run.py task=ptb_lstm optimizer=ggt
    python run.py -m task=ptb_lstm optimizer=ggt,adam,sgd optimizer.lr=1e-3,1e-2,1e-1 seed=0,1,2
    python run.py -m sweep=lr_grid task=logistic optimizer=adam hydra/launcher=joblib
    python run.py experiment=ggt_fig2
    python run.py task=ptb_lstm optimizer=ggt scale=paper dry_run=true

This is the only file that reads the configuration; everything below it receives typed arguments.
Exit status: 0 done (a diverged run is a result), 1 a run failed, 2 a mistake in what was asked
for, 130 stopped.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shlex
import shutil
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runners import messages, report
from runners.sampling import log_uniform

CONF = Path(__file__).resolve().parent / "conf"
OUTCOMES = "KAPPA_SWEEP_DIR"  # folder in which the jobs of one command leave their outcomes

# A resolver has to be known before anything is composed, in every worker process.
OmegaConf.register_new_resolver("log_uniform", log_uniform, replace=True)


class UserError(Exception):
    """A user's mistake; its text is the line to print."""


# ---------------------------------------------------------------- from configuration to job


def build_job(
    cfg: DictConfig, sweep: str | None, experiment: str | None, workers: int, quiet: bool
):
    """Instantiate what a configuration names."""
    from hydra.utils import instantiate

    from optimizers import describe_groups
    from runners.identity import identity_config
    from runners.job import Job
    from runners.settings import Place, Settings

    choices = cfg.choices
    task = instantiate(cfg.task)
    max_steps = cfg.max_steps
    if max_steps is None:
        max_steps = max(1, round(task.max_steps * cfg.budget.fraction))
    settings = Settings(
        seed=cfg.seed,
        precision=cfg.precision,
        device=cfg.device,
        max_steps=max_steps,
        accumulate=cfg.accumulate,
        grad_clip=(task.clip_norm or 0.0) if cfg.grad_clip is None else cfg.grad_clip,
        spectra_every=cfg.spectra_every,
        num_threads=num_threads(cfg.num_threads, workers),
        concurrent_workers=workers,
        timing=cfg.timing,
        checkpoint_seconds=cfg.checkpoint.seconds,
        checkpoint_steps=cfg.checkpoint.steps,
        keep_checkpoint=cfg.checkpoint.keep,
        force=cfg.force,
        progress=cfg.progress,
    )
    config = OmegaConf.to_container(cfg, resolve=True)
    config.update(max_steps=max_steps, grad_clip=settings.grad_clip)
    make_optimizer = instantiate(cfg.optimizer)
    return Job(
        task=task,
        make_optimizer=make_optimizer,
        optimizer_version=getattr(make_optimizer.keywords["cls"], "numerics_version", 0),
        schedule=instantiate(cfg.schedule),
        probe=instantiate(cfg.probe) if cfg.probe else None,
        tracker=instantiate(cfg.tracking),
        settings=settings,
        place=Place(
            runs_dir=Path(cfg.runs_dir),
            task=choices.task,
            optimizer=choices.optimizer,
            scale=cfg.scale,
            budget=cfg.budget.name,
            sweep=sweep,
            experiment=experiment,
        ),
        config=identity_config(config),
        describe_groups=describe_groups,
        quiet=quiet,
    )


def num_threads(asked: int | None, workers: int) -> int:
    """Threads of this process: all cores, divided among the workers that run at once."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, cores // workers) if asked is None else asked


def execute(cfg: DictConfig, **context: Any):
    """Run one job.

    Raises:
        UserError: for a value, file or combination that is not allowed; nothing is left behind.
    """
    from runners.checkpoint import CheckpointError
    from runners.job import run_job
    from runners.records import RecordsError
    from tasks.data.store import DataError

    try:
        job = build_job(cfg, **context)
        if cfg.dry_run:
            return dry_run(job)
        return run_job(job)
    except InstantiationException as error:
        if os.environ.get("KAPPA_DEBUG"):
            raise
        where = re.search(r"full_key: (\S+)", str(error))
        prefix = f"{where[1]}: " if where else ""
        raise UserError(f"{prefix}{first_line(error.__cause__ or error)}") from error
    except (ValueError, TypeError, DataError, RecordsError, CheckpointError) as error:
        if os.environ.get("KAPPA_DEBUG"):
            raise
        raise UserError(first_line(error)) from error
    finally:
        tidy(Path(cfg.runs_dir))


def dry_run(job):
    """Say what a run would cost, and stop."""
    from runners.preflight import Cost, count_parameters, measure
    from runners.settings import Outcome
    from tasks.data.store import DataError

    settings = job.settings
    try:
        import torch

        torch.set_num_threads(settings.num_threads)
        job.task.setup(settings.device, settings.dtype)
        cost = measure(job.task, job.make_optimizer, settings)
    except DataError as error:
        print(first_line(error), file=sys.stderr)
        model = job.task.build_model().to(settings.dtype)
        job.make_optimizer(model)  # a bad hyperparameter is an error here too
        cost = Cost(
            *count_parameters(model)[:1], settings.max_steps, count_parameters(model)[1], None, None
        )
    print(cost.line())
    print(f"parameters={cost.num_parameters}")
    place = job.place
    return Outcome("skipped", place.task, place.optimizer, job.run_id, reason="dry run")


def first_line(error: BaseException) -> str:
    """The first line of an error's text; its type where it has none."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].strip() if lines else type(error).__name__


def tidy(runs_dir: Path) -> None:
    """Remove the folder of locks and the root of the records if nothing is in them."""
    for folder in (runs_dir / ".locks", runs_dir):
        with contextlib.suppress(OSError):
            folder.rmdir()


# ---------------------------------------------------------------- Hydra's side


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def app(cfg: DictConfig) -> None:
    """One job of this command; leaves its outcome for `main`.

    Raises:
        KeyboardInterrupt: when it was stopped, so that a sweep begins no further job.
    """
    hydra_config = HydraConfig.get()
    multirun = hydra_config.mode == RunMode.MULTIRUN
    if cfg.experiment:
        left = experiment(cfg, list(hydra_config.overrides.task))
    else:
        workers = launcher_workers(hydra_config) if multirun else 1
        sweep = f"sweep-{os.environ['KAPPA_COMMAND_HASH']}" if multirun else None
        add_choices(cfg, hydra_config.runtime.choices)
        left = attempt(cfg, sweep=sweep, experiment=None, workers=workers, quiet=multirun)
        left["overrides"] = list(hydra_config.overrides.task)
    number = hydra_config.job.num if multirun else 0
    Path(os.environ[OUTCOMES], f"{number:06d}.json").write_text(json.dumps(left))
    if left["status"] == "interrupted":
        raise KeyboardInterrupt


def attempt(cfg: DictConfig, **context: Any) -> dict[str, Any]:
    """Run one job; a mistake or a crash becomes an outcome, so that a sweep goes on."""
    try:
        return execute(cfg, **context).as_dict()
    except UserError as error:
        reason, status = str(error), "invalid"
    except KeyboardInterrupt:
        reason, status = "stopped before it began", "interrupted"
    except Exception as error:  # a crash outside of training: said, and the sweep goes on
        if os.environ.get("KAPPA_DEBUG"):
            raise
        traceback.print_exc()
        reason, status = f"{type(error).__name__}: {first_line(error)}", "failed"
    names = {"task": cfg.choices.task, "optimizer": cfg.choices.optimizer}
    return {"status": status, "reason": reason, **names, "run_id": "", "run_dir": ""}


def add_choices(cfg: DictConfig, choices: Any) -> None:
    """Note which files were chosen: they name a run's folder and count in its identity."""
    names = {group: choices[group] for group in ("task", "optimizer", "schedule")}
    OmegaConf.set_struct(cfg, False)
    cfg.choices = names
    OmegaConf.set_struct(cfg, True)


def launcher_workers(hydra_config: Any) -> int:
    """How many jobs the launcher runs at once."""
    jobs = hydra_config.launcher.get("n_jobs") or 1
    return os.cpu_count() + 1 + jobs if jobs < 0 else jobs


# ---------------------------------------------------------------- experiments


def experiment(cfg: DictConfig, typed: list[str]) -> dict[str, Any]:
    """Run both stages of an experiment and say what was chosen."""
    from hydra.utils import instantiate

    from runners.experiment import make_plan, run_experiment
    from runners.pool import run_requests

    plain = OmegaConf.to_container(cfg.experiment, resolve=True)
    extra = dict(item.split("=", 1) for item in typed if not item.startswith("experiment"))
    score = instantiate(cfg.experiment.search.score)
    try:
        plan = make_plan(plain, score, extra)
        index = run_experiment(
            plan,
            Path(cfg.runs_dir),
            lambda requests, stage: run_requests(compose_and_run, plan, requests, stage),
            command="python run.py "
            + shlex.join(
                [
                    f"experiment={plan.name}",
                    *(f"{k}={v}" for k, v in extra.items() if k not in ("runs_dir", "data_dir")),
                ]
            ),
            rule=score.rule,
        )
    except ValueError as error:
        return {"status": "invalid", "reason": first_line(error)}
    path = Path(cfg.runs_dir) / "experiments" / f"{plan.name}.json"
    status = report.announce_experiment(index, path)
    return {"status": status, "reason": "", "experiment": plan.name}


def compose_and_run(overrides: list[str], name: str, workers: int) -> dict[str, Any]:
    """One run of an experiment, in whatever process this is."""
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = hydra.compose("config", overrides, return_hydra_config=True)
        choices = cfg.hydra.runtime.choices
        OmegaConf.set_struct(cfg, False)
        del cfg["hydra"]
        add_choices(cfg, choices)
    return attempt(cfg, sweep=None, experiment=name, workers=workers, quiet=True)


# ---------------------------------------------------------------- the command line


def main() -> int:
    """Run the command; returns the exit status."""
    # Hydra would print several lines and exit with 1; its exceptions are put in one line below.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    command = " ".join(sorted(sys.argv[1:]))
    os.environ["KAPPA_COMMAND_HASH"] = hashlib.sha256(command.encode()).hexdigest()[:8]
    folder = Path(tempfile.mkdtemp(prefix="kappa-command-"))
    os.environ[OUTCOMES] = str(folder)
    stopped = True
    try:
        with contextlib.suppress(KeyboardInterrupt):
            app()
            stopped = False
        outcomes = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    except (HydraException, OmegaConfBaseException) as error:
        print(f"run.py: {messages.explain(error, known_keys())}", file=sys.stderr)
        return 2
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    status = report.announce(outcomes)
    if stopped and status != 130:  # else the outcome of the job it was in has said it
        print("stopped; the same command goes on from here", file=sys.stderr)
    return 130 if stopped else status


def known_keys() -> list[str]:
    """Every key of the configuration that the command line's groups compose, as far as they do."""
    groups = [path.name for path in CONF.iterdir() if path.is_dir()]
    typed = [a for a in sys.argv[1:] if a.split("=")[0] in groups and "," not in a]
    for overrides in (typed, []):
        with (
            contextlib.suppress(Exception),
            hydra.initialize_config_dir(str(CONF), version_base="1.3"),
        ):
            cfg = hydra.compose("config", overrides)
            return groups + messages.key_paths(OmegaConf.to_container(cfg))
    return groups


if __name__ == "__main__":
    sys.exit(main())
