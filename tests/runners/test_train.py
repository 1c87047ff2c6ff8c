"""The loop, through jobs of toy tasks: what is timed, recorded, clipped, averaged, seeded."""

import math

import pytest
import torch

import optimizers
from runners import checkpoint
from runners.job import Job
from runners.lifecycle import run_job
from runners.records import read_manifest, read_table
from runners.schedules import Plateau, Schedule
from runners.settings import Place, Settings
from runners.tracking import NullTracker
from tests.commands import assert_same, column, command, evaluations, numbers, the_run
from tests.toys import Noisy, Toy


def run_toy(tmp_path, task, *, cls=torch.optim.SGD, lr=0.01, schedule=None, quiet=True, **changes):
    """Run a task with an optimizer; its outcome and folder."""
    options = {
        "seed": 0,
        "precision": "float64",
        "device": "cpu",
        "max_steps": task.max_steps,
        "accumulate": 1,
        "grad_clip": 0.0,
        "spectra_every": 1,
        "keep_checkpoint": True,
        "progress": "none",
        "force": True,
    }
    job = Job(
        task=task,
        make_optimizer=lambda model: cls(model.parameters(), lr=lr),
        optimizer_version=0,
        schedule=Schedule({}) if schedule is None else schedule,
        probe=None,
        tracker=NullTracker(),
        settings=Settings(**{**options, **changes}),
        place=Place(runs_dir=tmp_path, task="toy", optimizer="toy", scale="smoke", budget="full"),
        config={},
        describe_groups=optimizers.describe_groups,
        quiet=quiet,
    )
    threads = torch.get_num_threads()
    try:
        outcome = run_job(job)
    finally:
        torch.set_num_threads(threads)
    return outcome, tmp_path / "toy" / "toy" / job.run_id


# ---------------------------------------------------------------- clock and evaluations


def test_train_seconds_count_training_and_no_evaluation(tmp_path):
    task = Toy(evaluate_seconds=0.1, backward_seconds=0.01, evaluate_at=list(range(10)))
    outcome, run_dir = run_toy(tmp_path, task)
    assert outcome.status == "finished"
    seconds = column(run_dir, "steps", "train_seconds")
    assert seconds == sorted(seconds)
    # Ten passes of 10 ms and nothing of the eleven evaluations of 100 ms; a loaded machine may
    # oversleep, but not by half of what the evaluations take.
    assert 0.1 <= seconds[-1] < 0.6
    manifest = read_manifest(run_dir)
    assert manifest["train_seconds"] == seconds[-1]
    assert manifest["wall_seconds"] > 1.1
    assert 1.1 <= manifest["eval_seconds"] <= manifest["wall_seconds"] - manifest["train_seconds"]


@pytest.mark.parametrize(
    "evaluate_at, steps",
    [(1, [0, 10]), (2, [0, 5, 10]), (3, [0, 3, 7, 10]), ([4], [0, 4, 10]), ([10, 99], [0, 10])],
)
def test_evaluations_come_at_their_steps(evaluate_at, steps, tmp_path):
    _, run_dir = run_toy(tmp_path, Toy(evaluate_at=evaluate_at))
    assert sorted(evaluations(run_dir, "score")) == steps
    # An epoch has four batches.
    assert column(run_dir, "evals", "epoch") == [step / 4 for step in steps]


def test_epochs_end_where_they_do(tmp_path):
    task = Toy()
    run_toy(tmp_path, task)
    assert task.epochs_ended == [0, 1]


def test_patience_ends_a_run(tmp_path):
    task = Toy(scores=[3.0, 2.0, 2.5, 2.0, 1.0], evaluate_at=list(range(10)), early_stopping=2)
    outcome, run_dir = run_toy(tmp_path, task)
    # Best at step 1; neither 2.5 at step 2 nor the equal value at step 3 is better.
    assert (outcome.status, outcome.value, outcome.last) == ("finished", 2.0, 2.0)
    manifest = read_manifest(run_dir)
    assert (manifest["steps_done"], manifest["best"]["step"]) == (3, 1)
    assert sorted(evaluations(run_dir, "score")) == [0, 1, 2, 3]
    assert checkpoint.load(run_dir)["step"] == 3


def test_a_metric_that_is_no_number_at_the_end_is_a_divergence(tmp_path):
    outcome, _ = run_toy(tmp_path, Toy(scores=[1.0, 0.5, math.nan]))
    assert (outcome.status, outcome.value) == ("diverged", 0.5)


def test_the_last_parameters_are_averaged(tmp_path):
    every = list(range(10))
    _, plain = run_toy(tmp_path / "plain", Toy(evaluate_at=every))
    _, averaged = run_toy(tmp_path / "averaged", Toy(evaluate_at=every, average_last=3))
    values, found = evaluations(plain, "score"), evaluations(averaged, "score")
    assert [found[step] for step in every] == [values[step] for step in every]
    # After steps 8, 9 and 10. A running mean rounds otherwise than a sum.
    expected = (values[8] + values[9] + values[10]) / 3
    assert found[10] == pytest.approx(expected, rel=1e-14)
    assert found[10] != values[10]
    assert_same(checkpoint.load(plain)["model"], checkpoint.load(averaged)["model"])


