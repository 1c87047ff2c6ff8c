import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from analysis import comparison
from analysis.comparison import Panel
from analysis.load import MissingRecordsError, Records


@pytest.fixture
def records(tmp_path):
    return Records([tmp_path])


def text_of(figure) -> str:
    return " ".join(" ".join(text.get_text() for text in figure.findobj(Text)).split())


def curve(data: pd.DataFrame, method: str, panel: int = 0) -> pd.DataFrame:
    return data[(data["method"] == method) & (data["panel"] == panel) & (data["note"] == "")]


# ---------------------------------------------------------------- the table


def test_a_panel_of_the_loss(make, records, tmp_path):
    make.fig2(tmp_path)
    data = comparison.table(records, [Panel("ggt_fig2", "logistic", smooth=0)])
    assert list(data.columns) == comparison.COLUMNS
    sgd = curve(data, "sgd")
    # Three instances apart by 1: the median is the middle one.
    expected = make.optimum + 1 + np.exp(-0.1 * sgd["step"])
    np.testing.assert_allclose(sgd["value"], expected, rtol=1e-12)
    np.testing.assert_array_equal(sgd["epoch"], sgd["step"])
    np.testing.assert_allclose(sgd["seconds"], 0.001 * sgd["step"], atol=1e-15)
    assert set(sgd["num_runs"]) == {3} and set(sgd["smoothed_steps"]) == {1}
    assert (sgd["low"] < sgd["value"]).all() and (sgd["value"] < sgd["high"]).all()


def test_smoothing_looks_backwards_and_suboptimality_is_each_instances(make, records, tmp_path):
    make.fig2(tmp_path)
    panel = Panel("ggt_fig2", "logistic", smooth=0.05, suboptimality=True)
    sgd = curve(comparison.table(records, [panel]), "sgd").set_index("step")
    assert set(sgd["smoothed_steps"]) == {2}
    assert sgd.loc[0, "value"] == pytest.approx(1.0)
    # Round-off of losses near 1.
    assert sgd.loc[5, "value"] == pytest.approx((math.exp(-0.4) + math.exp(-0.5)) / 2, abs=1e-15)
    assert sgd["low"].to_numpy() == pytest.approx(sgd["high"].to_numpy(), abs=1e-15)


@pytest.mark.parametrize("kind", ["ratio", "minus"])
def test_transforms_are_taken_seed_by_seed(make, records, tmp_path, kind):
    make.fig2(tmp_path)
    panel = Panel("ggt_fig2", "logistic", smooth=0, transform=(kind, "sgd"))
    data = comparison.table(records, [panel])
    reference = curve(data, "sgd")
    assert set(reference["value"]) == {1.0 if kind == "ratio" else 0.0}
    assert set(data["transform"]) == {f"{kind} sgd"}
    diag = curve(data, "diag")
    sgd, own = np.exp(-0.1 * diag["step"]), np.exp(-0.2 * diag["step"])
    if kind == "minus":
        expected = own - sgd  # what instances differ by cancels, and so the band is closed
        np.testing.assert_allclose(diag["high"], diag["low"], atol=1e-15)
    else:
        expected = (make.optimum + 1 + own) / (make.optimum + 1 + sgd)
    np.testing.assert_allclose(diag["value"], expected, atol=1e-12)


def test_beside_a_diverged_reference_there_is_nothing(make, records, tmp_path):
    make.fig2(tmp_path)
    panel = Panel("ggt_fig2", "barrier", smooth=0, transform=("ratio", "sgd"))
    data = comparison.table(records, [panel])
    # SGD diverges on one of three instances after four steps: the median over them is unknown.
    diag = curve(data, "diag").set_index("step")
    assert np.isfinite(diag.loc[3, "value"])
    assert math.isnan(diag.loc[10, "value"])


def test_a_metric_of_the_evaluations(make, records, tmp_path):
    make.ptb(tmp_path)
    panel = Panel("ggt_fig3_bottom", "ptb", y="perplexity, valid", x="epoch", methods=["ggt"])
    data = comparison.table(records, [panel])
    assert set(data["method"]) == {"ggt"}
    assert data["epoch"].tolist() == [0, 1, 2, 3, 4]
    assert data["value"].iloc[0] == pytest.approx(math.exp(4.01))


