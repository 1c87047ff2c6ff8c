"""Measure speed and memory against the stated targets: what `make bench` calls.

Every ratio is of medians of things that take turns in one run. Exit status 1 if one misses.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from runners.environment import hardware

ROOT = Path(__file__).resolve().parent.parent
BENCHES = (
    "bench_start",
    "bench_loop",
    "bench_tasks",
    "bench_applied",
    "bench_ggt",
    "bench_preconditioners",
    "bench_iterations",
)


def main() -> int:
    """Run every benchmark; returns the exit status."""
    machine = hardware()
    print(f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB", flush=True)
    # A process each: memory freed by one would hide the growth that another measures.
    commands = [[sys.executable, "-m", f"scripts.{name}"] for name in BENCHES]
    return max(subprocess.run(command, cwd=ROOT, check=False).returncode for command in commands)


if __name__ == "__main__":
    sys.exit(main())
