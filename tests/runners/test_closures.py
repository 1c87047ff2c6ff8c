"""Optimizers that evaluate the loss themselves are given a closure, and others none."""

import pytest
import torch

from runners.train import update
from tests.commands import command, numbers, the_run

CASES = {
    "logistic": ["task=logistic"],
    # Dropout draws numbers, and the hidden state goes from batch to batch.
    "text": ["task=ptb_lstm", "task.dropout=0.5", "max_steps=4"],
    "accumulated": ["task=ptb_lstm", "task.dropout=0.5", "max_steps=3", "accumulate=2"],
}


@pytest.mark.parametrize("name", CASES)
def test_a_closure_gives_the_same_batch_again_and_leaves_no_trace(name, tmp_path, sets_dir):
    found = {}
    for cls in ("torch.optim.SGD", "tests.toys.Searching"):
        runs_dir = tmp_path / cls
        result = command(
            *CASES[name],
            "optimizer=sgd",
            f"optimizer.cls.path={cls}",
            "scale=smoke",
            "precision=float64",
            "grad_clip=0",
            "num_threads=1",
            "progress=none",
            f"runs_dir={runs_dir}",
            sets_dir=sets_dir,
        )
        assert result.code == 0, result
        found[cls] = numbers(the_run(runs_dir))
    assert found["torch.optim.SGD"] == found["tests.toys.Searching"]


def test_others_are_called_without_one():
    class Plain(torch.optim.SGD):
        def step(self):
            self.stepped = True

    class Run:
        optimizer = Plain([torch.ones(1)], lr=0.1)

    update(Run(), [], {})
    assert Run.optimizer.stepped
