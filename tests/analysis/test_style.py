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


def test_settings_hold_inside_the_context_only():
    before = dict(matplotlib.rcParams)
    with style.context():
        assert matplotlib.rcParams["pdf.fonttype"] == 42
        assert 8 <= matplotlib.rcParams["font.size"] <= 9
    assert dict(matplotlib.rcParams) == before
