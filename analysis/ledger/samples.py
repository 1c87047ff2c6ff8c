"""One number a seed, with the records it comes from and what may not be mixed in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from runners.records import RecordsError


class NotTested(Exception):
    """A rule that the records there are cannot decide; the message says why."""


@dataclass(frozen=True)
class Curve:
    """One run's curve: increasing `x`, `y` (nan after a divergence), and whether it diverged."""

    x: np.ndarray
    y: np.ndarray
    diverged: bool = False

    def at(self, points: np.ndarray) -> np.ndarray:
        """Values at `points`, linear between those of the curve; nan beyond a divergence."""
        if len(self.x) == 0:
            return np.full(len(points), np.nan)
        values = np.interp(points, self.x, self.y)
        return np.where(self.diverged & (points > self.x[-1]), np.nan, values)


@dataclass(frozen=True)
class Evidence:
    """Where numbers come from; evidence of several quantities is joined by `|`.

    Attributes:
        runs: ids of the runs.
        rows: rows of measurements.
        experiments, measurements, scales, data, stand_ins, commits: names.
        clocks: (timing, fingerprint, threads) of whatever is in seconds; empty if nothing is.
        disturbed: what other work took from runs or measurements that are in seconds, in words.
        versions: (what, of what, version, example): those with one `what` and `of what` must agree.
        rules: (experiment, the rule that its settings were chosen by) of those that searched.
        remarks: what a reader has to know: absent, failed or diverged runs.
        seconds: training seconds of the shortest run; inf without one.
    """

    runs: frozenset[str] = frozenset()
    rows: int = 0
    experiments: frozenset[str] = frozenset()
    measurements: frozenset[str] = frozenset()
    scales: frozenset[str] = frozenset()
    data: frozenset[str] = frozenset()
    stand_ins: frozenset[str] = frozenset()
    commits: frozenset[str] = frozenset()
    clocks: frozenset[tuple] = frozenset()
    disturbed: frozenset[str] = frozenset()
    versions: frozenset[tuple] = frozenset()
    rules: frozenset[tuple[str, str]] = frozenset()
    remarks: frozenset[str] = frozenset()
    seconds: float = float("inf")

    def __or__(self, other: Evidence) -> Evidence:
        joined: dict[str, Any] = {
            f.name: getattr(self, f.name) | getattr(other, f.name)
            for f in fields(self)
            if f.name not in ("rows", "seconds")
        }
        joined["rows"] = self.rows + other.rows
        return Evidence(**joined, seconds=min(self.seconds, other.seconds))

    def check(self) -> None:
        """Refuse what must not be compared.

        Raises:
            RecordsError: if versions are mixed; names both.
            NotTested: if seconds come from machines or runs that cannot be compared.
        """
        seen: dict[tuple[str, str], tuple[Any, str]] = {}
        for what, of, version, example in sorted(self.versions, key=str):
            first, known = seen.setdefault((what, of), (version, example))
            if first != version:
                raise RecordsError(
                    f"versions are mixed: {what} of {of} is {first} in {known} and {version} in "
                    f"{example}"
                )
        shared = [clock for clock in self.clocks if clock[0] != "exclusive"]
        if shared:
            raise NotTested("not comparable in seconds: not all were made with timing=exclusive")
        if self.disturbed:
            raise NotTested(f"not comparable in seconds: {min(self.disturbed)}")
        if len(self.clocks) > 1:
            places = "; ".join(
                f"machine {c[1]}, {c[2]} threads" for c in sorted(self.clocks, key=str)
            )
            raise NotTested(f"not comparable in seconds: {places}")


@dataclass(frozen=True)
class Sample:
    """A quantity: one value, or one curve, a seed.

    Attributes:
        labels: seeds, or numbers of a measurement's rows.
        values: numbers; nan where the run diverged, +inf where a target was not reached.
        curves: instead of values, for quantities over the course of training.
        direction: "min" where less is better, "max" where more is; None if neither is known.
        random: whether it varies with the run's seed, so that a verdict needs several.
        name: what tables call it.
    """

    labels: tuple[int, ...]
    values: np.ndarray
    evidence: Evidence
    name: str
    direction: str | None = "min"
    random: bool = False
    curves: tuple[Curve, ...] | None = field(default=None, compare=False)

    def worst(self, direction: str) -> np.ndarray:
        """Values with diverged runs ranked behind every number."""
        bad = np.inf if direction == "min" else -np.inf
        return np.where(np.isnan(self.values), bad, self.values)


def aligned(*samples: Sample) -> list[Sample]:
    """The samples cut down to the seeds that all of them have, in one order.

    Raises:
        NotTested: if they share no seed, or one has several values of a seed.
    """
    for sample in samples:
        if len(set(sample.labels)) != len(sample.labels):
            raise NotTested(f"{sample.name} has several values of one seed, so nothing pairs them")
    shared = [label for label in samples[0].labels if all(label in s.labels for s in samples[1:])]
    if not shared:
        raise NotTested("the two sides share no seed")
    return [_chosen(sample, shared) for sample in samples]


def _chosen(sample: Sample, labels: Sequence[int]) -> Sample:
    if tuple(labels) == sample.labels:
        return sample
    order = [sample.labels.index(label) for label in labels]
    curves = None if sample.curves is None else tuple(sample.curves[i] for i in order)
    values = sample.values if sample.curves is not None else sample.values[order]
    return Sample(
        tuple(labels), values, sample.evidence, sample.name, sample.direction, sample.random, curves
    )
