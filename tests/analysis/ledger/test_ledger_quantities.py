"""What quantities take from runs and measurements, and what may not be mixed in them."""

from __future__ import annotations

import math
import shutil

import numpy as np
import pytest

from analysis.ledger.quantities import evaluate
from analysis.ledger.samples import NotTested
from analysis.ledger.sources import Sources
from analysis.load import Records
from runners.records import spectrum_row

LOSSES = [100.0 - i for i in range(100)]  # loss 100 - i at step i, before the step


def spec(take: str, method: str = "a", **more) -> dict:
    return {"experiment": "e", "case": "c", "method": method, "take": take, **more}


@pytest.fixture
def value(bench):
    """Writes one method on three seeds with the losses, and gives what is taken of seed 0."""

    def take(name: str, losses=LOSSES, diverged=False, more=None, **options):
        shutil.rmtree(bench.root / "quadratic", ignore_errors=True)
        status = {("a", seed): "diverged" for seed in range(3)} if diverged else None
        methods = {"a": dict.fromkeys(range(3), losses)}
        bench.runs("e", methods, status=status, **(more or {}))
        sample = evaluate(spec(name, **options), Sources(Records([bench.root])))
        assert sample.labels == (0, 1, 2)
        return sample.values[0] if sample.curves is None else sample.curves[0]

    return take


@pytest.mark.parametrize(
    ("take", "options", "expected"),
    [
        ("final_loss", {}, 5.5),  # mean of 10, 9, ..., 1
        ("final_loss", {"fraction": 0.5}, 25.5),
        ("mean_loss", {}, 50.5),
        ("least_loss", {}, 1.0),
        ("greatest_loss", {}, 100.0),
        ("loss_at", {"step": 100}, 1.5),  # over 2 of the 100 steps
        ("loss_at", {"at": 0.05}, 96.5),
        ("noise", {}, 0.0),
        ("steps_to", {"target": 50.5}, 51.0),
        ("steps_to", {"target": 0.5}, math.inf),
        ("seconds_to", {"target": 50.5}, 5.1),
        ("step_seconds", {}, 0.1),
        ("fact", {"key": "max_steps"}, 100.0),
    ],
)
def test_numbers_of_a_run(value, take, options, expected):
    # Times are sums of .1, so their differences are off by the last bits.
    assert value(take, **options) == pytest.approx(expected, abs=1e-12)


def test_suboptimality_subtracts_the_optimum(value):
    facts = {"task_facts": {"optimum": 0.5}}
    assert value("final_loss", suboptimality=True, more=facts) == pytest.approx(5.0)


def test_a_diverged_run_has_numbers_only_before_it_diverged(value):
    losses = [*LOSSES[:20], math.nan]
    for take in ("final_loss", "mean_loss", "least_loss", "greatest_loss", "noise"):
        assert math.isnan(value(take, losses, diverged=True))
    assert math.isnan(value("loss_at", losses, diverged=True, step=50))
    assert value("loss_at", losses, diverged=True, step=20) == pytest.approx(81.5)
    assert value("steps_to", losses, diverged=True, target=90.0) == 12
    assert value("steps_to", losses, diverged=True, target=70.0) == math.inf


def test_curves_end_with_a_divergence(value):
    curve = value("loss_curve", [*LOSSES[:20], math.nan], diverged=True)
    assert np.isnan(curve.at(np.array([10.0, 60.0]))).tolist() == [False, True]
    whole = value("loss_curve", x="seconds")
    assert whole.x[-1] == pytest.approx(10.0) and whole.y[-1] == pytest.approx(1.5)


def test_a_metric_ends_with_a_divergence(value):
    # The last evaluation before it is finite; what follows is none the less undefined.
    options = {"metric": "accuracy", "split": "test"}
    losses = [*LOSSES[:20], math.nan]
    curve = value("metric_curve", losses, True, {"evals": evals()[:2]}, **options)
    assert np.isnan(curve.at(np.array([25.0, 60.0]))).tolist() == [False, True]


def evals(metric="accuracy"):
    return [
        (step, step / 10, "test", metric, v, 0.1 * step)
        for step, v in ((0, 0.1), (50, 0.9), (100, 0.7))
    ]


@pytest.mark.parametrize(
    ("at", "expected"), [("final", 0.7), ("best", 0.9), (0.5, 0.9), (0.25, 0.5), (1, 0.7)]
)
def test_metric_at_a_time(value, at, expected):
    options = {"metric": "accuracy", "split": "test", "at": at}
    assert value("metric", more={"evals": evals()}, **options) == pytest.approx(expected)


def test_best_of_a_metric_follows_the_tasks_target(value):
    target = {"metric": "score", "split": "test", "direction": "min", "value": 0}
    options = {"metric": "score", "split": "test", "at": "best"}
    assert value("metric", more={"evals": evals("score"), "target": target}, **options) == 0.1


