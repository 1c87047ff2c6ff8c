"""Quantities of a claim's rule, from their description in YAML to one number a seed.

{experiment, case, method, take, ...}            of final runs; see `takes.TAKES`
{measurement, where: {...}, column: value}       a column of the rows chosen
{ratio: [q, q]}, {minus: [q, q]}                 seed by seed
{log10: q}, {mean: [q, ...]}                     seed by seed
{best: [q, ...]}                                 whichever has the best mean over the seeds
{crossing: [curve, curve]}                       share of the axis after which the first one is
                                                 no longer ahead
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from analysis.frames import flatten
from analysis.ledger.samples import Evidence, NotTested, Sample, aligned
from analysis.ledger.sources import Sources, seconds_of
from analysis.ledger.takes import TAKES, direction_of

RUN_KEYS = frozenset({"experiment", "case", "method", "take"})
MEASUREMENT_KEYS = frozenset({"measurement", "where", "column"})
NUM_POINTS = 20  # of the axis on which curves are compared
FIRST_SHARE = 0.05  # left out: there nothing has been learnt

Spec = Mapping[str, Any]


def evaluate(spec: Spec, sources: Sources) -> Sample:
    """One quantity, from the records.

    Args:
        spec: complete, as `claims.load` returns it.
    Raises:
        RecordsError: if records are missing, damaged, or of mixed versions.
        NotTested: if the records cannot give it; says why.
    """
    for key, function in _DERIVED.items():
        if key in spec:
            return function(spec, sources)
    if "measurement" in spec:
        return _measured(spec, sources)
    return _of_runs(spec, sources)


# ---------------------------------------------------------------- from records


def _of_runs(spec: Spec, sources: Sources) -> Sample:
    take = TAKES[spec["take"]]
    runs, evidence = sources.runs(spec["experiment"], spec["case"], spec["method"])
    options = {key: value for key, value in spec.items() if key not in RUN_KEYS}
    if isinstance(options.get("target"), Mapping):
        target, more = number(options["target"], sources)
        options, evidence = {**options, "target": target}, evidence | more
    if take.seconds or options.get("x") == "seconds" or "_seconds" in str(options.get("key")):
        for run in runs:
            evidence |= seconds_of(run.facts, f"run {run.facts['run_id']}", spec["experiment"])
    taken = [take.function(run, options) for run in runs]
    directions = {options.get("direction") or direction_of(run, options) for run in runs}
    in_steps = spec["take"] in ("steps_to", "seconds_to")
    return Sample(
        labels=tuple(run.seed for run in runs),
        values=np.full(len(runs), np.nan) if take.curve else np.array(taken, dtype=float),
        evidence=evidence,
        name=str(spec["method"]),
        direction="min" if in_steps else directions.pop() if len(directions) == 1 else None,
        random=take.random,
        curves=tuple(taken) if take.curve else None,
    )


def _measured(spec: Spec, sources: Sources) -> Sample:
    name, column, where = spec["measurement"], spec.get("column", "value"), spec.get("where") or {}
    facts = sources.measurement(name)
    rows = facts["rows"]
    for key in (*where, column):
        if not any(key in row for row in rows):
            raise NotTested(f"measurement {name} has no column {key}")
    for key, wanted in where.items():
        allowed = wanted if isinstance(wanted, list) else [wanted]
        rows = [row for row in rows if row.get(key) in allowed]
    # A null is nothing measured; a number that is not finite is a computation that failed.
    rows = [row for row in rows if row.get(column) is not None]
    if not rows:
        raise NotTested(f"measurement {name} has no rows where {dict(where)}")
    evidence = Evidence(
        rows=len(rows),
        measurements=frozenset([name]),
        scales=frozenset([facts["kind"]]),
        commits=frozenset([str(facts["commit"])[:10]] if facts.get("commit") else []),
    )
    if facts["kind"] == "timed":
        flat = flatten({key: value for key, value in facts.items() if key != "rows"})
        evidence |= seconds_of(flat, f"measurement {name}", name)
    return Sample(
        labels=tuple(int(row.get("seed", number)) for number, row in enumerate(rows)),
        values=np.array([row[column] for row in rows], dtype=float),
        evidence=evidence,
        name=", ".join(map(str, where.values())) or name,
    )


def number(spec: Any, sources: Sources) -> tuple[float, Evidence]:
    """A number: itself, `{mean_of: q}`, `{median_of: q}`, or a quantity for its median.

    A diverged run counts as inf. The evidence is that of the quantity.

    Raises:
        NotTested: if it is not finite: whatever is compared with it would keep it, or fail to,
            whatever it were itself.
    """
    if not isinstance(spec, Mapping):
        return float(spec), Evidence()
    inner = spec.get("mean_of") or spec.get("median_of") or spec
    sample = evaluate(inner, sources)
    values = sample.worst(sample.direction or "min")
    found = float(np.mean(values) if "mean_of" in spec else np.median(values))
    if not np.isfinite(found):
        raise NotTested(
            f"the number taken from {sample.name} is not finite: its runs diverged or did not get "
            "there"
        )
    return found, sample.evidence


# ---------------------------------------------------------------- derived, seed by seed


def _pairwise(
    key: str, function: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> Callable[[Spec, Sources], Sample]:
    def derived(spec: Spec, sources: Sources) -> Sample:
        a, b = aligned(*(evaluate(part, sources) for part in spec[key]))
        with np.errstate(divide="ignore", invalid="ignore"):
            values = function(a.values, b.values)
        return _joined(a, b, values=values, name=f"{a.name} {key} {b.name}")

    return derived


def _joined(*samples: Sample, values: np.ndarray, name: str) -> Sample:
    evidence = samples[0].evidence
    for sample in samples[1:]:
        evidence |= sample.evidence
    randomness = any(sample.random for sample in samples)
    return Sample(samples[0].labels, values, evidence, name, samples[0].direction, randomness)


def _log10(spec: Spec, sources: Sources) -> Sample:
    sample = evaluate(spec["log10"], sources)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.log10(sample.values)
    return _joined(sample, values=values, name=f"log10 {sample.name}")


def _mean(spec: Spec, sources: Sources) -> Sample:
    samples = aligned(*(evaluate(part, sources) for part in spec["mean"]))
    values = np.mean([sample.values for sample in samples], axis=0)
    return _joined(*samples, values=values, name="mean of " + ", ".join(s.name for s in samples))


def _best(spec: Spec, sources: Sources) -> Sample:
    samples = [evaluate(part, sources) for part in spec["best"]]
    direction = spec.get("direction") or samples[0].direction or "min"
    sign = 1 if direction == "min" else -1

    if samples[0].curves is None:
        scores = [sign * float(np.mean(sample.worst(direction))) for sample in samples]
    else:
        curves = [sign * values for values in on_common_axis(*samples)]
        scores = [float(np.mean(np.where(np.isnan(v), np.inf, v))) for v in curves]
    found = samples[int(np.argmin(scores))]
    evidence = found.evidence
    for sample in samples:  # those that lost were compared too
        evidence |= sample.evidence
    return Sample(
        found.labels, found.values, evidence, found.name, direction, found.random, found.curves
    )


def on_common_axis(*samples: Sample) -> list[np.ndarray]:
    """Curves at 20 points between 5 % and 100 % of the axis that all runs reach.

    Returns:
        One array a sample, shape (num_seeds, 20); nan after a divergence.
    """
    ends = [c.x[-1] for s in samples for c in s.curves if len(c.x) and not c.diverged]
    if not ends:
        raise NotTested("every run diverged, so there is no axis to compare on")
    points = min(ends) * np.linspace(FIRST_SHARE, 1, NUM_POINTS)
    return [np.stack([curve.at(points) for curve in sample.curves]) for sample in samples]


def _crossing(spec: Spec, sources: Sources) -> Sample:
    a, b = aligned(*(evaluate(part, sources) for part in spec["crossing"]))
    ours, theirs = on_common_axis(a, b)
    sign = -1 if (spec.get("direction") or a.direction) == "max" else 1
    ahead = sign * (theirs - ours) > 0
    shares = np.linspace(FIRST_SHARE, 1, NUM_POINTS)
    last = [float(shares[np.flatnonzero(row)[-1]]) if row.any() else 0.0 for row in ahead]
    return _joined(a, b, values=np.array(last), name=f"{a.name} ahead of {b.name}")


_DERIVED: Mapping[str, Callable[[Spec, Sources], Sample]] = {
    "ratio": _pairwise("ratio", np.divide),
    "minus": _pairwise("minus", np.subtract),
    "log10": _log10,
    "mean": _mean,
    "best": _best,
    "crossing": _crossing,
}
DERIVED_KEYS = frozenset(_DERIVED)
