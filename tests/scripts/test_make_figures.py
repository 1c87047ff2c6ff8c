"""What `make figures` runs, and in which order."""

from __future__ import annotations

import subprocess
from types import SimpleNamespace

import pytest

from scripts import figures


@pytest.fixture
def commands(monkeypatch):
    """Record the commands instead of running them; `statuses` says how each one ends."""
    log = SimpleNamespace(typed=[], statuses={})

    def run(command, **_):
        log.typed.append(command[1:])
        return SimpleNamespace(returncode=log.statuses.get(command[2], 0))

    monkeypatch.setattr(subprocess, "run", run)
    return log


def test_cheap_experiments_are_run_and_everything_is_drawn(commands):
    assert figures.main([]) == 0
    assert commands.typed == [
        ["run.py", "experiment=ggt_fig2"],
        ["run.py", "experiment=ggt_fig2_hyperplane"],
        ["-m", "analysis.draw"],
    ]


def test_fresh_makes_every_experiment_again(commands):
    assert figures.main(["--fresh"]) == 0
    names = [path.stem for path in sorted((figures.ROOT / "conf" / "experiment").glob("*.yaml"))]
    expected = [["run.py", f"experiment={name}", "force=true"] for name in names]
    assert commands.typed == [*expected, ["-m", "analysis.draw"]]
    assert "ggt_fig3_bottom" in names


def test_a_failed_experiment_holds_up_no_figure_and_is_not_forgotten(commands):
    commands.statuses["experiment=ggt_fig2"] = 1
    assert figures.main([]) == 1
    assert commands.typed[-1] == ["-m", "analysis.draw"]


def test_a_stop_ends_everything(commands):
    commands.statuses["experiment=ggt_fig2"] = figures.STOPPED
    assert figures.main([]) == figures.STOPPED
    assert len(commands.typed) == 1
