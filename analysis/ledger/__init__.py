"""The ledger: every published claim, its rule, and the verdict that our records give it.

`judge_all(records)` returns the verdicts, `python -m analysis.ledger` writes REPRODUCTION.md.
"""

from __future__ import annotations

from analysis.ledger.claims import Claim, ClaimsError, load
from analysis.ledger.judge import Verdict, judge_all
from analysis.ledger.rules import NOT_REPRODUCED, NOT_TESTED, PARTLY, REPRODUCED, VERDICTS

__all__ = [
    "NOT_REPRODUCED", "NOT_TESTED", "PARTLY", "REPRODUCED", "VERDICTS", "Claim", "ClaimsError",
    "Verdict", "judge_all", "load",
]  # fmt: skip
