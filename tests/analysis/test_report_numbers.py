"""The numbers of the report: tuning, costs, standings, races."""

from __future__ import annotations

import itertools
import math
import re
import statistics

import pytest

from analysis.load import Records
from analysis.report import evidence, overall, searches
from analysis.report.blocks import block


@pytest.fixture
def records(tmp_path):
    return Records([tmp_path])


@pytest.mark.parametrize("scores", [[3.0, 1.0, 2.0], [5.0, math.inf, 4.0, math.inf], [7.0]])
def test_best_so_far_is_the_median_over_all_orders(scores):
    found = searches.best_so_far(scores)
    for k in range(1, len(scores) + 1):
        best = [min(order[:k]) for order in itertools.permutations(scores)]
        # The lower median: an even number of orders has two middle ones, one of which may be inf.
        assert found[k - 1] == statistics.median_low(best)


def trials_of(scores):
    """Trials of SGD over rates and a momentum; a score of None is a trial that diverged."""
    return [
        {
            "case": "ptb", "method": "sgd", "seed": 100, "score": score, "task": "ptb_lstm",
            "optimizer": "sgd", "run_id": "", "status": "finished", "seconds": 2.0,
            "values": {"optimizer.lr": lr, "optimizer.momentum": momentum},
        }
        for (lr, momentum), score in scores.items()
    ]  # fmt: skip


def test_tuning_shows_each_value_with_its_best_score(make, records, tmp_path):
    path = make.ptb(tmp_path)
    scores = {(0.1, 0): 3.0, (0.1, 0.9): 2.0, (1.0, 0): None, (1.0, 0.9): 5.0}
    document = path.read_text().replace('"trials": []', f'"trials": {as_json(trials_of(scores))}')
    path.write_text(document)
    experiment = records.experiment("ggt_fig3_bottom")
    rate, momentum = searches.tunings(experiment, "ptb")
    assert (rate.key, rate.xs, rate.scores) == ("optimizer.lr", [0.1, 1.0], [2.0, 5.0])
    assert (momentum.key, momentum.xs, momentum.scores) == ("optimizer.momentum", [0, 0.9], [3, 2])
    assert rate.so_far == [3.0, 2.0, 2.0, 2.0]
    assert rate.chosen == 0.1
    assert searches.search_seconds(experiment) == 8.0
    text = block(records, "ggt_fig3_bottom")
    assert "Tuning: 4 trials" in text and "best score so far" in text


def as_json(value):
    import json

    return json.dumps(value)


def test_costs_are_shares_of_the_wall_time(make, records, tmp_path):
    make.ptb(
        tmp_path, wall_seconds=50.0, train_seconds=20.0, steps_done=40, eval_seconds=5.0,
        optimizer_state_bytes=2048,
    )  # fmt: skip
    sgd, ggt = evidence.costs(records.experiment("ggt_fig3_bottom"))
    assert (sgd.method, sgd.step_seconds, sgd.wall_seconds) == ("sgd", 0.5, 50.0)
    assert (ggt.training, ggt.evaluation, ggt.rest) == pytest.approx((0.4, 0.1, 0.5))
    assert ggt.state_bytes == 2048 and ggt.alone


def test_older_runs_that_did_not_time_evaluations_say_so(make, records, tmp_path):
    make.ptb(tmp_path, wall_seconds=50.0, train_seconds=20.0, steps_done=40)
    cost = evidence.costs(records.experiment("ggt_fig3_bottom"))[0]
    assert math.isnan(cost.evaluation) and cost.rest == pytest.approx(0.6)


def test_standings_are_paired_with_the_best(make, records, tmp_path):
    make.fig2(tmp_path)
    first, second, third = evidence.standings(records.experiment("ggt_fig2"), "barrier")
    # On the barrier SGD diverges on one of three instances; the losses of diag are known.
    assert (first.method, second.method, third.method) == ("full_window", "diag", "sgd")
    assert math.isnan(first.difference) and third.num_diverged == 1 and math.isinf(third.high)
    last = [math.exp(-0.2 * step) - math.exp(-5.0 * step) for step in range(36, 40)]
    assert second.difference == pytest.approx(statistics.mean(last))
    assert second.low == pytest.approx(second.high)  # the same difference on every instance


def race(task, losses, steps=None, experiment="e", scale="small"):
    steps = steps or dict.fromkeys(losses, 10.0)
    return evidence.Race(experiment, "a", task, scale, losses, steps)


def test_a_task_counts_once_and_the_common_methods_are_ranked():
    races = [
        race("t1", {"sgd": 1.0, "adam": 2.0}, experiment="a"),
        race("t1", {"sgd": 2.0, "adam": 1.0, "ggt": 0.5}, experiment="b"),
        race("t2", {"sgd": 2.0, "adam": 1.0, "ggt": math.inf}),
        race("t3", {"sgd": 2.0, "adam": 1.0, "ggt": 0.5}),
        race("t4", {"sgd": 1.0, "kfac": 2.0}),
    ]
    tasks = overall.distinct(races)
    assert [(r.task, r.experiment) for r in tasks[:2]] == [("t1", "b"), ("t2", "e")]
    assert overall.common(tasks) == ["sgd", "adam", "ggt"]
    text = overall.overall(races)
    rows = re.findall(r"<tr><td>(.*?)</td><td class=\"n\">(.*?)</td><td class=\"n\">(\d)", text)
    assert rows == [("Adam", "1.67", "1"), ("GGT", "1.67", "2"), ("SGD", "2.67", "0")]
    assert "t4" not in text
    assert "Fewer than 3 tasks" in overall.overall(races[3:])


def test_a_race_needs_two_tuned_methods(make, records, tmp_path):
    make.ptb(tmp_path)
    found = evidence.race(records.experiment("ggt_fig3_bottom"), "ptb")
    assert found.losses["ggt"] < found.losses["sgd"]
    # The loss at which the median method ends lies between the two, so one of them reaches it.
    assert math.isinf(found.steps["sgd"]) and 0 < found.steps["ggt"] < make.num_steps
    make.tasks(tmp_path)
    assert evidence.race(records.experiment("tasks_small"), "first") is None
