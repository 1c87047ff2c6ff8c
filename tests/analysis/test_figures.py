import math

import numpy as np
import pytest

from analysis.figures import (
    ggt_fig3_bottom,
    ggt_fig4_bottom,
    ggt_fig5_bottom,
    tasks_small,
)
from analysis.load import MissingRecordsError, Records
from tests.analysis.drawn_curves import assert_curves_equal_table


@pytest.fixture
def records(tmp_path):
    return Records([tmp_path])


# ---------------------------------------------------------------- Fig. 3 and 4, bottom


def test_fig3_table(make, records, tmp_path):
    make.ptb(tmp_path)
    data = ggt_fig3_bottom.table(records)
    train = data[(data["panel"] == "train") & (data["method"] == "ggt")]
    # 1 % of 40 steps is less than one step: no smoothing, the median seed is 1.
    expected = np.exp(1.01 + 3 * np.exp(-0.2 * train["step"]))
    np.testing.assert_allclose(train["value"], expected, rtol=1e-12)
    np.testing.assert_allclose(train["epoch"], train["step"] / 10)
    np.testing.assert_allclose(train["train_seconds"], 0.5 * (train["step"] + 1))
    valid = data[(data["panel"] == "valid") & (data["method"] == "ggt")]
    assert valid["epoch"].tolist() == [0, 1, 2, 3, 4]
    assert valid["value"].iloc[0] == pytest.approx(math.exp(4.01))
    assert (data["low"] <= data["value"]).all()
    assert (data["value"] <= data["high"]).all()


@pytest.mark.parametrize(
    ("module", "x", "label"),
    [
        (ggt_fig3_bottom, "epoch", "epoch"),
        (ggt_fig4_bottom, "train_seconds", "training time (s)"),
    ],
)
def test_fig3_and_fig4_are_drawn_from_their_table(make, records, tmp_path, module, x, label):
    make.ptb(tmp_path)
    data = module.table(records)
    figure = module.draw(records, data)
    for axes, panel in zip(figure.axes, ("train", "valid"), strict=True):
        assert_curves_equal_table(axes, data[data["panel"] == panel], x)
        assert axes.get_xlabel() == label
        assert axes.get_yscale() == "log"
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["SGD, lr 0.1", "GGT, lr 0.1"]
    assert "Median over 3 seeds" in figure.get_supxlabel()


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        ({"timing": "shared"}, "not every run was made alone (timing=exclusive)"),
        ({"num_threads": None}, "num_threads was not recorded for every run"),
    ],
)
def test_fig4_says_why_seconds_are_not_comparable(make, records, tmp_path, manifest, reason):
    make.ptb(tmp_path, **manifest)
    data = ggt_fig4_bottom.table(records)
    assert data["not_comparable"].tolist() == [reason]
    figure = ggt_fig4_bottom.draw(records, data)
    command = "python run.py experiment=ggt_fig3_bottom timing=exclusive force=true"
    assert figure.get_supxlabel().replace("\n", " ").endswith(command)
    (axes,) = figure.axes
    assert axes.texts[0].get_text() == f"not comparable: {reason}"
    assert not axes.lines


@pytest.mark.parametrize(
    ("column", "values", "noun"),
    [
        ("num_threads", [1, 2], "thread counts"),
        ("hardware.fingerprint", ["a", "b"], "machines"),
        ("device", ["cpu", "cuda"], "devices"),
    ],
)
def test_seconds_need_one_machine_and_one_thread_count(
    make, records, tmp_path, column, values, noun
):
    make.ptb(tmp_path)
    runs = records.experiment("ggt_fig3_bottom").runs()
    assert ggt_fig4_bottom.why_not_comparable(runs) == ""
    runs[column] = [values[0]] * (len(runs) - 1) + [values[1]]
    assert ggt_fig4_bottom.why_not_comparable(runs) == f"the runs were made with 2 different {noun}"


# ---------------------------------------------------------------- Fig. 5 bottom


