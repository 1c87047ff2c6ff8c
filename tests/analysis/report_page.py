"""Made-up verdicts for tests of the report."""

from __future__ import annotations

import math
from dataclasses import replace

from analysis.ledger.judge import Verdict

VERDICT = Verdict(
    id="G01", paper="GGT", place="§2.1", claim="one is faster than the other", published=None,
    run="P", rule="the interval of the difference", reading="corrected", headline=True,
    verdict="reproduced", center=0.5, low=0.25, high=0.75, n=5, num_runs=10, scale="paper",
    data="ptb", experiments=("ggt_fig3_bottom",),
)  # fmt: skip

# Our numbers are 0.5, 0.25, 10 and none; texts would sort 10 before 2.
VERDICTS = [
    VERDICT,
    replace(VERDICT, id="G02", verdict="not reproduced", center=0.25, n=10, scale="small"),
    replace(VERDICT, id="G10", verdict="partly", center=10.0, n=3, reading="printed"),
    replace(
        VERDICT, id="K01", paper="KrADagrad", verdict="not tested", reading="", n=0, scale="",
        center=math.nan,
        reason="needs a set that is sold", claim="another thing",
        commands=("python run.py experiment=kradagrad_fig9",),
    ),
]  # fmt: skip
