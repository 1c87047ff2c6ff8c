"""What all rules that compare quantities share: pairing, numbers, margins, enough seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from analysis.ledger.quantities import evaluate, number
from analysis.ledger.samples import Evidence, NotTested, Sample, aligned
from analysis.ledger.sources import Sources

Spec = Mapping[str, Any]

# A verdict needs so many seeds, and more where a run takes less than a minute; a comparison of
# measured numbers needs so many rows.
MIN_SEEDS, MIN_SEEDS_OF_SHORT, SHORT_RUN_SECONDS, MIN_ROWS = 3, 5, 60.0, 3


def evidence_of(*samples: Sample, compared: bool = False) -> Evidence:
    """The joined evidence of what one rule is decided by.

    Args:
        compared: whether the rule takes an interval, which one or two rows do not give.
    Raises:
        RecordsError: if versions are mixed.
        NotTested: if there are too few seeds or rows, or seconds that cannot be compared.
    """
    evidence = Evidence()
    for sample in samples:
        _check_number(sample, compared)
        evidence |= sample.evidence
    evidence.check()
    return evidence


def _check_number(sample: Sample, compared: bool) -> None:
    n = len(sample.labels)
    if sample.random:
        short = sample.evidence.seconds < SHORT_RUN_SECONDS
        needed = MIN_SEEDS_OF_SHORT if short else MIN_SEEDS
        if n < needed:
            because = " for runs shorter than a minute" if short else ""
            raise NotTested(f"too few seeds: {n} of {sample.name}, {needed} are needed{because}")
    elif compared and sample.evidence.measurements and n < MIN_ROWS:
        raise NotTested(f"too few rows: {n} of {sample.name}, a comparison needs {MIN_ROWS}")


def direction_of(spec: Spec, sample: Sample) -> str:
    direction = spec.get("direction") or sample.direction
    if direction is None:
        raise NotTested(f"the rule must say whether less or more of {sample.name} is better")
    return direction


def one(spec: Spec, sources: Sources) -> Sample:
    return evaluate(spec["a"], sources)


def pair(spec: Spec, sources: Sources) -> tuple[Sample, Sample]:
    # Both are looked up before they are paired, so that all that is missing is named together.
    a, b = evaluate(spec["a"], sources), evaluate(spec["b"], sources)
    if (a.curves is None) != (b.curves is None):
        raise NotTested("a curve cannot be compared with single numbers")
    return tuple(aligned(a, b))


def numbers(spec: Spec, keys: tuple[str, ...], sources: Sources) -> tuple[dict, Evidence]:
    evidence, found = Evidence(), {}
    for key in keys:
        if key in spec:
            found[key], more = number(spec[key], sources)
            evidence |= more
    return found, evidence


def margin_of(margin: Any, b: np.ndarray, sources: Sources) -> tuple[Any, Evidence]:
    """A margin of `equal` as a number, or as one a column of `b`; the evidence behind it."""
    if not isinstance(margin, Mapping):
        return float(margin), Evidence()
    if "relative" in margin:
        return margin["relative"] * np.abs(np.median(b, axis=0)), Evidence()
    specs = [margin["sd"]] if "sd" in margin else margin["half_gap"]
    samples = [evaluate(spec, sources) for spec in specs]
    evidence = evidence_of(*samples)
    if "sd" in margin:
        with np.errstate(invalid="ignore"):  # of a diverged run it is nan, which `equal` refuses
            return float(np.std(samples[0].worst("min"), ddof=1)), evidence
    means = [float(np.mean(sample.worst(sample.direction or "min"))) for sample in samples]
    gap = (max(means) - min(means)) / 2
    if not np.isfinite(gap):
        raise NotTested("the margin is not finite: a run that it is taken from diverged")
    return gap, evidence
