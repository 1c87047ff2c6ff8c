"""Rules that compare quantities, decided from the records."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import numpy as np

from analysis.ledger import many, rules, values
from analysis.ledger.checks import (
    Spec,
    direction_of,
    evidence_of,
    margin_of,
    numbers,
    one,
    pair,
)
from analysis.ledger.limits import KINDS, LOWER, UPPER, limits_of
from analysis.ledger.quantities import evaluate, number, on_common_axis
from analysis.ledger.rules import REPRODUCED, Finding, joint
from analysis.ledger.samples import Evidence, NotTested, aligned
from analysis.ledger.sources import Sources
from runners.records import RecordsError

Decision = tuple[Finding, Evidence]

# ---------------------------------------------------------------- comparisons of two


def _better(spec: Spec, sources: Sources) -> Decision:
    a, b = pair(spec, sources)
    direction = direction_of(spec, a)
    return rules.better(a.worst(direction), b.worst(direction), direction), evidence_of(
        a, b, compared=True
    )


def _not_better(spec: Spec, sources: Sources) -> Decision:
    a, b = pair(spec, sources)
    direction = direction_of(spec, a)
    return rules.not_better(a.worst(direction), b.worst(direction), direction), evidence_of(
        a, b, compared=True
    )


def _equal(spec: Spec, sources: Sources) -> Decision:
    a, b = pair(spec, sources)
    direction = a.direction or "min"
    worst = b.worst(direction)
    margin, more = margin_of(spec["margin"], worst, sources)
    return rules.equal(a.worst(direction), worst, float(margin)), evidence_of(
        a, b, compared=True
    ) | more


def _throughout(spec: Spec, sources: Sources) -> Decision:
    a, b = pair(spec, sources)
    if a.curves is None:
        raise NotTested("throughout compares curves: take loss_curve or metric_curve")
    direction = direction_of(spec, a)
    bad = np.inf if direction == "min" else -np.inf
    ours, theirs = (np.where(np.isnan(v), bad, v) for v in on_common_axis(a, b))
    margins, more = None, Evidence()
    if "margin" in spec:
        margins, more = margin_of(spec["margin"], theirs, sources)
        margins = np.broadcast_to(margins, ours.shape[1:])
    shares = {key: spec[key] for key in ("share", "partly") if key in spec}
    finding = many.throughout(ours, theirs, direction, margins=margins, **shares)
    return finding, evidence_of(a, b, compared=True) | more


def _ratio(spec: Spec, sources: Sources) -> Decision:
    a, b = pair(spec, sources)
    bounds, more = numbers(spec, (*KINDS, "partly"), sources)
    return rules.ratio(a.worst("min"), b.worst("min"), **bounds), evidence_of(
        a, b, compared=True
    ) | more


# ---------------------------------------------------------------- one quantity


def _near(spec: Spec, sources: Sources) -> Decision:
    a = one(spec, sources)
    value, more = number(spec["value"], sources)
    tolerance = spec["tolerance"]
    if isinstance(tolerance, Mapping):
        tolerance, behind = margin_of(tolerance, np.array([value]), sources)
        more |= behind
        if not np.isfinite(tolerance):
            raise NotTested("the tolerance is not finite: a run that it is taken from diverged")
    finding = rules.close(a.worst("min"), value, float(tolerance), spec.get("side_of"))
    return finding, evidence_of(a) | more


def _bound(spec: Spec, sources: Sources) -> Decision:
    a = one(spec, sources)
    bounds, more = numbers(spec, (*KINDS, "partly"), sources)
    # A diverged run is outside whichever bound there is.
    each = a.worst("min" if any(key in spec for key in UPPER) else "max")
    finding = values.bound(each, **bounds, share=spec.get("share", 1.0))
    return finding, evidence_of(a) | more


def _within(spec: Spec, sources: Sources) -> Decision:
    samples = aligned(*(evaluate(part["a"], sources) for part in spec["parts"]))
    evidence, parts = evidence_of(*samples), []
    for part, sample in zip(spec["parts"], samples, strict=True):
        bounds, more = numbers(part, KINDS, sources)
        evidence |= more
        each = sample.worst("min" if any(key in part for key in UPPER) else "max")
        name = str(part["a"].get("take", sample.name)).replace("_", " ")
        parts.append((name, each, limits_of(bounds)))
    shares = {key: spec[key] for key in ("share", "partly") if key in spec}
    return values.within(parts, **shares), evidence


def _identity(spec: Spec, sources: Sources) -> Decision:
    a = one(spec, sources)
    return values.identity(a.values, spec.get("tolerance", 1e-9)), evidence_of(a)


def _count(spec: Spec, sources: Sources) -> Decision:
    a = one(spec, sources)
    equals, more = number(spec["equals"], sources)
    return values.count(a.values, equals, spec.get("relative", 0.0)), evidence_of(a) | more


def _mean(spec: Spec, sources: Sources, what: str = "mean") -> Decision:
    a = one(spec, sources)
    keys, more = numbers(spec, (*KINDS, "partly", "near"), sources)
    each = a.worst("max" if any(key in spec for key in LOWER) else "min")
    finding = rules.mean(each, **keys, tolerance=spec.get("tolerance", 0.0), what=what)
    return finding, evidence_of(a) | more


def _slope(spec: Spec, sources: Sources) -> Decision:
    return _mean(spec, sources, "slope")


def _positive(spec: Spec, sources: Sources) -> Decision:
    a = one(spec, sources)
    return rules.positive(a.worst("max")), evidence_of(a, compared=True)


# ---------------------------------------------------------------- many quantities


def _same_order(spec: Spec, sources: Sources) -> Decision:
    groups = [[evaluate(q, sources) for q in group] for group in spec["groups"]]
    evidence = Evidence()
    for group in groups:
        evidence |= evidence_of(*group)
    means = [np.array([np.mean(s.worst(s.direction or "min")) for s in group]) for group in groups]
    keys = {key: spec[key] for key in ("tau", "partly") if key in spec}
    return many.same_order(means, **keys), evidence


def _correlation(spec: Spec, sources: Sources) -> Decision:
    """Medians over seeds, one pair a task.

    Pairs without records are left out, and said, where enough of them are there all the same.
    """
    pairs, evidence, absent = [], Evidence(), []
    for left, right in zip(spec["a"], spec["b"], strict=True):
        try:
            samples = evaluate(left, sources), evaluate(right, sources)
            evidence |= evidence_of(*samples)
        except (RecordsError, NotTested) as error:
            absent.append(str(error))
            continue
        pairs.append([float(np.median(s.worst("min"))) for s in samples])
    keys = {"at_least_pairs": spec.get("at_least_pairs", many.MIN_PAIRS)}
    count = len(pairs) + len(absent)
    if absent and len(pairs) < min(keys["at_least_pairs"], count):
        raise NotTested("; ".join([f"{len(pairs)} of {count} tasks tested", *absent]))
    a, b = np.array(pairs).T
    remarks = frozenset(f"a task is left out: {reason}" for reason in absent)
    return many.correlation(a, b, **keys), evidence | Evidence(remarks=remarks)


def _order(spec: Spec, sources: Sources) -> Decision:
    samples = [evaluate(q, sources) for q in spec["quantities"]]
    direction = direction_of(spec, samples[0])
    found, evidence, words = [], Evidence(), []
    for best, worst in itertools.pairwise(samples):
        a, b = aligned(best, worst)
        found.append(rules.better(a.worst(direction), b.worst(direction), direction))
        evidence |= evidence_of(a, b, compared=True)
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
    "not_better": _not_better,
    "equal": _equal,
    "throughout": _throughout,
    "ratio": _ratio,
    "near": _near,
    "bound": _bound,
    "within": _within,
    "identity": _identity,
    "count": _count,
    "mean": _mean,
    "slope": _slope,
    "positive": _positive,
    "order": _order,
    "same_order": _same_order,
    "correlation": _correlation,
}
