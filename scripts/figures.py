"""Run what is missing and draw every figure: what `make figures` calls.

    python -m scripts.figures [--fresh]

Experiments whose records are shipped in results/ are drawn from there; --fresh runs them again,
which takes about an hour on two cores. The others are run here, and go on where they were cut.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Cheap enough to be made on every machine, so their records are not shipped.
MADE_HERE = ("ggt_fig2", "ggt_fig2_hyperplane")


def main(argv: list[str] | None = None) -> int:
    """Run the experiments, then draw; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fresh", action="store_true", help="run every experiment again")
    fresh = parser.parse_args(argv).fresh
    names = sorted(p.stem for p in (ROOT / "conf" / "experiment").glob("*.yaml"))
    for name in names if fresh else MADE_HERE:
        force = ["force=true"] if fresh else []
        command = [sys.executable, "run.py", f"experiment={name}", *force]
        print(" ".join(["python", *command[1:]]), flush=True)
        status = subprocess.run(command, cwd=ROOT, check=False).returncode
        if status:
            return status
    return subprocess.run([sys.executable, "-m", "analysis.draw"], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
