"""The loop's benchmark runs; what it measures is for `make bench`, not for a test."""

from __future__ import annotations

from runners.tracking import NullTracker
from scripts import bench_loop


def test_both_loops_are_timed():
    bare, _ = bench_loop.bare(3)
    seconds, train_seconds, start = bench_loop.kappa(3, NullTracker())
    assert bare > 0
    assert 0 < train_seconds < seconds
    assert start > 0
