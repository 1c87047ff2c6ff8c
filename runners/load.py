"""How busy others kept the machine while something was timed on it.

The timing lock keeps other runs away, and nothing else: a browser, a build or a backup takes cores
all the same. So what is timed says how much work there was beside it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

# Seconds are not used where other work took more of the machine than this, in cores.
MOST_OTHER_CORES = 0.5
# The kernel counts in hundredths of a second, which say nothing of shorter times.
LEAST_SECONDS = 0.2


class LoadWatch:
    """Watches the machine from its making on.

    Args:
        earlier: what the watch over an earlier part of the same run had to say.
    """

    def __init__(self, earlier: Mapping[str, Any] | None = None):
        self._earlier = earlier or {}
        self._begin = _load_average()
        self._start = perf_counter(), _busy_seconds(), _own_seconds()

    def facts(self) -> dict[str, float | None]:
        """What there was until now.

        Returns:
            begin, end: the load average over a minute, of all processes, then and now; other_cores:
            cores that other processes used, a mean over the time in between, the larger one of two
            parts of a run. None where the system or too short a time does not tell.
        """
        parts = [self._earlier.get("other_cores"), self._other_cores()]
        known = [cores for cores in parts if cores is not None]
        return {
            "begin": self._earlier.get("begin", self._begin),
            "end": _load_average(),
            "other_cores": round(max(known), 3) if known else None,
        }

    def _other_cores(self) -> float | None:
        seconds, busy, own = self._start
        seconds, now = perf_counter() - seconds, _busy_seconds()
        if busy is None or now is None or seconds < LEAST_SECONDS:
            return None
        return max(0.0, (now - busy - (_own_seconds() - own)) / seconds)


def other_cores(load: Mapping[str, Any] | None, num_threads: int) -> float | None:
    """Cores that other work took from what was timed, as recorded.

    Args:
        load: `LoadWatch.facts`, or None.
        num_threads: of what was timed; the load average counts them too.
    Returns:
        None if it was not recorded. Where only the load average was, what it exceeds the threads
        by, at the beginning or the end.
    """
    load = load or {}
    if load.get("other_cores") is not None:
        return float(load["other_cores"])
    averages = [load[key] for key in ("begin", "end") if load.get(key) is not None]
    return max(0.0, max(averages) - num_threads) if averages else None


def recorded_cores(facts: Mapping[str, Any]) -> float | None:
    """`other_cores` from a flat manifest, whose keys are joined with dots; nan is not recorded."""
    load = {key: facts.get(f"load.{key}") for key in ("begin", "end", "other_cores")}
    known = {key: value for key, value in load.items() if value is not None and value == value}
    return other_cores(known, int(facts.get("num_threads") or 1))


def _load_average() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return None


def _busy_seconds() -> float | None:
    """Processor time of all processes since the machine started, over its cores; Linux only."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
        user, nice, system, _idle, _waiting, irq, soft, stolen = map(int, fields)
    except (OSError, ValueError):
        return None
    return (user + nice + system + irq + soft + stolen) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    """Processor time of this process, its threads, and its children that have ended."""
    return sum(os.times()[:4])