# ---------------------------------------------------------------- gradients


def test_clipping_cuts_the_step_and_not_the_recorded_norm(tmp_path):
    _, free = run_toy(tmp_path / "free", Toy())
    _, cut = run_toy(tmp_path / "cut", Toy(), grad_clip=0.5)
    norm, changes = column(cut, "steps", "grad_norm"), column(cut, "steps", "update_norm")
    assert norm[0] == pytest.approx(column(free, "steps", "grad_norm")[0], rel=1e-12)
    assert max(norm) > 0.5
    for before, change in zip(norm, changes, strict=True):
        # torch divides by norm + 1e-6, and the change is a difference of parameters of size 1.
        assert change == pytest.approx(0.01 * min(before, 0.5), rel=1e-5)
    assert column(free, "steps", "update_norm") == pytest.approx(
        [0.01 * value for value in column(free, "steps", "grad_norm")], rel=1e-9
    )


def test_spectra_and_update_norms_come_at_their_interval(tmp_path):
    asked = ("task=logistic", "optimizer=ggt", "scale=smoke", "num_threads=1")
    assert command(*asked, "spectra_every=6", f"runs_dir={tmp_path / 'six'}").code == 0
    run_dir = the_run(tmp_path / "six")
    known = [value is not None for value in column(run_dir, "steps", "update_norm")]
    assert [step for step in range(20) if known[step]] == [0, 6, 12, 18]
    assert column(run_dir, "spectra", "step") == [0, 6, 12, 18]
    assert [len(v) for v in column(run_dir, "spectra", "eigenvalues")] == [1, 7, 13, 19]
    assert command(*asked, "spectra_every=0", f"runs_dir={tmp_path / 'none'}").code == 0
    run_dir = the_run(tmp_path / "none")
    assert column(run_dir, "steps", "update_norm") == [None] * 20
    assert read_table(run_dir, "spectra").num_rows == 0


def test_a_probe_records_the_same_quantity_for_any_optimizer(tmp_path):
    asked = ("task=logistic", "optimizer=adam", "scale=smoke", "num_threads=1")
    probe = ("probe=gradient_window", "probe.window=4", "probe.every=5")
    for name, more in (("with", probe), ("without", ())):
        assert command(*asked, *more, f"runs_dir={tmp_path / name}").code == 0
    run_dir = the_run(tmp_path / "with")
    assert column(run_dir, "spectra", "step") == [0, 5, 10, 15]
    assert [len(v) for v in column(run_dir, "spectra", "eigenvalues")] == [1, 4, 4, 4]
    # The Gram matrix of one gradient is its squared norm; both in float32.
    (first,) = column(run_dir, "spectra", "eigenvalues")[0]
    assert first == pytest.approx(column(run_dir, "steps", "grad_norm")[0] ** 2, rel=1e-5)
    before, after = numbers(the_run(tmp_path / "without")), numbers(run_dir)
    assert (before["steps"], before["evals"]) == (after["steps"], after["evals"])


def test_micro_batches_make_the_step_of_one_batch(tmp_path):
    asked = ("task=logistic", "optimizer=sgd", "optimizer.lr=5", "scale=smoke", "num_threads=1")
    asked += ("precision=float64", "checkpoint.keep=true", "spectra_every=0")
    for size, more in ((100, ()), (20, ("accumulate=5",))):
        split = (f"task.batch_size={size}", f"runs_dir={tmp_path / str(size)}")
        assert command(*asked, *split, *more).code == 0
    whole, parts = the_run(tmp_path / "100"), the_run(tmp_path / "20")
    for name in ("loss", "grad_norm"):
        # The sums are in another order: 20 steps of rounding in float64.
        expected = pytest.approx(column(whole, "steps", name), rel=1e-11)
        assert column(parts, "steps", name) == expected
    one, other = (checkpoint.load(x)["model"]["weight"] for x in (whole, parts))
    assert torch.allclose(one, other, rtol=1e-11, atol=0)
    assert read_manifest(parts)["steps_per_epoch"] == read_manifest(whole)["steps_per_epoch"] == 10


# ---------------------------------------------------------------- schedules, precision


def test_the_schedule_drives_what_is_recorded(tmp_path):
    asked = ("task=logistic", "optimizer=sgd", "scale=smoke", "num_threads=1")
    cosine = ("schedule=cosine", "schedule.rules.lr.shape.floor=0.1", "optimizer.lr=2")
    assert command(*asked, *cosine, f"runs_dir={tmp_path}").code == 0
    expected = [2 * (0.1 + 0.9 * (1 + math.cos(math.pi * t / 20)) / 2) for t in range(20)]
    assert column(the_run(tmp_path), "steps", "lr") == pytest.approx(expected, rel=1e-14)


