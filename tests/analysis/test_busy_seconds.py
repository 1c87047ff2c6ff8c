"""Seconds of runs beside which other processes were at work are drawn by no figure."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis.panels import why_not_comparable

RUN = {"timing": "exclusive", "num_threads": 1, "hardware.fingerprint": "f0", "device": "cpu"}


@pytest.mark.parametrize(
    ("load", "reason"),
    [
        ({}, ""),  # records from before it was recorded
        ({"load.other_cores": 0.5}, ""),
        ({"load.other_cores": 0.8}, "other processes used up to 0.8 cores beside the runs"),
        ({"load.begin": 0.2, "load.end": 1.4, "load.other_cores": None}, ""),
        ({"load.begin": 0.2, "load.end": 2.0}, "other processes used up to 1 cores"),
    ],
)
def test_why_not_comparable(load, reason):
    runs = pd.DataFrame([RUN, {**RUN, **load}])  # of the first nothing is recorded: nan
    assert why_not_comparable(runs).startswith(reason)
    assert bool(why_not_comparable(runs)) == bool(reason)


def test_no_runs_at_all():
    assert why_not_comparable(pd.DataFrame(columns=list(RUN))) == ""