def test_fig5_table(make, records, tmp_path):
    make.ptb(tmp_path)
    data = ggt_fig5_bottom.table(records)
    lines = data[data["item"] != "density"].groupby("item")["value"].unique()
    assert lines["maximum"].tolist() == [11.0]  # of 10, 11, 12: the median seed
    assert lines["minimum"].tolist() == [1e-2]  # 1e-9 is below the resolution
    assert lines["resolution"].tolist() == [1e-5]
    assert lines["condition_number"].tolist() == [11.0 / 1e-2]
    density = data[data["item"] == "density"]
    assert density["epoch"].nunique() == 20
    # 3 of 4 eigenvalues lie in view; what is more than a decade below the resolution does not.
    width = np.diff(np.unique(density["log10_eigenvalue"]))[0]
    shares = density.groupby("epoch")["value"].sum() * width
    np.testing.assert_allclose(shares, 0.75, rtol=1e-9)


def test_fig5_is_drawn_from_its_table(make, records, tmp_path):
    make.ptb(tmp_path)
    data = ggt_fig5_bottom.table(records)
    figure = ggt_fig5_bottom.draw(records, data)
    top, bottom = figure.axes[0], figure.axes[1]
    assert top.get_yscale() == bottom.get_yscale() == "log"
    for drawn, item in zip(top.lines, ("maximum", "minimum"), strict=True):
        np.testing.assert_array_equal(drawn.get_ydata(), data.loc[data["item"] == item, "value"])
        assert drawn.get_color() == "black"
    legend = [text.get_text() for text in top.get_legend().get_texts()]
    assert legend == [
        "below resolution: cut as round-off", "largest", "smallest above resolution",
    ]  # fmt: skip
    assert top.get_ylim()[0] < 1e-5
    assert "at most 1.1e+03 in the first epoch" in figure.get_supxlabel()


def test_fig5_without_spectra_names_the_command(make, records, tmp_path):
    make.fig2(tmp_path, "ggt_fig3_bottom", cases=("ptb",))
    with pytest.raises(MissingRecordsError, match="holds no spectra of ggt; make them with"):
        ggt_fig5_bottom.table(records)


# ---------------------------------------------------------------- every task


def test_tasks_table(make, records, tmp_path):
    make.tasks(tmp_path)
    data = tasks_small.table(records)
    assert list(dict.fromkeys(data["task"])) == ["first", "second"]
    assert set(data["curve"]) == {"loss", "accuracy, test"}
    first = data[data["task"] == "first"]
    target = first[first["curve"] != "loss"]
    assert list(target["value"]) == [0.1, 0.35, 0.6] and list(target["epoch"]) == [0, 1, 2]
    training = first[first["curve"] == "loss"].set_index("step")
    # The mean over two of a hundred steps.
    assert training.loc[99, "value"] == pytest.approx((2 / 100 + 2 / 99) / 2)
    assert training.loc[99, "epoch"] == 99 / 50
    assert set(data["lr"]) == {0.01} and set(data["trivial"]) == {0.1}


def test_tasks_figure_has_a_panel_for_each(make, records, tmp_path):
    make.tasks(tmp_path, [f"task{i}" for i in range(5)])
    data = tasks_small.table(records)
    figure = tasks_small.draw(records, data)
    # Two axes a panel; the sixth place is empty.
    panels = [axes for axes in figure.axes if axes.lines]
    assert len(panels) == 10
    titles = [axes.get_title().splitlines()[0] for axes in panels if axes.get_title()]
    assert titles == [f"task{i}" for i in range(5)]
    rows = data[(data["task"] == "task0") & (data["curve"] == "loss")]
    np.testing.assert_array_equal(panels[0].lines[0].get_ydata(), rows["value"])
    right = next(axes for axes in panels if axes.get_ylabel() == "accuracy, test")
    assert right.lines[1].get_ydata()[0] == 0.1  # the trivial predictor
