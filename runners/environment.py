"""What a run was made with: machine, packages, commit, memory.

Records are published, so nothing here names a host, a user, a path or an environment variable.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
import resource
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

# The last one holds optimizers that YAMLs here name.
PACKAGES = ("torch", "numpy", "hydra-core", "omegaconf", "pyarrow", "wandb", "pytorch_optimizer")


@functools.cache
def _hardware() -> tuple[tuple[str, Any], ...]:
    cpu = _proc_value(Path("/proc/cpuinfo"), "model name") or platform.processor() or "unknown"
    gpu = _gpu()
    cores = os.cpu_count() or 1
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    fingerprint = hashlib.sha256(f"{cpu}|{cores}|{gpu}".encode()).hexdigest()[:12]
    return (
        ("cpu", cpu),
        ("cores", cores),
        ("memory_gib", round(memory_bytes / 2**30, 1)),
        ("gpu", gpu),
        ("platform", f"{platform.system()} {platform.machine()}"),
        ("fingerprint", fingerprint),
    )


def hardware() -> dict[str, Any]:
    """Describe the machine; a few milliseconds, then cached.

    Returns:
        cpu: model; cores: logical, of the machine; memory_gib; gpu: model of the first NVIDIA
        device, None without one; platform; fingerprint: 12 hex digits of a SHA-256 over cpu,
        cores and gpu. Seconds are compared only within one fingerprint.
    """
    return dict(_hardware())


def _gpu() -> str | None:
    # Asking torch would initialise CUDA in runs that do not use it, and take seconds.
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        model = _proc_value(path, "Model")
        if model:
            return model
    return None


def _proc_value(path: Path, key: str) -> str | None:
    """The first `key : value` of a file under /proc; None if there is none."""
    try:
        with path.open() as file:
            for line in file:
                name, _, value = line.partition(":")
                if name.strip() == key:
                    return value.strip()
    except OSError:
        return None
    return None


@functools.cache
def _packages() -> tuple[tuple[str, str | None], ...]:
    return (("python", platform.python_version()), *((name, _version(name)) for name in PACKAGES))


def packages() -> dict[str, str | None]:
    """Versions of Python and of `PACKAGES`, None if not installed; imports none of them."""
    return dict(_packages())


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


@functools.cache
def commit(folder: Path = Path(__file__).parent) -> tuple[str | None, bool | None]:
    """The commit of the checkout that holds this code, and whether files differ from it.

    Untracked files that git does not ignore count as a difference: a new optimizer is one. Cached,
    since a process runs the code it loaded at its start.

    Returns:
        (commit in hexadecimal, dirty); (None, None) outside a checkout, without git, or before the
        first commit.
    """
    # An installed copy may lie within somebody else's checkout, whose commit says nothing.
    if _git(folder, "ls-files", "--error-unmatch", ".") is None:
        return None, None
    status = _git(folder, "status", "--porcelain=v2", "--branch")
    lines = status.splitlines() if status is not None else []
    marks = [line.split()[-1] for line in lines if line.startswith("# branch.oid ")]
    if marks in ([], ["(initial)"]):
        return None, None
    return marks[0], any(not line.startswith("#") for line in lines)


def _git(folder: Path, *arguments: str) -> str | None:
    # Within a git hook, GIT_DIR and its like point at another repository.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    # Status would refresh the index and take its lock, which parallel runs would fight over.
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def reset_peak_memory(cuda: Any = None) -> None:
    """Let the peak count from here on: one process may make many runs (Linux and CUDA)."""
    if cuda is not None:
        cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def peak_memory_bytes(cuda: Any = None) -> int:
    """Peak memory of this process so far, in bytes.

    Args:
        cuda: `torch.cuda` if the run is on a CUDA device: then the peak of its allocations;
            None for the resident memory of the process.
    """
    if cuda is not None:
        return int(cuda.max_memory_allocated())
    # Linux hands ru_maxrss down through fork and exec: a child would report its parent's peak.
    high_water = _proc_value(Path("/proc/self/status"), "VmHWM")
    if high_water is not None:
        return int(high_water.split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
