from pathlib import Path

import matplotlib
import pytest

from analysis import style


def test_no_two_optimizers_look_alike():
    looks = {name: style.line(name) for name in style.LOOKS}
    pairs = [(look["color"], str(look["linestyle"])) for look in looks.values()]
    assert len(set(pairs)) == len(pairs)
    labels = [look["label"] for look in looks.values()]
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize(
    ("figure_name", "optimizer"),
    [("diag", "adagrad"), ("diag_window", "rmsprop"), ("full", "full_adagrad")],
)
def test_a_figures_own_name_changes_only_the_label(figure_name, optimizer):
    one, other = style.line(figure_name), style.line(optimizer)
    assert (one["color"], one["linestyle"]) == (other["color"], other["linestyle"])
    assert one["label"] != other["label"]


def test_methods_of_each_figure_are_told_apart_by_colour_and_by_dashes():
    for methods in (
        ("sgd", "diag", "diag_window", "full", "full_window"),
        ("sgd", "adam", "adagrad", "ggt"),
    ):
        assert len({style.line(method)["color"] for method in methods}) == len(methods)


def test_unknown_method_has_a_look_of_its_own():
    look = style.line("my_method")
    assert look == style.line("my_method")
    assert look["label"] == "my_method"
    assert look["linestyle"] != style.line("my_other_method")["linestyle"] or (
        look["color"] != style.line("my_other_method")["color"]
    )
    assert look["color"] not in {known.color for known in style.LOOKS.values()}


def test_a_variant_has_its_optimizers_colour_and_its_own_name():
    look = style.line("ggt_hard_window_r50")
    assert look["label"] == "GGT, hard window, r50"
    assert look["color"] == style.line("ggt")["color"]


@pytest.mark.parametrize(
    "methods",
    [
        ["sgd", "sgd_momentum", "sgd_grafting", "sgd_both", "adam", "my_own"],
        ["diag", "adagrad", "adagrad_diag"],
        [f"ggt_r{r}" for r in (10, 25, 50, 100, 200, 400, 800, 1600)],
        [f"t{t}" for t in range(20)],
        list(style.LOOKS),
    ],
)
@pytest.mark.parametrize("ordered", [False, True])
def test_no_two_curves_of_a_figure_look_alike(methods, ordered):
    looks = style.lines(methods, ordered=ordered)
    assert list(looks) == methods
    pairs = {(look["color"], str(look["linestyle"])) for look in looks.values()}
    assert len(pairs) == len(methods)


def test_a_known_optimizer_keeps_its_look_beside_variants():
    looks = style.lines(["sgd_momentum", "sgd"], labels={"sgd_momentum": "heavy ball"})
    assert looks["sgd"] == style.line("sgd")
    assert looks["sgd_momentum"]["label"] == "heavy ball"
    alone = style.lines(["sgd_momentum"])["sgd_momentum"]
    assert alone["linestyle"] == style.line("sgd")["linestyle"]


def test_every_optimizer_that_can_be_chosen_has_a_look():
    names = {path.stem for path in (Path(__file__).parents[2] / "conf/optimizer").glob("*.yaml")}
    assert names <= set(style.LOOKS)


def test_settings_hold_inside_the_context_only():
    before = dict(matplotlib.rcParams)
    with style.context():
        assert matplotlib.rcParams["pdf.fonttype"] == 42
        assert 8 <= matplotlib.rcParams["font.size"] <= 9
    assert dict(matplotlib.rcParams) == before
