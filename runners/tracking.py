"""Trackers: mirrors of a run's records, so far W&B.

The records are the truth. A tracker is told rows in blocks, sends each once at its step, and never
fails a run: what goes wrong is one line, and the run goes on without it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from runners.records import TABLES

Rows = Mapping[str, list[tuple]]

# A server that cannot be reached within this time is taken for absent.
INIT_TIMEOUT_SECONDS = 10.0
# Uploads still going on at a run's end; what is left can be sent with `wandb sync`.
FINISH_TIMEOUT_SECONDS = 60.0
NUM_BINS = 64  # of a spectrum's histogram; W&B draws at most 512

_COLUMNS = {name: schema.names for name, schema in TABLES.items()}
_SPECTRUM_NUMBERS = (
    "condition_number",
    "effective_rank",
    "resolution",
    "root_residual",
    "fallbacks",
    "staleness",
)


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class NullTracker:
    """Tracks nothing."""

    def start(
        self,
        run_dir: Path,
        run_id: str,
        name: str,
        config: Mapping[str, Any],
        group: str | None,
        tags: list[str],
        resume_step: int,
    ) -> None:
        """Begin a run, or go on with it."""

    def log(self, rows: Rows) -> None:
        """Take rows that the record writer has collected since the last call."""

    def finish(self, status: str, summary: Mapping[str, Any]) -> None:
        """End the run with one of the records' statuses."""


