"""Run what is missing and draw every figure: what `make figures` calls.

    python -m scripts.figures [--fresh]

Experiments whose records are shipped in results/ are drawn from there; --fresh runs them again,
which takes about two hours on two cores. The others are run here, and go on where they were cut.
What --fresh had begun goes on with `python run.py experiment=NAME`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Cheap enough to be made on every machine, so their records are not shipped.
MADE_HERE = ("ggt_fig2", "ggt_fig2_hyperplane")
STOPPED = 130


def main(argv: list[str] | None = None) -> int:
    """Run the experiments, then draw; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fresh", action="store_true", help="run every experiment again")
    fresh = parser.parse_args(argv).fresh
    names = sorted(p.stem for p in (ROOT / "conf" / "experiment").glob("*.yaml"))
    force = ["force=true"] if fresh else []
    commands = [
        ["run.py", f"experiment={name}", *force] for name in (names if fresh else MADE_HERE)
    ]
    statuses = []
    for command in [*commands, ["-m", "analysis.draw"]]:
        print(" ".join(["python", *command]), flush=True)
        statuses.append(
            subprocess.run([sys.executable, *command], cwd=ROOT, check=False).returncode
        )
        if statuses[-1] == STOPPED:
            break
    return max(statuses)


if __name__ == "__main__":
    sys.exit(main())
