"""The benchmark of whole iterations runs, with renewals where it says so."""

from __future__ import annotations

import pytest
import torch

from scripts import bench_iterations

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_all_three_kinds_are_timed():
    found = bench_iterations.medians(1, depth=8, batch_size=2, device=CPU)
    assert set(found) == {"sgd", "between", "renewal"}
    assert min(found.values()) > 0


@pytest.mark.parametrize(("update_freq", "renews"), [(1, True), (500, False)])
def test_curvature_is_renewed_at_each_iteration_or_at_none_after_the_first(update_freq, renews):
    run = bench_iterations.Training(update_freq, depth=8, batch_size=2, device=CPU)
    assert run.optimizer.wants_samples()
    before = [parameter.clone() for parameter in run.model.parameters()]
    for _ in range(2):
        run.iterate()
        assert run.optimizer.wants_samples() is renews
    after = run.model.parameters()
    assert all(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
