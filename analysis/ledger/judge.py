"""Every claim, judged from the records: a verdict an entry, none of them typed by hand."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import yaml

from analysis.ledger import claims as claims_module
from analysis.ledger.claims import Claim, Judged
from analysis.ledger.decide import decide
from analysis.ledger.rules import NOT_REPRODUCED, NOT_TESTED, shown
from analysis.ledger.samples import Evidence, NotTested
from analysis.ledger.sources import Sources
from analysis.load import PLANS, MissingRecordsError, Records
from runners import measurements
from runners.records import RecordsError


@dataclass(frozen=True)
class Verdict:
    """What came out of one judged entry of a claim; see `Claim` and `Finding` for their fields.

    Attributes:
        headline: whether this is the claim's first entry, whose verdict is the claim's.
        reason: why nothing was tested; else empty.
        n: seeds or cases; num_runs: training runs that were read.
        scale: "small", "paper", ..., "exact" for mathematics, "timed" for measured seconds; or the
            entry's own words.
        chosen_by: by which split and metric the experiments' settings were chosen, a sentence a
            rule; none where the settings were given.
        commands: what would make missing records, with the cost where it is declared.
        remarks: absent and diverged runs, choices at the edge of a grid.
        notes: the claim's and the entry's.
    """

    id: str
    paper: str
    place: str
    claim: str
    published: Any
    run: str
    rule: str
    reading: str
    headline: bool
    verdict: str
    reason: str = ""
    what: str = ""
    center: float = math.nan
    low: float = math.nan
    high: float = math.nan
    strong: bool = False
    n: int = 0
    num_runs: int = 0
    detail: str = ""
    scale: str = ""
    data: str = ""
    stand_in: str = ""
    experiments: tuple[str, ...] = ()
    measurements: tuple[str, ...] = ()
    commits: tuple[str, ...] = ()
    chosen_by: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ours(self) -> str:
        """Our number with its interval, in words; empty where nothing was tested."""
        if self.verdict == NOT_TESTED:
            return ""
        return shown(self.what, self.center, self.low, self.high)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; numbers that are not finite are null."""
        fields = asdict(self)
        for key in ("center", "low", "high"):
            fields[key] = fields[key] if math.isfinite(fields[key]) else None
        return {**fields, "ours": self.ours}


def judge_all(records: Records, claims: Sequence[Claim] | None = None) -> list[Verdict]:
    """Judge every entry of every claim, in the order of the claims.

    Args:
        records: where experiments and measurements are looked for.
        claims: by default those of analysis/claims.yaml.
    """
    sources = Sources(records)
    listed = claims_module.load() if claims is None else claims
    return [verdict for claim in listed for verdict in judge(claim, sources)]


def judge(claim: Claim, sources: Sources) -> list[Verdict]:
    """Judge one claim: a verdict an entry, the principal one first."""
    if not claim.judged:
        notes = (claim.note,) if claim.note else ()
        return [_verdict(claim, "", True, verdict=NOT_TESTED, reason=claim.not_tested, notes=notes)]
    return [
        _judge_entry(claim, entry, number == 0, sources)
        for number, entry in enumerate(claim.judged)
    ]


def _verdict(claim: Claim, reading: str, headline: bool, **found: Any) -> Verdict:
    about = {
        key: getattr(claim, key)
        for key in ("id", "paper", "place", "claim", "published", "run", "rule")
    }
    return Verdict(**about, reading=reading, headline=headline, **found)


def _judge_entry(claim: Claim, entry: Judged, headline: bool, sources: Sources) -> Verdict:
    notes = tuple(note for note in (claim.note if headline else "", entry.note) if note)
    try:
        finding, evidence = decide(entry.rule, entry.spec, sources)
    except (RecordsError, NotTested) as error:
        reason = str(error)
    except Exception as error:  # one entry never stops the others; the tests look for these words
        reason = f"the ledger failed: {type(error).__name__}: {error}"
    else:
        strong = finding.strong and finding.verdict == NOT_REPRODUCED
        return _verdict(
            claim,
            entry.reading,
            headline,
            verdict=finding.verdict,
            what=finding.what,
            center=finding.center,
            low=finding.low,
            high=finding.high,
            strong=strong,
            n=finding.n,
            detail=finding.detail,
            notes=notes,
            commands=tuple(missing_commands(entry.spec, sources)),
            **_told(evidence, entry.scale),
        )
    commands = tuple(missing_commands(entry.spec, sources))
    return _verdict(
        claim,
        entry.reading,
        headline,
        verdict=NOT_TESTED,
        reason=reason,
        notes=notes,
        commands=commands,
    )


def _told(evidence: Evidence, scale: str) -> dict[str, Any]:
    chosen: dict[str, list[str]] = {}
    for experiment, rule in sorted(evidence.rules):
        chosen.setdefault(rule, []).append(experiment)
    # An entry's words stand for the scale of its runs; what was measured keeps its own.
    measured = evidence.scales & set(measurements.KINDS)
    return {
        "num_runs": len(evidence.runs),
        "scale": ", ".join([scale, *sorted(measured)] if scale else sorted(evidence.scales)),
        "chosen_by": tuple(f"{rule} ({', '.join(names)})" for rule, names in chosen.items()),
        "data": ", ".join(sorted(evidence.data)),
        "stand_in": "; ".join(sorted(evidence.stand_ins)),
        "experiments": tuple(sorted(evidence.experiments)),
        "measurements": tuple(sorted(evidence.measurements)),
        "commits": tuple(sorted(evidence.commits)),
        "remarks": tuple(sorted(evidence.remarks)),
    }


# ---------------------------------------------------------------- what would make the records


def named(spec: Any, key: str) -> Iterator[str]:
    """Experiments or measurements that a rule's description names, at any depth."""
    if isinstance(spec, Mapping):
        if isinstance(spec.get(key), str):
            yield spec[key]
        for value in spec.values():
            yield from named(value, key)
    elif isinstance(spec, list):
        for value in spec:
            yield from named(value, key)


def missing_commands(spec: Mapping[str, Any], sources: Sources) -> list[str]:
    """Commands that make what a rule lacks, each with its declared cost."""
    found = []
    for name in dict.fromkeys(named(spec, "experiment")):
        try:
            if sources.records.experiment(name).missing:
                found.append(f"python -m scripts.restore {name}")
        except MissingRecordsError:
            found.append(f"python run.py experiment={name}{cost_of(name)}")
        except RecordsError:
            continue  # the reason says what is wrong with them
    for name in dict.fromkeys(named(spec, "measurement")):
        try:
            sources.records.measurement(name)
        except MissingRecordsError:
            found.append(f"python -m scripts.measure {name}")
        except RecordsError:
            continue
    return found


@functools.cache
def cost_of(experiment: str) -> str:
    """The cost that an experiment declares, in words; empty where it declares none."""
    path = PLANS / f"{experiment}.yaml"
    costs = (yaml.safe_load(path.read_text()).get("cost") or {}) if path.is_file() else {}
    words = ", ".join(f"{hours} h at scale={scale}" for scale, hours in costs.items())
    return f" ({words}, on 2 cores)" if words else ""
