"""What all rules that compare quantities share: pairing, numbers, margins, enough seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from analysis.ledger.quantities import evaluate, number
from analysis.ledger.samples import Evidence, NotTested, Sample, aligned
from analysis.ledger.sources import Sources

Spec = Mapping[str, Any]

# Fewer seeds than these decide nothing; fewer than the second are remarked on in short runs.
MIN_SEEDS, WANTED_SEEDS, SHORT_RUN_SECONDS = 3, 5, 60.0


def evidence_of(*samples: Sample) -> Evidence:
    """The joined evidence of what one rule compares, refused where it must not be compared."""
    evidence = Evidence()
    for sample in samples:
        if sample.random and len(sample.labels) < MIN_SEEDS:
            raise NotTested(
                f"too few seeds: {len(sample.labels)} of {sample.name}, {MIN_SEEDS} are needed"
            )
        evidence |= sample.evidence
    few = min((len(s.labels) for s in samples if s.random), default=WANTED_SEEDS)
    if few < WANTED_SEEDS and evidence.seconds < SHORT_RUN_SECONDS:
        remark = f"{few} seeds, where runs shorter than a minute ask for {WANTED_SEEDS}"
        evidence |= Evidence(remarks=frozenset([remark]))
    evidence.check()
    return evidence


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
        return float(np.std(samples[0].worst("min"), ddof=1)), evidence
    means = [float(np.mean(sample.worst(sample.direction or "min"))) for sample in samples]
    gap = (max(means) - min(means)) / 2
    if not np.isfinite(gap):
        raise NotTested("the margin is not finite: a run that it is taken from diverged")
    return gap, evidence
