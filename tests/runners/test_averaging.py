"""Parameters averaged at the end of a run: which they are, and that a cut changes nothing."""

import signal

import pytest

from runners import checkpoint
from runners.records import read_manifest
from tests.commands import assert_same_run, command, evaluations, start, the_run, wait_until
from tests.runners.test_train import run_toy
from tests.toys import Toy

EVERY = list(range(10))


def scores(tmp_path, name, **averaging):
    """First weight at every step, and at the end whatever is averaged of it."""
    _, run_dir = run_toy(tmp_path / name, Toy(evaluate_at=EVERY, **averaging))
    return evaluations(run_dir, "score")


@pytest.mark.parametrize(
    ("averaging", "steps"),
    [
        ({"average_last": 3}, [8, 9, 10]),
        ({"average_last": 3, "average_every": 1}, [8, 9, 10]),
        ({"average_last": 3, "average_every": 4}, [2, 6, 10]),
        ({"average_last": 1, "average_every": 7}, [10]),
        ({"average_last": 2, "average_every": 9}, [1, 10]),
    ],
)
def test_steps_are_counted_back_from_the_last(averaging, steps, tmp_path):
    plain = scores(tmp_path, "plain")
    found = scores(tmp_path, "averaged", **averaging)
    # A running mean rounds otherwise than a sum.
    expected = sum(plain[step] for step in steps) / len(steps)
    assert found[10] == pytest.approx(expected, rel=1e-14)
    assert [found[step] for step in EVERY] == [plain[step] for step in EVERY]


def test_a_shorter_budget_ends_its_own_average(tmp_path):
    plain = scores(tmp_path, "plain")
    task = Toy(evaluate_at=EVERY, average_last=2, average_every=3)
    _, run_dir = run_toy(tmp_path / "short", task, max_steps=7)
    assert evaluations(run_dir, "score")[7] == pytest.approx((plain[4] + plain[7]) / 2, rel=1e-14)


@pytest.mark.parametrize("more", [[], ["dry_run=true"]])
def test_an_average_longer_than_the_run_is_refused(more, tmp_path):
    options = ["task=logistic", "max_steps=12", "task.average_last=3", "+task.average_every=6"]
    result = command(*options, "tracking=none", f"runs_dir={tmp_path}/runs", *more)
    assert result.code == 2
    # Step 0 is no parameter that training has made.
    assert result.err.strip() == (
        "run.py: (average_last - 1) * average_every must be < 12, the steps of the run, got "
        "(3 - 1) * 6: set task.average_every, or task.average_last=0"
    )
    assert not list(tmp_path.rglob("manifest.json"))


def test_a_run_of_unknown_length_is_not_averaged():
    from runners.averaging import check_average

    with pytest.raises(ValueError, match="average_last must be 0 with early_stopping=3, got 2"):
        check_average(Toy(average_last=2, early_stopping=3), 12)


def test_statistics_of_a_layer_are_not_averaged_silently():
    from hydra.utils import instantiate

    import run
    from runners.averaging import check_average

    def made(last):
        options = ["task=cifar10_shakeshake", "scale=smoke", f"task.average_last={last}"]
        return instantiate(run.compose(options).task)

    check_average(made(0), 12)
    with pytest.raises(ValueError, match="average_last must be 0 for a model with BatchNorm2d"):
        check_average(made(2), 12)


def test_the_interval_is_an_integer_of_at_least_one():
    with pytest.raises(ValueError, match="average_every must be >= 1, got 0"):
        Toy(average_every=0)


def test_a_kill_between_two_of_them_changes_nothing(tmp_path):
    cut, uncut = tmp_path / "cut", tmp_path / "uncut"
    options = [
        "task=logistic", "optimizer=adam", "max_steps=400", "tracking=none", "num_threads=1",
        "checkpoint.steps=30", "checkpoint.keep=true", "+task.average_every=60",
        "task.average_last=5",
    ]  # fmt: skip
    assert command(*options, f"runs_dir={uncut}").code == 0
    process = start(*options, f"runs_dir={cut}", output=tmp_path / "out")

    def saved():
        folders = list(cut.glob("*/*/*/manifest.json"))
        return bool(folders) and checkpoint.load(folders[0].parent) is not None

    wait_until(saved, process)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL, (tmp_path / "out").read_text()
    assert read_manifest(the_run(cut))["status"] == "interrupted"
    assert command(*options, f"runs_dir={cut}").code == 0
    assert_same_run(the_run(cut), the_run(uncut))
    averaged = checkpoint.load(the_run(cut))["averaged"]
    assert averaged["n_averaged"].item() == 5
