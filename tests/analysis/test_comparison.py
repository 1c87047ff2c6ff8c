import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from analysis import comparison, style
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


# ---------------------------------------------------------------- the drawing


def test_caption_says_runs_rule_rates_and_what_diverged(make, records, tmp_path):
    make.fig2(tmp_path)
    panels = [Panel("ggt_fig2", case) for case in ("logistic", "barrier")]
    text = text_of(
        comparison.draw(records, panels, title="A paper, Fig. 1", sentences=["Mark this."])
    )
    for said in (
        "A paper, Fig. 1", "Mark this.", "3 runs a curve: median over seeds", "SGD, lr 0.1",
        "Diverged: SGD 1/3 (barrier).", "18 runs; a processor",
        "Chosen from 9 trials a method by: the least mean loss on instances 100-102.",
    ):  # fmt: skip
        assert said in text, said


def test_rates_that_were_given_are_in_the_caption(make, records, tmp_path):
    final = []
    for method, lr in (("sgd", 0.5), ("adam_slow", 1e-3)):
        groups = [{"names": ["w"], "options": {"lr": lr, "momentum": 0.9}}]
        steps = [(step, 1.0, lr, 1.0, 0.1, None) for step in range(5)]
        make.run(
            tmp_path, "t", method, make.run_id("c", method, 0), {"steps": steps},
            parameter_groups=groups,
        )  # fmt: skip
        final.append(("c", method, 0, "t", method, "finished"))
    make.experiment(tmp_path, "x", final)
    figure = comparison.draw(records, [Panel("x", "c")], title="T", labels={"adam_slow": "Slow"})
    assert "Given learning rates: SGD 0.5, Slow 0.001." in text_of(figure)
    assert "Momentum 0.9: SGD, Slow." in text_of(figure)


def test_rates_that_differ_between_panels_are_in_the_caption(make, records, tmp_path):
    make.fig2(tmp_path)
    experiment = records.experiment("ggt_fig2")
    choice = experiment.choice
    barrier = (choice["case"] == "barrier") & (choice["method"] == "sgd")
    choice.loc[barrier, "values"] = [{"optimizer.lr": 3.0}]
    panels = [Panel("ggt_fig2", case) for case in ("logistic", "barrier")]
    figure = comparison.draw(records, panels, title="T")
    assert figure.legends[0].get_texts()[0].get_text() == "SGD"
    assert "barrier: SGD lr 3, diag lr 0.1 (grid edge)" in text_of(figure)


def test_what_blows_up_leaves_the_panel_instead_of_flattening_the_rest(make, records, tmp_path):
    final = []
    for method, factor in (("sgd", 0.95), ("adam", 1.3)):
        steps = [(step, 2 * factor**step, 0.1, 1.0, 0.1, None) for step in range(100)]
        make.run(tmp_path, "t", method, make.run_id("c", method, 0), {"steps": steps})
        final.append(("c", method, 0, "t", method, "finished"))
    make.experiment(tmp_path, "x", final)
    for log in (True, False):
        panels = [Panel("x", "c", log=log, smooth=0, hidden=0)]
        (axes,) = comparison.draw(records, panels, title="T").axes
        low, high = axes.get_ylim()
        assert 2 < high < 30
        assert low < 2 * 0.95**99
        assert axes.get_yscale() == ("log" if log else "linear")


def test_references_titles_and_limits_are_drawn(make, records, tmp_path):
    make.fig2(tmp_path)
    panel = Panel(
        "ggt_fig2", "logistic", title="Left", ylabel="f", references={"paper": 1.5}, ylim=(1, 2),
        log_x=True,
    )  # fmt: skip
    (axes,) = comparison.draw(records, [panel], title="T").axes
    assert axes.get_title() == "Left" and axes.get_ylabel() == "f"
    assert axes.get_ylim() == (1, 2) and axes.get_xscale() == "log"
    assert axes.lines[-1].get_ydata()[0] == 1.5
    assert "paper" in [text.get_text() for text in axes.texts]


@pytest.mark.parametrize("count", [1, 2, 4, 5])
def test_panels_are_laid_out_within_a_page(make, records, tmp_path, count):
    make.fig2(tmp_path)
    panels = [Panel("ggt_fig2", "logistic", ylabel=None) for _ in range(count)]
    figure = comparison.draw(records, panels, title="A title " * 20)
    assert figure.get_figwidth() == (style.COLUMN_WIDTH if count == 1 else style.PAGE_WIDTH)
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    # Text is measured in whole pixels of 1/100 inch.
    assert box.x0 >= -0.02 and box.x1 <= figure.get_figwidth() + 0.02
    heights = [axes.get_position().height * figure.get_figheight() for axes in figure.axes[:count]]
    assert min(heights) > 1.0
