"""Empty folders for a command to work in, and what it leaves there."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest


def go_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working folder, an empty temporary folder and records below both."""
    for name in ("here", "tmp"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)  # read again from TMPDIR
    monkeypatch.setenv("KAPPA_RUNS", str(tmp_path / "runs"))


def litter(tmp_path: Path) -> list[str]:
    """What a command has left in the working folder and the temporary one."""
    paths = [*(tmp_path / "here").rglob("*"), *(tmp_path / "tmp").rglob("*")]
    # The timing locks belong to the machine and stay; torch makes the other folder.
    return [p.name for p in paths if not p.name.startswith(("kappa-timing", "torchinductor"))]
