"""Rules that compare quantities, decided from the records."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from analysis.ledger import many, rules, values
from analysis.ledger.quantities import evaluate, number, on_common_axis
from analysis.ledger.rules import REPRODUCED, Finding, joint
from analysis.ledger.samples import Evidence, NotTested, Sample, aligned
from analysis.ledger.sources import Sources
from runners.records import RecordsError

Spec = Mapping[str, Any]
Decision = tuple[Finding, Evidence]

# Fewer seeds than these decide nothing; fewer than the second are remarked on in short runs.
MIN_SEEDS, WANTED_SEEDS, SHORT_RUN_SECONDS = 3, 5, 60.0


# ---------------------------------------------------------------- checks that all rules share


def _evidence(*samples: Sample) -> Evidence:
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


def _direction(spec: Spec, sample: Sample) -> str:
    direction = spec.get("direction") or sample.direction
    if direction is None:
        raise NotTested(f"the rule must say whether less or more of {sample.name} is better")
    return direction


def _one(spec: Spec, sources: Sources) -> Sample:
    return evaluate(spec["a"], sources)


def _pair(spec: Spec, sources: Sources) -> tuple[Sample, Sample]:
    # Both are looked up before they are paired, so that all that is missing is named together.
    a, b = evaluate(spec["a"], sources), evaluate(spec["b"], sources)
    if (a.curves is None) != (b.curves is None):
        raise NotTested("a curve cannot be compared with single numbers")
    return tuple(aligned(a, b))


def _numbers(spec: Spec, keys: tuple[str, ...], sources: Sources) -> tuple[dict, Evidence]:
    evidence, found = Evidence(), {}
    for key in keys:
        if key in spec:
            found[key], more = number(spec[key], sources)
            evidence |= more
    return found, evidence


def _margin(margin: Any, b: np.ndarray, sources: Sources) -> tuple[Any, Evidence]:
    """A margin of `equal` as a number, or as one a column of `b`; the evidence behind it."""
    if not isinstance(margin, Mapping):
        return float(margin), Evidence()
    if "relative" in margin:
        return margin["relative"] * np.abs(np.median(b, axis=0)), Evidence()
    specs = [margin["sd"]] if "sd" in margin else margin["half_gap"]
    samples = [evaluate(spec, sources) for spec in specs]
    evidence = _evidence(*samples)
    if "sd" in margin:
        return float(np.std(samples[0].worst("min"), ddof=1)), evidence
    means = [float(np.mean(sample.worst(sample.direction or "min"))) for sample in samples]
    gap = (max(means) - min(means)) / 2
    if not np.isfinite(gap):
        raise NotTested("the margin is not finite: a run that it is taken from diverged")
    return gap, evidence


# ---------------------------------------------------------------- comparisons of two


def _better(spec: Spec, sources: Sources) -> Decision:
    a, b = _pair(spec, sources)
    direction = _direction(spec, a)
    return rules.better(a.worst(direction), b.worst(direction), direction), _evidence(a, b)


def _equal(spec: Spec, sources: Sources) -> Decision:
    a, b = _pair(spec, sources)
    direction = a.direction or "min"
    worst = b.worst(direction)
    margin, more = _margin(spec["margin"], worst, sources)
    return rules.equal(a.worst(direction), worst, float(margin)), _evidence(a, b) | more


def _throughout(spec: Spec, sources: Sources) -> Decision:
    a, b = _pair(spec, sources)
    if a.curves is None:
        raise NotTested("throughout compares curves: take loss_curve or metric_curve")
    direction = _direction(spec, a)
    bad = np.inf if direction == "min" else -np.inf
    ours, theirs = (np.where(np.isnan(v), bad, v) for v in on_common_axis(a, b))
    margins, more = None, Evidence()
    if "margin" in spec:
        margins, more = _margin(spec["margin"], theirs, sources)
        margins = np.broadcast_to(margins, ours.shape[1:])
    shares = {key: spec[key] for key in ("share", "partly") if key in spec}
    finding = many.throughout(ours, theirs, direction, margins=margins, **shares)
    return finding, _evidence(a, b) | more


def _ratio(spec: Spec, sources: Sources) -> Decision:
    a, b = _pair(spec, sources)
    bounds, more = _numbers(spec, ("at_most", "at_least", "partly"), sources)
    return rules.ratio(a.worst("min"), b.worst("min"), **bounds), _evidence(a, b) | more


# ---------------------------------------------------------------- one quantity


def _near(spec: Spec, sources: Sources) -> Decision:
    a = _one(spec, sources)
    value, more = number(spec["value"], sources)
    tolerance = spec["tolerance"]
    if isinstance(tolerance, Mapping):
        tolerance, behind = _margin(tolerance, np.array([value]), sources)
        more |= behind
    finding = rules.close(a.worst("min"), value, float(tolerance), spec.get("side_of"))
    return finding, _evidence(a) | more


def _bound(spec: Spec, sources: Sources) -> Decision:
    a = _one(spec, sources)
    bounds, more = _numbers(spec, ("at_most", "at_least", "partly"), sources)
    # A diverged run is outside whichever bound there is.
    each = a.worst("min" if "at_most" in spec else "max")
    finding = values.bound(each, **bounds, share=spec.get("share", 1.0))
    return finding, _evidence(a) | more


def _identity(spec: Spec, sources: Sources) -> Decision:
    a = _one(spec, sources)
    return values.identity(a.values, spec.get("tolerance", 1e-9)), _evidence(a)


def _count(spec: Spec, sources: Sources) -> Decision:
    a = _one(spec, sources)
    equals, more = number(spec["equals"], sources)
    return values.count(a.values, equals, spec.get("relative", 0.0)), _evidence(a) | more


def _mean(spec: Spec, sources: Sources, what: str = "mean") -> Decision:
    a = _one(spec, sources)
    keys, more = _numbers(spec, ("at_most", "at_least", "partly", "near"), sources)
    each = a.worst("max" if "at_least" in spec else "min")
    finding = rules.mean(each, **keys, tolerance=spec.get("tolerance", 0.0), what=what)
    return finding, _evidence(a) | more


def _slope(spec: Spec, sources: Sources) -> Decision:
    return _mean(spec, sources, "slope")


def _positive(spec: Spec, sources: Sources) -> Decision:
    a = _one(spec, sources)
    return rules.positive(a.worst("max")), _evidence(a)


# ---------------------------------------------------------------- many quantities


def _same_order(spec: Spec, sources: Sources) -> Decision:
    groups = [[evaluate(q, sources) for q in group] for group in spec["groups"]]
    evidence = Evidence()
    for group in groups:
        evidence |= _evidence(*group)
    means = [np.array([np.mean(s.worst(s.direction or "min")) for s in group]) for group in groups]
    keys = {key: spec[key] for key in ("tau", "partly") if key in spec}
    return many.same_order(means, **keys), evidence


def _correlation(spec: Spec, sources: Sources) -> Decision:
    """Medians over seeds, one pair a task; pairs without records are left out, and said."""
    pairs, evidence, absent = [], Evidence(), []
    for left, right in zip(spec["a"], spec["b"], strict=True):
        try:
            samples = evaluate(left, sources), evaluate(right, sources)
            evidence |= _evidence(*samples)
        except (RecordsError, NotTested) as error:
            absent.append(str(error))
            continue
        pairs.append([float(np.median(s.worst("min"))) for s in samples])
    if not pairs:
        raise NotTested("; ".join(absent))
    a, b = np.array(pairs).T
    keys = {"at_least_pairs": spec["at_least_pairs"]} if "at_least_pairs" in spec else {}
    remarks = frozenset(f"a task is left out: {reason}" for reason in absent)
    return many.correlation(a, b, **keys), evidence | Evidence(remarks=remarks)


def _order(spec: Spec, sources: Sources) -> Decision:
    samples = [evaluate(q, sources) for q in spec["quantities"]]
    direction = _direction(spec, samples[0])
    found, evidence, words = [], Evidence(), []
    for best, worst in itertools.pairwise(samples):
        a, b = aligned(best, worst)
        found.append(rules.better(a.worst(direction), b.worst(direction), direction))
        evidence |= _evidence(a, b)
        words.append(f"{best.name} before {worst.name}: {found[-1].verdict} ({found[-1].text})")
    evidence.check()
    means = ", ".join(f"{s.name} {np.mean(s.worst(direction)):.4g}" for s in samples)
    held = sum(finding.verdict == REPRODUCED for finding in found)
    detail = f"means {means}; " + "; ".join(words)
    n = min(finding.n for finding in found)
    return Finding(
        joint(found), f"of {len(found)} pairs in order", held, n=n, detail=detail
    ), evidence


LEAVES: Mapping[str, Callable[[Spec, Sources], Decision]] = {
    "better": _better,
    "equal": _equal,
    "throughout": _throughout,
    "ratio": _ratio,
    "near": _near,
    "bound": _bound,
    "identity": _identity,
    "count": _count,
    "mean": _mean,
    "slope": _slope,
    "positive": _positive,
    "order": _order,
    "same_order": _same_order,
    "correlation": _correlation,
}
