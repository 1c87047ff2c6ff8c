"""The benchmark of whole iterations runs, with renewals where it says so."""

from __future__ import annotations

import csv

import pytest
import torch

from scripts import bench_iterations
from scripts.bench_iterations import K_FAC, NG_PLUS, SGD, Method, Training, bench, methods

CPU = torch.device("cpu")
SMALL = {"depth": 8, "batch_size": 2, "device": CPU}


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def method_of(name: str) -> Method:
    return next(method for method in methods(CPU) if method.name == name)


def test_all_methods_are_timed_and_divided():
    rows = bench(methods(CPU), 3, **SMALL)
    assert [row.optimizer for row in rows] == [SGD, NG_PLUS, K_FAC]
    assert rows[0].over_sgd == 1 and rows[0].timing.shares == {}
    for row in rows[1:]:
        shares = row.timing.shares
        assert set(shares) == {"statistics", "roots", "application"}
        assert min(shares["roots"], shares["application"]) > 0 and sum(shares.values()) < 1
        assert row.timing.worst > row.timing.amortised > 0
        assert row.timing.state_bytes > rows[0].timing.state_bytes > 0


def test_on_cuda_some_apply_in_bfloat16():
    names = [method.name for method in methods(torch.device("cuda"))]
    assert f"{NG_PLUS}, bfloat16 application" in names and f"{K_FAC}, bfloat16 application" in names


@pytest.mark.parametrize("name", [NG_PLUS, K_FAC])
@pytest.mark.parametrize("renews", [True, False])
def test_everything_is_renewed_at_each_iteration_or_at_none_after_the_first(name, renews):
    run = Training(method_of(name), renews, **SMALL)
    assert run.optimizer.wants_samples()
    before = [parameter.clone() for parameter in run.model.parameters()]
    for _ in range(2):
        run.iterate()
        assert run.optimizer.wants_samples() is renews
    assert (run.in_roots[1] > 0) is renews
    after = run.model.parameters()
    assert all(not torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_a_mean_iteration_has_its_part_of_each_renewal():
    method = Method("some", lambda model, **_: torch.optim.SGD(model.parameters()), {})
    between, renewal = (Training(method, renews, **SMALL) for renews in (False, True))
    between.seconds, between.in_step = [9.0, 1.0, 1.0], [9.0, 0.2, 0.2]
    renewal.seconds, renewal.in_roots = [9.0, 5.0, 5.0], [9.0, 3.0, 3.0]
    periods = {"statistics_freq": 10, "update_freq": 100}
    timing = bench_iterations.timing_of(Method("some", None, periods), between, renewal)
    assert timing.amortised == pytest.approx(1 + 1 / 10 + 3 / 100)
    assert timing.worst == 5
    assert timing.shares["statistics"] == pytest.approx(0.1 / timing.amortised)
    assert timing.shares["application"] == pytest.approx(0.2 / timing.amortised)
    together = bench_iterations.timing_of(
        Method("some", None, {"update_freq": 4}), between, renewal
    )
    assert together.amortised == pytest.approx(1 + 4 / 4)


def test_rows_are_written(monkeypatch, tmp_path, capsys):
    run = bench_iterations.bench

    def small(found, *sizes):
        return run(found, 1, 8, 2, CPU)

    monkeypatch.setattr(bench_iterations, "bench", small)
    assert bench_iterations.main(["--out", str(tmp_path)]) in (0, 1)
    with (tmp_path / "iterations_cpu.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["optimizer"] for row in rows] == [SGD, NG_PLUS, K_FAC]
    assert all(int(row["state_bytes"]) > 0 for row in rows)
    text = (tmp_path / "iterations_cpu.md").read_text()
    assert NG_PLUS in text and f"{NG_PLUS} iteration over SGD's" in capsys.readouterr().out
