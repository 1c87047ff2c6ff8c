"""How a comparison is drawn: captions, legends, limits."""

import pytest
from matplotlib.text import Text

from analysis import comparison, style
from analysis.comparison import Panel
from analysis.load import Records


@pytest.fixture
def records(tmp_path):
    return Records([tmp_path])


def text_of(figure) -> str:
    return " ".join(" ".join(text.get_text() for text in figure.findobj(Text)).split())


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


@pytest.mark.parametrize("steps", [[0], [0, 40]])
def test_few_points_are_dots_that_are_all_in_view(make, records, tmp_path, steps):
    final = []
    for seed in (0, 1):
        evals = [(step, 0.0, "test", "accuracy", 0.1 + seed + step, 0.0) for step in steps]
        tables = {"steps": [(0, 1.0, 0.1, 1.0, 0.1, None)], "evals": evals}
        make.run(tmp_path, "t", "sgd", make.run_id("c", "sgd", seed), tables, seed=seed)
        final.append(("c", "sgd", seed, "t", "sgd", "finished"))
    make.experiment(tmp_path, "x", final)
    figure = comparison.draw(records, [Panel("x", "c", y="accuracy, test")], title="T")
    (axes,) = figure.axes
    (dots,) = axes.lines
    assert dots.get_marker() == "o" and len(dots.get_xdata()) == len(steps)
    assert axes.get_xlim()[0] < 0 and axes.get_xlim()[1] > steps[-1]
    assert axes.get_ylim()[0] < 0.1 and axes.get_ylim()[1] > 1.1 + steps[-1]
    assert "may lie above" not in text_of(figure)