class WandbTracker:
    """Mirrors a run to W&B, online if the user is logged in, else into offline files.

    Needs no account, network or answer to a prompt. A server that cannot be reached within
    `INIT_TIMEOUT_SECONDS` costs that time once, and the run is tracked offline. Files go below
    `<run_dir>/wandb/`. Logging a step takes about 0.2 ms.

    Args:
        project, entity: where W&B files the run; entity None for the user's own.
        mode: "online" or "offline"; None: what WANDB_MODE says, else online if logged in.
        group: overrides the group given to `start`.
        warn: called with one line when something goes wrong; standard error by default.
    Raises:
        ValueError: for another mode.

    Attributes:
        mode: the mode in which the run was started, None before that.
        problem: why tracking is off, None while nothing has failed.
    """

    def __init__(
        self,
        project: str = "kappa",
        mode: str | None = None,
        group: str | None = None,
        entity: str | None = None,
        warn: Callable[[str], None] = _to_stderr,
    ):
        if mode not in (None, "online", "offline"):
            raise ValueError(f"tracking mode must be online, offline or null, got {mode!r}")
        self.project, self.entity, self.group = project, entity, group
        self.mode: str | None = None
        self.problem: str | None = None
        self._asked_mode, self._warn = mode, warn
        self._run: Any = None
        self._resume_step = 0

    def start(
        self,
        run_dir: Path,
        run_id: str,
        name: str,
        config: Mapping[str, Any],
        group: str | None,
        tags: list[str],
        resume_step: int,
    ) -> None:
        """Begin the W&B run of this id, or go on with it if `resume_step` > 0.

        Rows of steps before `resume_step` are taken for known and not sent again. Offline, going
        on writes another folder with the same run id, which `wandb sync` joins to the first.
        """
        self.problem, self._resume_step = None, resume_step
        options = {
            "project": self.project,
            "entity": self.entity,
            "dir": str(Path(run_dir).resolve()),
            "id": run_id,
            "name": name,
            "config": dict(config),
            "group": self.group or group,
            "tags": tags,
        }
        self._guarded("start", lambda: self._start(options))

    def _start(self, options: dict[str, Any]) -> None:
        import wandb

        # Before anything else, since logging in announces itself by the settings of here.
        wandb.setup(wandb.Settings(silent=True, finish_timeout=FINISH_TIMEOUT_SECONDS))
        Path(options["dir"]).mkdir(parents=True, exist_ok=True)
        self.mode, reason = self._choose_mode(wandb)
        if self.mode == "online":
            # Without resume, W&B begins the run of this id afresh: right for a run made anew.
            resume = "allow" if self._resume_step > 0 else None
            try:
                self._run = wandb.init(
                    **options, mode="online", resume=resume, settings=_settings(wandb)
                )
                return
            except Exception as error:  # any failure of the server, see `_guarded`
                self.mode, reason = "offline", f"could not go online ({_one_line(error)})"
                # W&B's service holds the failed run's id until it ends.
                wandb.teardown()
                wandb.setup(wandb.Settings(silent=True))
        if reason:
            self._warn(f"W&B: {reason}; tracking offline")
        self._run = wandb.init(**options, mode=self.mode, settings=_settings(wandb))

    def _choose_mode(self, wandb: Any) -> tuple[str, str]:
        asked = self._asked_mode or os.environ.get("WANDB_MODE")
        if asked not in (None, "online"):
            return asked, ""
        # Asking W&B itself to log in would prompt on a terminal.
        if _is_logged_in(wandb):
            return "online", ""
        return "offline", "not logged in" if asked == "online" else ""

    def log(self, rows: Rows) -> None:
        """Send rows, merged by step; the columns of `steps` under their own names.

        Evaluations become `<split>/<metric>`, with `<split>/epoch` and `<split>/train_seconds`;
        spectra `spectra/<name>/histogram`, over log10 of the positive eigenvalues, and
        `spectra/<name>/<column>`. None is left out; nan and infinities stay what they are.
        """
        if self._run is not None:
            self._guarded("log", lambda: self._log(rows))

    def _log(self, rows: Rows) -> None:
        import wandb

        data: dict[int, dict[str, Any]] = {}
        for row in rows.get("steps", ()):
            values = zip(_COLUMNS["steps"][1:], row[1:], strict=True)
            data.setdefault(row[0], {}).update(values)
        for step, epoch, split, metric, value, train_seconds in rows.get("evals", ()):
            at = data.setdefault(step, {})
            at[f"{split}/{metric}"] = value
            at[f"{split}/epoch"] = epoch
            at[f"{split}/train_seconds"] = train_seconds
        for row in rows.get("spectra", ()):
            data.setdefault(row[0], {}).update(_spectrum(wandb, row))
        for step in sorted(data):
            if step >= self._resume_step:
                sent = {key: value for key, value in data[step].items() if value is not None}
                self._run.log(sent, step=step)

    def finish(self, status: str, summary: Mapping[str, Any]) -> None:
        """End the run; a diverged run has ended well, since divergence is a result."""
        if self._run is not None:
            self._guarded("finish", lambda: self._finish(status, summary))
        self._run = None

    def _finish(self, status: str, summary: Mapping[str, Any]) -> None:
        self._run.summary.update({**summary, "status": status})
        self._run.finish(exit_code=0 if status in ("finished", "diverged") else 1)

    def _guarded(self, what: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            # The one place for so broad a catch: W&B, its service process and the network fail in
            # ways that cannot be listed, and none of them is worth a run of hours.
            self.problem = f"{what} failed ({_one_line(error)})"
            self._run = None
            self._warn(f"W&B: {self.problem}; tracking is off, the records are not affected")


def _spectrum(wandb: Any, row: tuple) -> dict[str, Any]:
    import numpy as np

    named = dict(zip(_COLUMNS["spectra"], row, strict=True))
    prefix = f"spectra/{named['name']}"
    data = {f"{prefix}/{column}": named[column] for column in _SPECTRUM_NUMBERS}
    eigenvalues = np.asarray(named["eigenvalues"], dtype=np.float64)
    positive = eigenvalues[(eigenvalues > 0) & np.isfinite(eigenvalues)]
    if positive.size:
        histogram = np.histogram(np.log10(positive), bins=NUM_BINS)
        data[f"{prefix}/histogram"] = wandb.Histogram(np_histogram=histogram)
    return data


def _settings(wandb: Any) -> Any:
    """Quiet, and nothing about the machine, its user or the code beyond what the records say."""
    return wandb.Settings(
        silent=True,
        console="off",
        disable_code=True,
        disable_git=True,
        disable_job_creation=True,
        host="",
        init_timeout=INIT_TIMEOUT_SECONDS,
        login_timeout=INIT_TIMEOUT_SECONDS,
        finish_timeout=FINISH_TIMEOUT_SECONDS,
        # A run that W&B still holds for active must not be taken for the new one.
        reinit="create_new",
        save_code=False,
        symlink=False,
        x_disable_machine_info=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )


def _is_logged_in(wandb: Any) -> bool:
    """Whether credentials lie where W&B looks for them: environment, settings, netrc."""
    import netrc
    from urllib.parse import urlsplit

    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    settings = wandb.setup().settings
    if settings.api_key:
        return True
    candidates = [Path.home() / ".netrc", Path.home() / "_netrc"]
    if os.environ.get("NETRC"):
        candidates = [Path(os.environ["NETRC"]).expanduser()]
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        return False
    try:
        login = netrc.netrc(path).authenticators(urlsplit(settings.base_url).netloc)
    except (netrc.NetrcParseError, OSError):
        return False
    return bool(login and login[2])


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