def test_a_plateau_lowers_the_rate_for_good(tmp_path):
    task = Toy(scores=[1.0], evaluate_at=list(range(10)))
    shape = Plateau(factor=0.5, patience=2, threshold=1e-4, minimum=0.2)
    schedule = Schedule({"lr": {"by": "step", "shape": shape}})
    _, run_dir = run_toy(tmp_path, task, schedule=schedule, lr=0.01)
    rates = column(run_dir, "steps", "lr")
    assert rates[0] == 0.01 and rates[-1] == 0.2 * 0.01
    assert rates == sorted(rates, reverse=True)
    assert set(rates) == {0.01, 0.005, 0.0025, 0.002}


def test_autocast_keeps_the_weights_in_float32(tmp_path, fake_sets):
    asked = ("task=ptb_lstm", "optimizer=adam", "scale=smoke", "num_threads=1", "max_steps=3")
    losses = {}
    for precision in ("float32", "bf16_autocast"):
        more = (
            f"precision={precision}",
            "checkpoint.keep=true",
            f"runs_dir={tmp_path / precision}",
        )
        assert command(*asked, *more, sets_dir=fake_sets).code == 0
        run_dir = the_run(tmp_path / precision)
        assert {t.dtype for t in checkpoint.load(run_dir)["model"].values()} == {torch.float32}
        losses[precision] = column(run_dir, "steps", "loss")
    assert losses["float32"] != losses["bf16_autocast"]
    # bfloat16 has 8 bits: the logits, below 1 here, are off by up to 2^-9.
    assert losses["bf16_autocast"] == pytest.approx(losses["float32"], rel=1e-2)


# ---------------------------------------------------------------- seeds


def test_two_optimizers_start_alike_and_see_the_same_batches(tmp_path):
    plain, noisy = Toy(max_steps=9), Toy(max_steps=9)
    _, first = run_toy(tmp_path / "plain", plain)
    _, second = run_toy(tmp_path / "noisy", noisy, cls=Noisy)
    assert_same(plain.starts, noisy.starts)
    assert len(plain.seen) == 9
    assert_same(plain.seen, noisy.seen)
    losses = [column(x, "steps", "loss") for x in (first, second)]
    assert losses[0][0] == losses[1][0]
    assert losses[0][1:] != losses[1][1:]


def test_dropout_masks_are_those_of_the_step(tmp_path, fake_sets):
    asked = ("task=ptb_lstm", "task.dropout=0.5", "scale=smoke", "num_threads=1")
    losses = {}
    # At a rate of 0 both keep the first parameters, so that every loss shows its step's mask.
    for name in ("torch.optim.SGD", "tests.toys.Noisy"):
        more = (f"optimizer.cls.path={name}", "optimizer.lr=0", f"runs_dir={tmp_path / name}")
        assert command(*asked, *more, sets_dir=fake_sets).code == 0
        losses[name] = column(the_run(tmp_path / name), "steps", "loss")
    assert losses["torch.optim.SGD"] == losses["tests.toys.Noisy"]
    more = ("task.dropout=0", "optimizer.lr=0", f"runs_dir={tmp_path / 'without'}")
    assert command(*asked, *more, sets_dir=fake_sets).code == 0
    assert column(the_run(tmp_path / "without"), "steps", "loss") != losses["torch.optim.SGD"]


def test_an_optimizer_that_draws_gives_the_same_run_again(tmp_path):
    runs = [run_toy(tmp_path / name, Toy(), cls=Noisy)[1] for name in ("one", "two")]
    assert numbers(runs[0]) == numbers(runs[1])
    _, other = run_toy(tmp_path / "seed", Toy(), cls=Noisy, seed=1)
    assert numbers(other) != numbers(runs[0])


def test_the_preflight_changes_nothing(tmp_path, capsys):
    _, quiet = run_toy(tmp_path / "quiet", Toy(), cls=Noisy)
    _, said = run_toy(tmp_path / "said", Toy(), cls=Noisy, quiet=False)
    assert "4 parameters, 10 steps" in capsys.readouterr().err
    assert numbers(quiet) == numbers(said)
    assert_same(checkpoint.load(quiet)["model"], checkpoint.load(said)["model"])


def test_the_number_of_threads_is_that_of_the_first_part(tmp_path):
    stopped, run_dir = run_toy(tmp_path, Toy(stop_at=4), num_threads=2, force=False)
    assert stopped.status == "interrupted"
    assert read_manifest(run_dir)["steps_done"] == 4
    resumed, run_dir = run_toy(tmp_path, Toy(), num_threads=1, force=False)
    assert resumed.status == "finished"
    # It changes sums, so the run goes on with it.
    assert read_manifest(run_dir)["num_threads"] == 2
    assert column(run_dir, "steps", "step") == list(range(10))
