"""A rule of a claim, decided from the records: quantities in, a finding and its evidence out."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from analysis.ledger.checks import Spec
from analysis.ledger.leaves import LEAVES, Decision
from analysis.ledger.rules import NOT_REPRODUCED, PARTLY, REPRODUCED, Finding, joint
from analysis.ledger.samples import Evidence, NotTested
from analysis.ledger.sources import Sources
from runners.records import RecordsError


def decide(name: str, spec: Spec, sources: Sources) -> Decision:
    """Decide one rule.

    Args:
        name: of the rule.
        spec: its keys, complete, as `claims.load` returns them.
    Raises:
        RecordsError: if records are missing, damaged, or of mixed versions.
        NotTested: if they cannot decide it; says why.
    """
    return _DECIDE[name](spec, sources)


# ---------------------------------------------------------------- rules made of rules


def _fails(spec: Spec, sources: Sources) -> Decision:
    ((name, inner),) = spec["rule"].items()
    finding, evidence = decide(name, inner, sources)
    turned = {REPRODUCED: NOT_REPRODUCED, NOT_REPRODUCED: REPRODUCED}
    detail = "; ".join(filter(None, [f"claimed not to hold: {name}", finding.detail]))
    verdict = turned.get(finding.verdict, finding.verdict)
    fields = finding.what, finding.center, finding.low, finding.high, finding.n
    return Finding(verdict, *fields, detail, verdict == NOT_REPRODUCED), evidence


def _parts(spec: Spec, sources: Sources) -> tuple[list[Finding], list[str], Evidence, list[str]]:
    """Findings of the parts there are records of, in words, their evidence; and what is missing.

    Raises:
        NotTested: if none of them can be decided.
    """
    found, words, evidence, absent = [], [], Evidence(), []
    for part in spec["parts"]:
        ((name, inner),) = ((key, value) for key, value in part.items() if key != "what")
        try:
            finding, more = decide(name, inner, sources)
        except (RecordsError, NotTested) as error:
            absent.append(f"{part['what']}: not tested, {error}")
            continue
        found.append(finding)
        evidence |= more
        words.append(f"{part['what']}: {finding.verdict} ({finding.text})")
    if not found:
        raise NotTested("; ".join(absent))
    return found, words, evidence, absent


def _all(spec: Spec, sources: Sources) -> Decision:
    found, words, evidence, absent = _parts(spec, sources)
    verdict = joint(found)
    # One verdict is sure whatever is missing: that some of the parts hold and some do not.
    if absent and verdict != PARTLY:
        raise _unsure(words, absent)
    return _of_parts(verdict, found, words, absent), evidence


def _most(spec: Spec, sources: Sources) -> Decision:
    found, words, evidence, absent = _parts(spec, sources)
    held = sum(finding.verdict == REPRODUCED for finding in found)

    def verdict_of(holding: int) -> str:
        if holding >= spec["at_least"]:
            return REPRODUCED
        return PARTLY if holding >= spec.get("partly", spec["at_least"]) else NOT_REPRODUCED

    verdict = verdict_of(held)
    if verdict_of(held + len(absent)) != verdict:
        raise _unsure(words, absent)
    return _of_parts(verdict, found, words, absent), evidence


def _unsure(words: list[str], absent: list[str]) -> NotTested:
    """What is missing could decide it."""
    count = f"{len(words)} of {len(words) + len(absent)} parts tested"
    return NotTested("; ".join([count, *words, *absent]))


def _of_parts(verdict: str, found: list[Finding], words: list[str], absent: list[str]) -> Finding:
    if len(found) == 1 and not absent:
        one = found[0]
        return Finding(verdict, one.what, one.center, one.low, one.high, one.n, one.detail)
    held = sum(finding.verdict == REPRODUCED for finding in found)
    what = f"of {len(found) + len(absent)} parts hold"
    detail = "; ".join([*words, *absent])
    return Finding(verdict, what, held, n=min(finding.n for finding in found), detail=detail)


_DECIDE: Mapping[str, Callable[[Spec, Sources], Decision]] = {
    **LEAVES,
    "fails": _fails,
    "all": _all,
    "most": _most,
}
