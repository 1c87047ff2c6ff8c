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
import logging
import os
import re
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runners import messages, report
from runners.environment import num_cores
from runners.sampling import log_uniform

CONF = Path(__file__).resolve().parent / "conf"
OUTCOMES = "KAPPA_SWEEP_DIR"  # folder in which the jobs of one command leave their outcomes

# A resolver has to be known before anything is composed, in every worker process.
OmegaConf.register_new_resolver("log_uniform", log_uniform, replace=True)
# Hydra logs what it raises; it is said once, by whoever catches it.
logging.getLogger("hydra").addHandler(logging.NullHandler())


class UserError(Exception):
    """A user's mistake; its text is the line to print."""


# ---------------------------------------------------------------- from configuration to job


def build_job(
    cfg: DictConfig, sweep: str | None, experiment: str | None, workers: int, quiet: bool
):
    """Instantiate what a configuration names."""
    from hydra.utils import instantiate

    from optimizers import describe_groups, numerics_versions
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
    versions = numerics_versions(**make_optimizer.keywords)
    return Job(
        task=task,
        make_optimizer=make_optimizer,
        optimizer_version=versions.pop("optimizer"),
        member_versions=versions,
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
    return max(1, num_cores() // workers) if asked is None else asked


@contextlib.contextmanager
def user_errors(runs_dir: str) -> Iterator[None]:
    """Turn what a user can get wrong into a `UserError`, one line each."""
    from runners.checkpoint import CheckpointError
    from runners.records import RecordsError
    from tasks.data.store import DataError

    try:
        yield
    except InstantiationException as error:
        if os.environ.get("KAPPA_DEBUG"):
            raise
        where = re.search(r"full_key: (\S+)", str(error))
        prefix = f"{where[1]}: " if where else ""
        raise UserError(f"{prefix}{messages.cause(error)}") from error
    except (ValueError, TypeError, DataError, RecordsError, CheckpointError) as error:
        if os.environ.get("KAPPA_DEBUG"):
            raise
        raise UserError(messages.first_line(error)) from error
    except OSError as error:  # before training: later ones are the run's outcome
        raise UserError(f"{error.filename or runs_dir}: {error.strerror or error}") from error


def execute(cfg: DictConfig, **context: Any):
    """Run one job.

    Raises:
        UserError: for a value, file or combination that is not allowed; nothing is left behind.
    """
    from runners import preflight
    from runners.lifecycle import run_job

    try:
        with user_errors(cfg.runs_dir):
            job = build_job(cfg, **context)
            if cfg.dry_run:
                return preflight.dry_run(job)
            # The runs of an experiment are all needed; a sweep goes on to its next job meanwhile.
            return run_job(job, wait=context["experiment"] is not None)
    finally:
        with contextlib.suppress(OSError):
            Path(cfg.runs_dir).rmdir()  # nothing was left in it: it was made for a lock alone


# ---------------------------------------------------------------- Hydra's side


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
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
    from runners.settings import Outcome

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
        reason, status = f"{type(error).__name__}: {messages.first_line(error)}", "failed"
    return Outcome.bare(status, cfg.choices.task, cfg.choices.optimizer, reason)


def add_choices(cfg: DictConfig, choices: Any) -> None:
    """Note which files were chosen: they name a run's folder and count in its identity."""
    names = {group: choices[group] for group in ("task", "optimizer", "schedule")}
    if names["schedule"] == "default":  # what it stands for is what counts
        own = choices["schedule/of@schedule"]
        there = (CONF / "schedule" / "of" / f"{own}.yaml").is_file()
        names["schedule"] = own if there else "constant"
    OmegaConf.set_struct(cfg, False)
    cfg.choices = names
    OmegaConf.set_struct(cfg, True)


def launcher_workers(hydra_config: Any) -> int:
    """How many jobs the launcher runs at once."""
    jobs = hydra_config.launcher.get("n_jobs") or 1
    return num_cores() + 1 + jobs if jobs < 0 else jobs


# ---------------------------------------------------------------- experiments


def experiment(cfg: DictConfig, typed: list[str]) -> dict[str, Any]:
    """Run both stages of an experiment and say what was chosen."""
    from runners.records import RecordsError
    from runners.settings import Outcome

    try:
        status, reason = run_stages(cfg, typed), ""
    except KeyboardInterrupt:
        status, reason = "interrupted", "stopped; the same command goes on from here"
    except (ValueError, KeyError, RecordsError, OSError, HydraException) as error:
        if os.environ.get("KAPPA_DEBUG"):
            raise
        status, reason = "invalid", messages.first_line(error)
    return Outcome.bare(status, "experiment", cfg.experiment.name, reason)


def run_stages(cfg: DictConfig, typed: list[str]) -> str:
    """Search, then final runs; returns the status."""
    from hydra.utils import instantiate

    from runners.experiment import run_experiment
    from runners.plan import command_line, make_plan
    from runners.pool import list_overrides, run_requests

    search = cfg.experiment.search
    score = instantiate(search.score) if search else None
    extra, command = command_line(typed)
    plan = make_plan(OmegaConf.to_container(cfg.experiment, resolve=True), score, extra)
    if cfg.dry_run:
        print(f"{plan.name}: {len(plan.trials())} trials, then {plan.num_finals()} final runs")
        return "skipped"
    for request in plan.samples():  # a misspelt option is the whole command's error
        try:
            compose(list_overrides(request))
        except (HydraException, OmegaConfBaseException) as error:
            where = f"{request.case}, {request.method}"
            keys = messages.known_keys(CONF, list_overrides(request))
            raise ValueError(f"{where}: {messages.explain(error, keys)}") from error
    index = run_experiment(
        plan,
        Path(cfg.runs_dir),
        lambda requests, stage: run_requests(compose_and_run, plan, requests, stage),
        command=command,
        rule=score.rule if score else "",
    )
    path = Path(cfg.runs_dir) / "experiments" / f"{plan.name}.json"
    return report.announce_experiment(index, path)


def compose(overrides: list[str]) -> DictConfig:
    """Compose outside of Hydra's own job, with the choices noted."""
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = hydra.compose("config", overrides, return_hydra_config=True)
    choices = cfg.hydra.runtime.choices
    OmegaConf.set_struct(cfg, False)
    del cfg["hydra"]
    add_choices(cfg, choices)
    return cfg


def compose_and_run(overrides: list[str], name: str, workers: int) -> dict[str, Any]:
    """One run of an experiment, in whatever process this is."""
    cfg = compose(overrides)
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
        print(
            f"run.py: {messages.explain(error, messages.known_keys(CONF, sys.argv[1:]))}",
            file=sys.stderr,
        )
        return 2
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    status = 130
    with contextlib.suppress(KeyboardInterrupt):
        status = report.announce(outcomes, wait=not stopped)
    if stopped and status != 130:  # else the outcome of the job it was in has said it
        print("stopped; the same command goes on from here", file=sys.stderr)
    return 130 if stopped else status


if __name__ == "__main__":
    sys.exit(main())
