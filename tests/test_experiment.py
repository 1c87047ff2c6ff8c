"""Experiments in two stages: what is asked for, what is chosen, how it goes on."""

import json
import math
import shutil

import pytest

import run
from runners.experiment import choose, run_experiment
from runners.plan import make_plan, points
from runners.pool import run_requests
from runners.selection import FinalTrainingLoss
from runners.settings import Outcome
from tests.commands import command


class Score:
    """Scores by the seed and the learning rate in a run's folder name."""

    rule = "the least made-up score"

    def __call__(self, run_dir):
        return float(run_dir.name.split("_")[-1])


def yaml_of(**changes):
    experiment = {
        "name": "toy",
        "common": {"scale": "smoke"},
        "cases": {"left": {"task": "logistic"}, "right": {"task": "barrier"}},
        "methods": {
            "sgd": {"optimizer": "sgd"},
            "adam": {"optimizer": "adam", "grid": {"optimizer.lr": [3, 4, 5]}},
        },
        "search": {"grid": {"optimizer.lr": [1, 2, 3]}, "seeds": [100, 101]},
        "final": {"seeds": [0, 1], "overrides": {"timing": "exclusive"}},
    }
    return {**experiment, **changes}


def plan_of(extra=None, **changes):
    return make_plan(yaml_of(**changes), Score(), extra or {})


def answer(request, status="finished", score=None):
    lr = request.overrides["optimizer.lr"]
    score = (lr - 2) ** 2 + request.seed * 1e-3 if score is None else score
    names = {"task": request.overrides["task"], "optimizer": request.overrides["optimizer"]}
    return Outcome(status, **names, run_id="id", run_dir=f"runs/x_{score}", record_status=status)


def test_overrides_win_in_order():
    plan = plan_of({"scale": "small", "optimizer.lr": "9"})
    (first, *_), final = plan.trials(), plan.finals([])
    assert final == []
    assert first.overrides == {
        "scale": "small", "task": "logistic", "optimizer": "sgd", "optimizer.lr": "9", "seed": 100,
    }  # fmt: skip
    choice = [{"case": "right", "method": "adam", "values": {"optimizer.lr": 4}}]
    (one, two) = plan_of().finals(choice)
    assert (one.seed, two.seed) == (0, 1)
    assert one.overrides == {
        "scale": "smoke", "task": "barrier", "optimizer": "adam", "timing": "exclusive",
        "optimizer.lr": 4, "seed": 0,
    }  # fmt: skip
    assert len(plan.trials()) == 2 * 2 * 3 * 2


def test_what_a_yaml_tells_of_an_experiment_is_in_its_index(tmp_path):
    facts = {"cost": {"small": 0.4}, "stand_in": "toys for sets", "shipped": False}

    def run_all(requests, stage):
        return [answer(request) for request in requests]

    index = run_experiment(plan_of(**facts), tmp_path, run_all, "", Score.rule)
    assert {key: index[key] for key in facts} == facts
    # An outcome without records, as these made-up ones are, has unknown seconds.
    assert {(e["seconds"], e["train_seconds"]) for e in index["final"]} == {(None, None)}
    silent = run_experiment(plan_of(), tmp_path, run_all, "", Score.rule)
    assert (silent["cost"], silent["stand_in"], silent["shipped"]) == ({}, None, True)


@pytest.mark.parametrize(
    "wrong", [{"cost": 3}, {"cost": {"small": 0}}, {"cost": {"small": "an hour"}},
              {"stand_in": ["a"]}, {"shipped": "no"}],
)  # fmt: skip
def test_a_wrong_fact_is_named(wrong):
    (key,) = wrong
    with pytest.raises(ValueError, match=f"experiment toy: {key} must be"):
        plan_of(**wrong)


def test_points_are_all_combinations():
    assert points({"a": [1, 2], "b": [3]}) == [{"a": 1, "b": 3}, {"a": 2, "b": 3}]
    assert points({}) == [{}]


def test_every_method_gets_the_same_number_of_trials():
    methods = {"sgd": {}, "adam": {"grid": {"optimizer.lr": [1]}}}
    with pytest.raises(ValueError, match=r"toy: methods differ in trials: .*'sgd': 3, 'adam': 1"):
        plan_of(methods=methods)


def test_nothing_is_tuned_on_what_is_reported():
    with pytest.raises(ValueError, match=r"seeds \{101\} are in both stages"):
        plan_of(final={"seeds": [0, 101]})


def test_without_a_search_each_method_has_its_own_values(tmp_path):
    methods = {"sgd": {"optimizer": "sgd", "optimizer.lr": 7}, "adam": {"optimizer": "adam"}}
    plan = make_plan(yaml_of(search=None, methods=methods), None, {"optimizer.lr": 2})
    asked = []

    def run_all(requests, stage):
        asked.append((stage, len(requests)))
        return [answer(request) for request in requests]

    index = run_experiment(plan, tmp_path, run_all, "", "")
    assert asked == [("search", 0), ("final", 8)]
    assert index["status"] == "finished" and index["trials"] == []
    assert {(c["score"], c["num_trials"], c["at_edge"]) for c in index["choice"]} == {
        (None, 0, False)
    }
    with pytest.raises(ValueError, match=r"a grid must come with search.seeds"):
        plan_of(search=None)


