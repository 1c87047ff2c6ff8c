import json
import math

import pandas as pd
import pytest

from analysis import compare, summary
from analysis.gathered import Gathered
from runners.records import RecordsError

TARGET = {"metric": "accuracy", "split": "test", "direction": "max", "value": 0.5}


def write(make, root, optimizer, seed, lr, gain=1.0, task="t", status="finished", **manifest):
    """A run whose accuracy grows by `gain` per cent a step, from 10 % and the seed."""
    run_id = f"{optimizer}-{lr}-{seed}-{manifest.get('ended_at', '')}"
    losses = [2.0 - 0.01 * gain * step for step in range(60)]
    steps = [(step, loss, lr, 1.0, 0.01 * step, None) for step, loss in enumerate(losses)]
    evals = [
        (step, step / 10, "test", metric, value, 0.01 * step)
        for step in range(0, 61, 10)
        for metric, value in (("accuracy", 0.1 + 0.01 * (gain * step + seed)), ("loss", 1 / gain))
    ]
    run = make.run(
        root, task, optimizer, run_id, {"steps": steps, "evals": evals}, seed=seed, status=status,
        target=TARGET, **manifest,
    )  # fmt: skip
    text = f"seed: {seed}\noptimizer:\n  lr: {lr}\n  eps: {'1e-8' if optimizer == 'adam' else 0}\n"
    (run / "config.yaml").write_text(text)
    return run


@pytest.fixture
def runs(make, tmp_path):
    """Adam with two rates and SGD, three seeds each."""
    root = tmp_path / "runs"
    for seed in range(3):
        write(make, root, "adam", seed, 0.1, gain=1.0)
        write(make, root, "adam", seed, 0.01, gain=0.5 + 0.01 * seed)
        write(make, root, "sgd", seed, 1.0, gain=0.25)
    return root


def test_what_differs_names_the_curves(runs):
    gathered = Gathered([runs])
    assert list(gathered.labels.values()) == ["Adam, lr 0.01", "Adam, lr 0.1", "SGD"]
    experiment = gathered.gathered
    assert experiment.cases() == ["t"]
    # In the order of the looks, then by size.
    assert [gathered.labels[m] for m in experiment.methods("t")] == [
        "SGD", "Adam, lr 0.01", "Adam, lr 0.1",
    ]  # fmt: skip
    assert len(experiment.runs()) == 9


@pytest.mark.parametrize("places", [["t"], ["t/adam", "t/sgd"], ["", "t/sgd"]])
def test_roots_and_folders_in_them_are_taken_once(runs, places):
    assert len(Gathered([runs / place for place in places]).gathered.final) == 9


def test_where_chooses_runs(runs):
    assert len(Gathered([runs], {"optimizer": "adam", "config.optimizer.lr": "0.1"}).labels) == 1
    assert len(Gathered([runs], {"optimizer.lr": "0.01"}).gathered.final) == 3
    with pytest.raises(RecordsError, match="has nothing called colour"):
        Gathered([runs], {"colour": "red"})
    with pytest.raises(RecordsError, match=r"no finished or diverged run in .* with seed=9"):
        Gathered([runs], {"seed": "9"})


def test_summary_by_hand(runs):
    gathered = Gathered([runs])
    table = summary.summary(gathered.gathered, "t", "accuracy, test", "max", 0.5)
    assert [gathered.labels[m] for m in table["method"]] == ["Adam, lr 0.1", "Adam, lr 0.01", "SGD"]
    best, second, third = table.to_dict("records")
    # Seed 1 is the median: .1 + .01 (60 + 1), and 40 steps take it from .11 to .51.
    assert best["final"] == best["best"] == pytest.approx(0.71)
    assert best["steps_to_target"] == 40
    assert math.isnan(best["behind"])
    assert third["steps_to_target"] == math.inf
    # SGD is behind by .45 on every seed alike; the other rate by .3, .294 and .288.
    assert third["behind"] == pytest.approx(0.45) and third["behind_low"] == pytest.approx(0.45)
    assert second["behind"] == pytest.approx(0.294)
    assert second["behind_low"] == pytest.approx(0.288)
    assert second["behind_high"] == pytest.approx(0.3)
    # Hedges' correction of mean .294 and s.d. .006: Γ(1) / (√1 Γ(1/2)) = 1 / √π.
    assert second["effect"] == pytest.approx(0.294 / 0.006 / math.sqrt(math.pi), rel=1e-6)
    assert second["more_seeds"] == 0