def test_a_perplexity_of_the_loss(make, records, tmp_path):
    make.ptb(tmp_path)
    panel = Panel("ggt_fig3_bottom", "ptb", exponentiate=True, smooth=0)
    ggt = curve(comparison.table(records, [panel]), "ggt")
    np.testing.assert_allclose(ggt["value"], np.exp(1.01 + 3 * np.exp(-0.2 * ggt["step"])))


def test_seconds_that_cannot_be_compared_are_not(make, records, tmp_path):
    make.ptb(tmp_path, timing="shared")
    panels = [Panel("ggt_fig3_bottom", "ptb", x=x) for x in ("epoch", "seconds")]
    data = comparison.table(records, panels)
    (note,) = data.loc[data["panel"] == 1, "note"]
    assert note == "not comparable: not every run was made alone (timing=exclusive)"
    figure = comparison.draw(records, panels, data, title="T")
    assert note in text_of(figure)
    assert not figure.axes[1].lines


def test_methods_without_common_seeds_keep_their_own(make, records, tmp_path):
    final = []
    for method, seeds in (("sgd", (0, 1)), ("adam", (2,))):
        for seed in seeds:
            steps = [(step, 1.0 + seed, 0.1, 1.0, 0.1, None) for step in range(5)]
            make.run(tmp_path, "t", method, make.run_id("c", method, seed), {"steps": steps})
            final.append(("c", method, seed, "t", method, "finished"))
    make.experiment(tmp_path, "x", final)
    data = comparison.table(records, [Panel("x", "c")])
    assert set(curve(data, "sgd")["num_runs"]) == {2}
    assert set(curve(data, "adam")["value"]) == {3.0}
    assert curve(data, "adam")[["low", "high"]].isna().all(axis=None)
    apart = comparison.table(
        records, [Panel("x", "c"), Panel("x", "c", transform=("ratio", "sgd"))]
    )
    (note,) = apart.loc[(apart["panel"] == 1) & (apart["method"] == "adam"), "note"]
    assert note == "no seed of adam has a run of sgd to compare with"


def test_bad_panels_are_refused():
    with pytest.raises(ValueError, match="x must be one of step, epoch, seconds, got 'hours'"):
        Panel("x", "c", x="hours")
    with pytest.raises(ValueError, match="transform must begin with ratio or minus"):
        Panel("x", "c", transform=("times", "sgd"))


# ---------------------------------------------------------------- what is missing


def test_a_missing_experiment_is_said_in_its_panel(make, records, tmp_path):
    make.fig2(tmp_path)
    panels = [Panel("ggt_fig2", "logistic"), Panel("nothing", "c"), Panel("ggt_fig2", "no_case")]
    figure = comparison.draw(records, panels, title="T")
    assert "no records of experiment nothing" in text_of(figure)
    assert "python run.py experiment=nothing" in text_of(figure)
    assert "no case no_case" in text_of(figure)
    assert [len(axes.lines) > 0 for axes in figure.axes] == [True, False, False]
    with pytest.raises(MissingRecordsError, match="no records of experiment nothing"):
        comparison.table(records, panels[1:2])


def test_a_method_without_runs_stays_in_the_legend(make, records, tmp_path):
    make.fig2(tmp_path)
    panels = [Panel("ggt_fig2", "logistic", methods=["sgd", "adam"])]
    figure = comparison.draw(records, panels, title="T")
    (legend,) = figure.legends
    entries = [text.get_text() for text in legend.get_texts()]
    assert entries == ["SGD, lr 0.1", "Adam: no run"]
    assert "No run of adam has loss." in text_of(figure)


def test_a_deleted_run_is_named_with_the_command(make, records, tmp_path):
    make.fig2(tmp_path)
    run = tmp_path / "logistic" / "diag" / make.run_id("logistic", "diag", 1)
    (run / "manifest.json").unlink()
    panels = [Panel("ggt_fig2", "logistic")]
    data = comparison.table(records, panels)
    assert set(data["num_runs"]) == {2}
    text = text_of(comparison.draw(records, panels, data, title="T"))
    command = "python -m scripts.restore ggt_fig2"
    assert f"Missing: diag seed 1 (logistic); make it with: {command}." in text
    assert "2 run(s) left out because another method lacks their seed." in text
    # The panel of another case lacks nothing.
    other = comparison.draw(records, [Panel("ggt_fig2", "barrier")], title="T")
    assert "Missing" not in text_of(other)
