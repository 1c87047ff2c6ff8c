"""Passes whose samples an optimizer records: when, with which weights, and who is refused."""

import contextlib
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from optimizers import NGPlus
from runners.train import add_gradients, check_samples
from tasks.base import CurvatureInfo
from tests.commands import column, command, the_run
from tests.toys import Toy


class Sampled(Toy):
    """A toy that can say what its samples are, and counts how often it is asked."""

    asked = 0

    @contextlib.contextmanager
    def curvature_pass(self, batch):
        self.asked += 1
        weights = torch.full((batch.num_samples,), 1 / batch.num_samples, dtype=torch.float64)
        yield CurvatureInfo(batch.num_samples, 0, weights)


@dataclass
class Steps:
    """The part of a run that passes and steps need."""

    update_freq: int = 3
    accumulate: int = 1
    task: Any = field(default_factory=Sampled)

    def __post_init__(self):
        self.task.setup("cpu", torch.float64)
        self.model = self.task.build_model().double()
        self.parameters = list(self.model.parameters())
        wide = {f"{use}_dtype": "float64" for use in ("statistics", "root", "apply")}
        self.optimizer = NGPlus(
            self.parameters, self.model, lr=0.01, update_freq=self.update_freq, **wide
        )
        self.settings = SimpleNamespace(precision="float64")

    def go(self, num_steps):
        data = (batch for epoch in range(9) for batch in self.task.batches(epoch))
        for _ in range(num_steps):
            self.optimizer.zero_grad()
            add_gradients(self, [next(data) for _ in range(self.accumulate)])
            self.optimizer.step()


@pytest.mark.parametrize("accumulate", [1, 2])
def test_passes_are_recorded_where_the_curvature_is_renewed(accumulate):
    run = Steps(update_freq=3, accumulate=accumulate)
    run.go(7)  # renewed at steps 0, 3 and 6
    assert run.task.asked == 3 * accumulate
    assert not run.model._forward_hooks


def test_all_micro_batches_of_a_step_count():
    """Two micro-batches of the same 5 samples give the L of those 5, their mean the gradient."""
    once, twice = Steps(), Steps(accumulate=2)
    batch = next(once.task.batches(0))
    for run, batches in ((once, [batch]), (twice, [batch, batch])):
        add_gradients(run, batches)
        run.optimizer.step()
    for p, q in zip(once.parameters, twice.parameters, strict=True):
        assert torch.allclose(p, q, rtol=1e-12)
    counted = [gathered.count for gathered in _gathered(twice, [batch, batch])]
    assert counted == [10]


def _gathered(run, batches):
    run.optimizer.state["shared"]["steps"] = 0
    add_gradients(run, batches)
    return list(run.optimizer._pending.values())


def test_gradients_are_the_same_with_and_without_a_record():
    recorded, plain = Steps(), Steps()
    batches = [next(recorded.task.batches(0))]
    plain.optimizer = torch.optim.SGD(plain.parameters, lr=0.1)
    losses = [add_gradients(run, batches) for run in (recorded, plain)]
    assert losses[0] == losses[1]
    for p, q in zip(recorded.parameters, plain.parameters, strict=True):
        assert torch.equal(p.grad, q.grad)
    assert (recorded.task.asked, plain.task.asked) == (1, 0)


def test_a_task_without_samples_is_refused_by_name():
    run = Steps(task=Toy())
    message = (
        "the task must give per-sample information for this optimizer, got Toy, which has none"
    )
    with pytest.raises(ValueError, match=f"^{message}$"):
        check_samples(run.task, run.optimizer)
    assert run.task.seen == []
    check_samples(run.task, torch.optim.SGD(run.parameters, lr=0.1))
    check_samples(Steps().task, run.optimizer)


@pytest.mark.parametrize("extra", [(), ("dry_run=true",)])
def test_the_command_refuses_before_anything_is_left(extra, tmp_path, monkeypatch):
    monkeypatch.setenv("KAPPA_RUNS", str(tmp_path / "runs"))
    result = command("task=quadratic", "optimizer=ng_plus", "scale=smoke", "num_threads=1", *extra)
    assert result.code == 2
    assert result.err.strip().endswith("for this optimizer, got Quadratic, which has none")
    assert len(result.err.strip().splitlines()) == 1
    assert not (tmp_path / "runs" / "quadratic").exists()


def test_a_language_model_is_trained_from_the_command(sets_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("KAPPA_RUNS", str(tmp_path / "runs"))
    small = ("task=ptb_lstm", "scale=smoke", "num_threads=1", "spectra_every=4")
    options = ("optimizer=ng_plus", "optimizer.update_freq=4", "optimizer.lr=0.02", "accumulate=2")
    result = command(*small, *options, sets_dir=sets_dir)
    assert result.code == 0, result.err
    run_dir = the_run(tmp_path / "runs")
    names = column(run_dir, "spectra", "name")
    assert {"embedding.weight", "lstm.weight_hh_l1", "readout.weight"} <= set(names)
    assert set(column(run_dir, "spectra", "staleness")) == {0}
    assert set(column(run_dir, "spectra", "fallbacks")) == {0}
    assert all(residual < 1e-4 for residual in column(run_dir, "spectra", "root_residual"))