def test_summary_of_the_loss_is_smoothed_and_diverged_runs_are_last(make, runs):
    for seed in range(2):
        write(make, runs, "ggt", seed, 1.0, gain=3.0, status="diverged")
    gathered = Gathered([runs])
    table = summary.summary(gathered.gathered, "t", "loss", "min", 1.7).set_index("method")
    assert table.index[-1] == "ggt"
    assert table.loc["ggt", "final"] == math.inf and table.loc["ggt", "num_diverged"] == 2
    # The mean over the last six of sixty steps.
    assert table["final"].iloc[0] == pytest.approx(2 - 0.01 * 56.5)
    assert table["behind"].iloc[-1] == math.inf
    words = summary.text(table.reset_index(), gathered.labels)
    assert words[-1]["runs"] == "2 (2 diverged)" and words[-1]["final"] == "∞"


def test_command_draws_and_prints(runs, tmp_path, capsys):
    assert compare.main([str(runs), "--out", str(tmp_path / "out"), "--name", "mine"]) == 0
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {*(f"mine.{s}" for s in ("pdf", "png", "svg", "csv")), "mine_table.csv"}
    printed = capsys.readouterr().out
    assert "t: accuracy, test" in printed and "Adam, lr 0.01" in printed and "0.71" in printed
    data = pd.read_csv(tmp_path / "out" / "mine.csv")
    assert set(data["y"]) == {"loss", "accuracy, test"}
    assert set(data["num_runs"]) == {3}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere is not a folder of records"),
        (
            ["RUNS", "--metric", "bleu"],
            "t has no metric bleu; it has: loss; accuracy, test; loss, test",
        ),
        (["RUNS", "--where", "task"], "--where takes KEY=VALUE, got task"),
        (["RUNS", "--where", "task=u"], "no finished or diverged run in"),
    ],
)
def test_mistakes_end_in_one_line(runs, tmp_path, capsys, arguments, message):
    typed = [str(runs) if word == "RUNS" else word for word in arguments]
    assert compare.main([*typed, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_mixed_versions_end_in_one_line(make, runs, tmp_path, capsys):
    write(make, runs, "sgd", 7, 1.0, numerics_versions={"optimizer": 2})
    path = runs / "t" / "sgd" / "sgd-1.0-0-" / "manifest.json"
    manifest = {**json.loads(path.read_text()), "numerics_versions": {"optimizer": 1}}
    path.write_text(json.dumps(manifest))
    assert compare.main([str(runs), "--out", str(tmp_path / "out")]) == 2
    assert "mixes versions in method sgd of case t" in capsys.readouterr().err


def test_a_run_made_again_takes_the_place_of_the_first_and_failed_ones_are_said(make, runs):
    write(make, runs, "sgd", 0, 1.0, gain=9.0, ended_at="2030-01-01")
    write(make, runs, "sgd", 8, 1.0, status="failed")
    gathered = Gathered([runs])
    assert (gathered.num_replaced, gathered.num_unfinished) == (1, 1)
    final = gathered.gathered.final
    chosen = final[(final["method"] == "sgd") & (final["seed"] == 0)]
    assert chosen["run_id"].tolist() == ["sgd-1.0-0-2030-01-01"]


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("loss", ("loss", "min", None)),
        ("accuracy", ("accuracy, test", "max", 0.5)),
        ("loss, test", ("loss, test", "min", None)),
        (None, ("accuracy, test", "max", 0.5)),
    ],
)
def test_metric_and_direction(runs, metric, expected):
    assert compare._metric(Gathered([runs]), "t", metric) == expected


def test_one_optimizers_values_are_shades_in_order(make, tmp_path):
    for lr in (1, 0.1, 10, 0.01):
        write(make, tmp_path / "runs", "ggt", 0, lr, gain=lr)
    gathered, table = compare.compare([tmp_path / "runs"], out=tmp_path / "out")
    assert list(gathered.gathered.methods("t")) == [
        f"ggt_lr {lr}" for lr in ("0.01", "0.1", "1", "10")
    ]
    assert table["behind_low"].isna().all()  # one seed has no interval
