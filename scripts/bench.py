"""Measure speed and memory against the stated targets: what `make bench` calls.

Every ratio is of medians of things that take turns in one run. Exit status 1 if one misses.
"""

from __future__ import annotations

import sys

from runners.environment import hardware
from scripts import bench_ggt, bench_loop, bench_start


def main() -> int:
    """Run every benchmark; returns the exit status."""
    machine = hardware()
    print(f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB")
    results = [bench.main([]) for bench in (bench_start, bench_loop, bench_ggt)]
    return max(results)


if __name__ == "__main__":
    sys.exit(main())
