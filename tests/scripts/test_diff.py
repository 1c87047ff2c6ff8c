"""The tool that says where two optimizers part."""

import pytest
import torch

from scripts import diff
from scripts.diff import compare, quantity_of

SMALL = ("task=quadratic", "scale=smoke", "num_threads=1", "precision=float64")


@pytest.fixture
def said(capsys):
    """Run the command; its exit status, output and error."""
    threads = torch.get_num_threads()

    def run(*arguments):
        status = diff.main(arguments)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    yield run
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", ["adam", "ggt", "shampoo", "muon"])
def test_the_same_twice_agrees(name, said):
    status, out, err = said(f"optimizer={name}", f"reference={name}", *SMALL, "steps=4", "rtol=0")
    assert (status, err) == (0, "")
    assert out.startswith("they agree over 4 steps (rtol 0); the largest differences:")
    rows = out.splitlines()[3:]
    assert {row.split()[0] for row in rows} >= {"gradient", "update"}
    assert {row.split()[1] for row in rows} == {"0.00e+00"}


def test_another_damping_parts_at_the_root(said):
    both = ("optimizer=shampoo", "reference=shampoo", *SMALL, "optimizer.update_freq=2")
    more = ("reference.update_freq=2", "reference.damping=1e-2")
    status, out, _ = said(*both, *more)
    assert status == 1
    first = out.splitlines()[0]
    assert first.startswith("they part at step 0: root of weight[0].mode")
    rows = [line.split() for line in out.splitlines()[3:]]
    assert {row[0] for row in rows} == {"root", "momentum", "update"}
    assert any(row[0] == "root" and row[-1] == "weight[0].mode0" for row in rows)
    # Both dampings are far below what another tolerance lets pass.
    assert said(*both, *more, "rtol=1")[0] == 0


def test_the_first_step_is_that_of_the_first_difference(said):
    both = ("optimizer=shampoo", "reference=shampoo", *SMALL)
    status, out, _ = said(*both, "optimizer.update_freq=3", "reference.update_freq=4")
    assert status == 1
    # Roots of the first step are alike, and those of the fourth are only renewed in one.
    assert out.startswith("they part at step 3: root of weight[0].mode")


def test_other_statistics_are_named_before_what_follows_from_them(said):
    status, out, _ = said(
        "optimizer=adam", "reference=adam", *SMALL, "reference.betas=[0.9,0.99]", "steps=2"
    )
    assert status == 1
    assert out.startswith("they part at step 0: statistic of weight exp_avg_sq, by 9.00e-01")


def test_what_only_one_keeps_is_said_and_updates_are_compared(said):
    status, out, _ = said("optimizer=adam", "reference=sgd", *SMALL)
    assert status == 1
    assert "only in optimizer: momentum weight exp_avg, statistic weight exp_avg_sq" in out
    assert "they part at step 0: update of weight" in out


def test_a_task_with_carried_state_and_a_schedule(said, fake_sets):
    text = ("task=ptb_lstm", "scale=smoke", "num_threads=1", "schedule=cosine", "accumulate=2")
    same = ("optimizer=adam", "reference=adam", *text, "steps=7")
    assert said(*same, "rtol=0")[0] == 0
    status, out, _ = said(*same, "reference.eps=1e-3")
    assert status == 1 and "they part at step 0: update of" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["optimizer=adam"], "reference=... must name a file of conf/optimizer, got none"),
        (["reference=adam"], "optimizer=... must name a file of conf/optimizer, got none"),
        (["optimizer=adam", "reference=amad"], "unknown optimizer 'amad'"),
        (["optimizer=adam", "reference=adam", "reference.lt=1"], "unknown option 'optimizer.lt'"),
        (["optimizer=adam", "reference=adam", "reference.lr=-1"], "lr must be >= 0, got -1"),
        (["optimizer=adam", "reference=adam", "steps=x"], "steps and rtol must be numbers"),
        (["optimizer=adam", "reference=adam", "steps=0"], "steps must be >= 1 and rtol >= 0"),
    ],
)
def test_mistakes_are_one_line(arguments, message, said):
    status, out, err = said(*arguments, *SMALL)
    assert (status, out) == (2, "")
    assert err.startswith(f"scripts.diff: {message}") and err.count("\n") == 1


def test_help_is_the_usage(said):
    assert said("--help")[0] == 0
    status, out, _ = said()
    assert status == 2 and "python -m scripts.diff optimizer=mine reference=shampoo" in out


def test_tensors_are_compared_by_their_norms():
    a = torch.tensor([3.0, 4.0])
    assert compare(("root", "x"), a, 1.1 * a).relative == pytest.approx(0.1 / 1.1, rel=1e-6)
    assert compare(("root", "x"), a, a.double()).relative == 0
    assert compare(("root", "x"), torch.zeros(2), torch.zeros(2)).relative == 0
    assert compare(("root", "x"), a, a[:1]).relative == float("inf")
    broken = torch.tensor([3.0, float("nan")])
    assert compare(("root", "x"), a, broken).relative == float("inf")
    assert compare(("root", "x"), broken, broken).relative == 0
    assert compare(("update", "x"), a, a + 1e-3, rounding=2e-3).relative == 0


def test_quantities_are_told_by_their_names():
    names = {
        "momentum_buffer": "momentum",
        "exp_avg": "momentum",
        "exp_avg_sq": "statistic",
        "square_avg": "statistic",
        "factor_0": "statistic",
        "root_1": "root",
        "inverse.2": "root",
    }
    assert {name: quantity_of(name) for name in names} == names
