import math

import numpy as np
import pytest

from analysis.figures import ggt_fig2, ggt_fig2_hyperplane
from analysis.load import Records
from tests.analysis.drawn_curves import assert_curves_equal_table


@pytest.fixture
def records(tmp_path):
    return Records([tmp_path])


def test_fig2_table(make, records, tmp_path):
    make.fig2(tmp_path)
    data = ggt_fig2.table(records)
    assert set(data["panel"]) == {"instance", "suboptimality"}
    sgd = data[(data["case"] == "logistic") & (data["method"] == "sgd")]
    instance = sgd[sgd["panel"] == "instance"]
    expected = [make.optimum + math.exp(-0.1 * step) for step in range(make.num_steps)]
    np.testing.assert_array_equal(instance["value"], expected)
    assert instance[["low", "high"]].isna().all(axis=None)
    many = sgd[sgd["panel"] == "suboptimality"]
    # Three instances that differ only by their optimum; 1e-15 is the round-off of losses near 1.
    np.testing.assert_allclose(many["value"], np.exp(-0.1 * many["step"]), atol=1e-15)
    assert set(many["num_runs"]) == {3}
    # exp(-5 k) is below the round-off from k = 7 on: clipped there, and said so.
    window = data[(data["method"] == "full_window") & (data["panel"] == "suboptimality")]
    assert set(window["floor"]) == {1e-15}
    assert (window["value"] >= 1e-15).all()
    assert (window.loc[window["step"] > 8, "num_clipped"] > 0).all()
    assert (window.loc[window["step"] < 5, "num_clipped"] == 0).all()


def test_fig2_counts_a_diverged_run_as_infinite(make, records, tmp_path):
    make.fig2(tmp_path)
    data = ggt_fig2.table(records)
    rows = data[(data["case"] == "barrier") & (data["panel"] == "suboptimality")]
    sgd = rows[rows["method"] == "sgd"]
    assert set(sgd["num_diverged"]) == {1}
    assert len(sgd) == make.num_steps
    assert np.isfinite(sgd["value"]).all()
    assert np.isfinite(sgd.loc[sgd["step"] < 4, "high"]).all()
    assert (sgd.loc[sgd["step"] >= 4, "high"] == math.inf).all()
    legend = ggt_fig2.draw(records).axes[3].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == [
        "SGD, lr 0.1, 1/3 diverged", "diag, lr 0.1 (grid edge)", "full+window, lr 0.1",
    ]  # fmt: skip


def test_fig2_is_drawn_from_its_table(make, records, tmp_path):
    make.fig2(tmp_path)
    data = ggt_fig2.table(records)
    figure = ggt_fig2.draw(records, data)
    panels = dict(zip(
        [("instance", "logistic"), ("instance", "barrier"),
         ("suboptimality", "logistic"), ("suboptimality", "barrier")],
        figure.axes, strict=True,
    ))  # fmt: skip
    for (panel, case), axes in panels.items():
        assert_curves_equal_table(
            axes, data[(data["panel"] == panel) & (data["case"] == case)], "step"
        )
        assert axes.get_yscale() == ("linear" if panel == "instance" else "log")
        assert axes.get_xlabel() == "iteration"
    assert panels["suboptimality", "logistic"].get_ylabel() == "loss − optimum, 3 instances"
    bottom, top = panels["instance", "logistic"].get_ylim()
    start = make.optimum + 1.0
    assert bottom < make.optimum < start < top < start + 0.3
    assert "50 runs" not in figure.get_supxlabel()
    assert "18 runs" in figure.get_supxlabel()
    assert "Differences below 1e-15" in figure.get_supxlabel()


def test_fig2_zooms_where_all_curves_soon_lie_at_the_foot(make, records, tmp_path):
    final = []
    for method in ("sgd", "diag"):
        losses = [0.6 + (0.1 if step == 0 else 1e-4 / step) for step in range(100)]
        steps = [(i, v, 0.1, 1.0, 0.001 * i, None) for i, v in enumerate(losses)]
        make.run(tmp_path, "logistic", method, make.run_id("logistic", method, 0), {"steps": steps})
        final.append(("logistic", method, 0, "logistic", method, "finished"))
    make.experiment(tmp_path, "ggt_fig2", final)
    top = ggt_fig2.draw(records).axes[0]
    (inset,) = top.child_axes
    assert len(inset.lines) == 2
    assert inset.get_ylim()[1] < 0.601 < top.get_ylim()[1]


def test_hyperplane_supplement_draws_the_loss_where_there_is_no_optimum(make, records, tmp_path):
    make.fig2(tmp_path, "ggt_fig2_hyperplane", cases=("logistic",), optimum=False)
    figure = ggt_fig2_hyperplane.draw(records)
    assert len(figure.axes) == 2
    assert figure.axes[1].get_ylabel() == "loss, 3 instances"
    many = ggt_fig2_hyperplane.table(records)
    many = many[(many["panel"] == "suboptimality") & (many["method"] == "diag")]
    # The median instance is seed 1.
    assert many["value"].iloc[-1] == pytest.approx(make.optimum + 1.0, abs=1e-3)