def test_the_least_mean_score_is_chosen_and_kept(tmp_path):
    plan, stages = plan_of(), []

    def run_all(requests, stage):
        stages.append((stage, len(requests)))
        return [answer(request) for request in requests]

    index = run_experiment(plan, tmp_path, run_all, "python run.py experiment=toy", Score.rule)
    assert stages == [("search", 24), ("final", 8)]
    assert json.loads((tmp_path / "experiments" / "toy.json").read_text()) == index
    assert index["status"] == "finished"
    chosen = {(c["case"], c["method"]): c for c in index["choice"]}
    assert len(chosen) == 4
    # (lr - 2)^2 has its least value inside sgd's grid and at the edge of adam's.
    assert chosen["left", "sgd"]["values"] == {"optimizer.lr": 2}
    assert not chosen["left", "sgd"]["at_edge"]
    assert chosen["right", "adam"]["values"] == {"optimizer.lr": 3}
    assert chosen["right", "adam"]["at_edge"]
    # The mean over seeds 100 and 101, whose share is 0.1005; six decimals survive a folder's name.
    assert chosen["left", "sgd"]["score"] == pytest.approx(0.1005, abs=1e-9)
    assert chosen["left", "sgd"]["num_trials"] == 6
    assert {run["values"]["optimizer.lr"] for run in index["final"]} == {2, 3}


@pytest.mark.parametrize(
    "status, score", [("diverged", 0.0), ("failed", 0.0), ("finished", math.nan)]
)
def test_a_point_with_a_bad_trial_is_not_eligible(status, score, tmp_path):
    def run_all(requests, stage):
        def one(request):
            bad = stage == "search" and request.values["optimizer.lr"] == 2 and request.seed == 101
            return answer(request, status, score) if bad else answer(request)

        return [one(request) for request in requests]

    index = run_experiment(plan_of(), tmp_path, run_all, "", Score.rule)
    chosen = {(c["case"], c["method"]): c["values"]["optimizer.lr"] for c in index["choice"]}
    assert chosen["left", "sgd"] in (1, 3)
    assert index["status"] == "finished"  # a run that fails is counted, and holds nothing up
    bad = [t for t in index["trials"] if t["score"] is None]
    assert {t["status"] for t in bad} == {status}


def test_a_method_without_a_finished_trial_is_an_error():
    plan = plan_of()
    with pytest.raises(ValueError, match="no trial of sgd on left finished"):
        choose(plan, [])


def untimed(index):
    def without(entries):
        return [{k: v for k, v in e.items() if not k.endswith("seconds")} for e in entries]

    return {**index, "trials": without(index["trials"]), "final": without(index["final"])}


def test_an_experiment_goes_on_where_it_was_cut(tmp_path):
    # timing=exclusive: one after the other, in this process.
    extra = {"max_steps": 2, "num_threads": 1, "timing": "exclusive", "runs_dir": str(tmp_path)}
    cases = {"left": {"task": "quadratic"}}
    plan = make_plan(yaml_of(cases=cases), FinalTrainingLoss(), extra)

    def make():
        return run_experiment(
            plan,
            tmp_path,
            lambda requests, stage: run_requests(run.compose_and_run, plan, requests, stage),
            command="",
            rule="",
        )

    index = make()
    assert index["status"] == "finished", index
    made = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/*/*/manifest.json")}
    # The search of 2 methods x 3 rates x 2 seeds, and 2 x 2 final runs.
    assert len(made) == len({t["run_id"] for t in index["trials"] + index["final"]}) == 16
    assert all(0 < e["train_seconds"] < e["seconds"] for e in index["trials"] + index["final"])
    gone = sorted(made)[:3]
    for path in gone:
        shutil.rmtree(path.parent)
    assert untimed(make()) == untimed(index)
    again = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/*/*/manifest.json")}
    assert again.keys() == made.keys()
    assert {p for p in made if again[p] != made[p]} == set(gone)


def test_a_stopped_run_stops_the_experiment():
    plan, asked = plan_of({"timing": "exclusive"}), []

    def compose_and_run(overrides, name, workers):
        asked.append(overrides)
        status = "interrupted" if len(asked) == 2 else "finished"
        return {"status": status, "task": "logistic", "optimizer": "sgd"}

    with pytest.raises(KeyboardInterrupt):
        run_requests(compose_and_run, plan, plan.trials(), "search")
    assert len(asked) == 2
    assert "seed=100" in asked[0] and "timing=exclusive" in asked[0]


def test_an_experiment_that_cannot_be_is_one_line(tmp_path):
    result = command("experiment=ggt_fig2", "scale=smok", f"runs_dir={tmp_path / 'runs'}")
    assert result.code == 2
    assert len(result.err.splitlines()) == 1
    assert "smok" in result.err
    assert not (tmp_path / "runs").exists()