def test_steps_to_a_metric(value):
    options = {"of": "metric", "metric": "accuracy", "split": "test", "target": 0.8}
    assert value("steps_to", more={"evals": evals()}, **options) == 50
    assert value("seconds_to", more={"evals": evals()}, **options) == pytest.approx(5.0)


def test_an_unknown_metric_is_named_with_those_there_are(value):
    with pytest.raises(NotTested, match="has no test bleu, only test accuracy"):
        value("metric", more={"evals": evals()}, metric="bleu", split="test")


def test_condition_numbers_in_a_span(value):
    rows = [spectrum_row(s, "w", "gram", [1.0, 10.0 + s], 1e-9, 0.0, 0) for s in range(0, 100, 10)]
    rows.append(spectrum_row(5, "w", "other", [1.0, 1e6], 1e-9, 0.0, 0))
    more = {"spectra": rows, "steps_per_epoch": 10}
    assert value("condition", more=more, kind="gram", epochs=[0, 2]) == 20
    assert value("condition", more=more, kind="gram", share=[0.5, 1], stat="max") == 100
    with pytest.raises(NotTested, match="no spectrum in the span"):
        value("condition", more=more, kind="nothing")


def test_a_fact_that_only_another_task_has_is_not_a_number(bench, make):
    bench.runs("e", {"a": [1.0] * 3})
    final = [("c", "a", s, "quadratic", "a", "finished") for s in range(3)]
    make.run(bench.root, "other", "b", make.run_id("d", "b", 0), task_facts={"optimum": 1.0})
    make.experiment(bench.root, "e", [*final, ("d", "b", 0, "other", "b", "finished")])
    for seed in range(3):
        run_dir = bench.root / "quadratic" / "a"
        (run_dir / f"e-c-a-{seed}").rename(run_dir / make.run_id("c", "a", seed))
    with pytest.raises(NotTested, match=r"has no number task_facts\.optimum"):
        sample(bench, spec("fact", key="task_facts.optimum"))


# ---------------------------------------------------------------- measurements, derived quantities


def sample(bench, description):
    return evaluate(description, Sources(Records([bench.root])))


def test_rows_of_a_measurement_are_chosen_and_labelled(bench):
    rows = [
        {"case": "x", "seed": 7, "value": 1.0, "other": 4.0},
        {"case": "x", "seed": 9, "value": math.inf, "other": None},
        {"case": "y", "seed": 7, "value": 3.0, "other": 6.0},
    ]
    bench.rows("m", rows)
    chosen = sample(bench, {"measurement": "m", "where": {"case": "x"}})
    assert chosen.labels == (7, 9) and chosen.values.tolist() == [1.0, math.inf]
    both = sample(bench, {"measurement": "m", "where": {"case": ["x", "y"]}, "column": "other"})
    assert both.values.tolist() == [4.0, 6.0]
    with pytest.raises(NotTested, match="no rows where"):
        sample(bench, {"measurement": "m", "where": {"case": "z"}})
    with pytest.raises(NotTested, match="no column kase"):
        sample(bench, {"measurement": "m", "where": {"kase": "z"}})


def test_derived_quantities_pair_by_seed(bench):
    bench.rows("m", [{"seed": s, "value": v} for s, v in ((1, 10.0), (2, 1000.0))])
    bench.rows("n", [{"seed": s, "value": v} for s, v in ((2, 10.0), (1, 5.0), (3, 1.0))])
    m, n = {"measurement": "m"}, {"measurement": "n"}
    assert sample(bench, {"ratio": [m, n]}).values.tolist() == [2.0, 100.0]
    assert sample(bench, {"minus": [m, n]}).values.tolist() == [5.0, 990.0]
    assert sample(bench, {"log10": m}).values.tolist() == [1.0, 3.0]
    assert sample(bench, {"mean": [m, n]}).values.tolist() == [7.5, 505.0]
    best = sample(bench, {"best": [m, n]})
    assert best.values.tolist() == [10.0, 5.0, 1.0] and best.evidence.measurements == {"m", "n"}


def test_rows_of_one_seed_cannot_be_paired(bench):
    bench.rows("m", [{"seed": 1, "value": 1.0}, {"seed": 1, "value": 2.0}])
    with pytest.raises(NotTested, match="several values of one seed"):
        sample(bench, {"ratio": [{"measurement": "m"}, {"measurement": "m"}]})


def test_best_and_crossing_of_curves(bench):
    late = [10 - 0.02 * i for i in range(100)]
    early = [8.0 - 0.0 * i if i < 50 else 12.0 for i in range(100)]
    bench.runs("e", {"a": dict.fromkeys(range(3), early), "b": dict.fromkeys(range(3), late)})
    curves = [spec("loss_curve", method) for method in "ab"]
    assert sample(bench, {"best": curves}).name == "b"
    crossing = sample(bench, {"crossing": curves}).values
    assert crossing == pytest.approx(0.5)  # of the 20 points, the last at which a is ahead
