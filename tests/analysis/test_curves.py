import math

import numpy as np
import pandas as pd
import pytest

from analysis import curves, stacked
from analysis.load import Records


def rows_of(losses: dict[int, list[float]]) -> pd.DataFrame:
    rows = [
        {"seed": seed, "step": step, "loss": loss}
        for seed, values in losses.items()
        for step, loss in enumerate(values)
    ]
    return pd.DataFrame(rows)


def test_diverged_runs_go_on_as_infinite():
    frame = rows_of({0: [3.0, 2.0, 1.0], 1: [3.0, math.nan]})
    runs = stacked.side_by_side(frame, "loss", [0, 1], diverged={1})
    np.testing.assert_array_equal(runs.values, [[3, 2, 1], [3, np.inf, np.inf]])
    np.testing.assert_array_equal(runs.steps, [0, 1, 2])


def test_a_shorter_run_that_did_not_diverge_shortens_all():
    runs = stacked.side_by_side(rows_of({0: [3.0, 2.0, 1.0], 1: [3.0, 2.5]}), "loss", [0, 1])
    np.testing.assert_array_equal(runs.values, [[3, 2], [3, 2.5]])


def test_all_diverged_keeps_the_longest():
    frame = rows_of({0: [1.0], 1: [3.0, math.inf]})
    runs = stacked.side_by_side(frame, "loss", [0, 1], diverged={0, 1})
    np.testing.assert_array_equal(runs.values, [[1, np.inf], [3, np.inf]])


def test_seed_order_and_repeated_rows():
    frame = pd.concat([rows_of({0: [1.0], 1: [2.0]})] * 2)
    runs = stacked.side_by_side(frame, "loss", [1, 0])
    np.testing.assert_array_equal(runs.values, [[2], [1]])


def test_only_seeds_of_every_method_are_paired():
    frame = pd.DataFrame({"method": ["a", "a", "b"], "seed": [0, 1, 1]})
    assert curves.paired_seeds(frame) == [1]
    assert curves.paired_seeds(frame[:0]) == []


def test_legend_says_what_was_tuned_and_what_diverged(make, tmp_path):
    make.fig2(tmp_path)
    experiment = Records([tmp_path]).experiment("ggt_fig2")
    assert curves.tuned(experiment, "barrier", "sgd") == "lr 0.1"
    assert curves.tuned(experiment, "barrier", "diag") == "lr 0.1 (grid edge)"
    assert curves.tuned(experiment, "barrier", "adam") == ""
    rows = pd.DataFrame(
        [{"method": "sgd", "tuned": "lr 0.1", "num_diverged": 1, "num_runs": 3}], index=[7]
    )
    assert curves.label(rows) == "SGD, lr 0.1, 1/3 diverged"
    assert curves.label(rows.assign(tuned="", num_diverged=0)) == "SGD"


def test_runs_in_no_curve_are_counted(make, tmp_path):
    make.run(tmp_path, "t", "sgd", make.run_id("c", "sgd", 0))
    final = [("c", "sgd", 0, "t", "sgd", "finished"), ("c", "sgd", 1, "t", "sgd", "failed")]
    make.experiment(tmp_path, "x", final)
    experiment = Records([tmp_path]).experiment("x")
    assert curves.left_out(experiment, {"c": [0]}) == "1 failed or interrupted run(s) left out."
    assert "1 run(s) left out because another method" in curves.left_out(experiment, {})


def test_provenance_names_machine_and_versions(make, tmp_path):
    make.run(tmp_path, "t", "sgd", make.run_id("c", "sgd", 0), dirty=True)
    make.run(tmp_path, "t", "sgd", make.run_id("c", "sgd", 1), hardware={"cpu": "another"})
    final = [("c", "sgd", seed, "t", "sgd", "finished") for seed in (0, 1)]
    make.experiment(tmp_path, "x", final)
    runs = Records([tmp_path]).experiment("x").runs()
    assert curves.provenance(runs) == (
        "2 runs; 2 machines; torch 2.13.0; commit 0123456789 with uncommitted changes."
    )
    assert curves.provenance(runs[:1]) == (
        "1 run; a processor, 2 cores, 8 GiB; torch 2.13.0; "
        "commit 0123456789 with uncommitted changes."
    )


@pytest.mark.parametrize("bound", [math.inf, 1e300])
def test_unbounded_values_are_drawn_without_overflow(bound):
    from matplotlib.figure import Figure

    rows = pd.DataFrame(
        {
            "method": "sgd", "tuned": "", "num_diverged": 0, "num_runs": 2,
            "step": [0, 1, 2], "value": [1.0, 2.0, bound], "low": [0.5, 1.0, 1.0],
            "high": [bound, bound, bound],
        }
    )  # fmt: skip
    figure = Figure()
    axes = figure.subplots()
    curves.draw_curve(axes, rows, "step")
    axes.set_yscale("log")
    figure.canvas.draw()
    assert axes.lines[0].get_ydata()[:2].tolist() == [1.0, 2.0]


def test_momentum_of_each_method_is_said():
    def groups(**options):
        return [{"names": ["w"], "num_parameters": 1, "options": options}]

    runs = pd.DataFrame(
        {
            "method": ["sgd", "sgd", "adam", "ggt"],
            "parameter_groups": [
                groups(momentum=0.9),
                groups(momentum=0.9),
                groups(lr=1.0),
                groups(momentum=0.9),
            ],
        }
    )
    assert curves.momenta(runs) == "Momentum 0.9: SGD, GGT."
    assert curves.momenta(runs[runs["method"] == "adam"]) == ""
    assert curves.momenta(runs.drop(columns="parameter_groups")) == ""
