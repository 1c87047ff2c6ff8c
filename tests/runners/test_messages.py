"""Mistakes in one line."""

import pytest
from hydra.errors import InstantiationException

from runners import messages
from runners.messages import close, explain, key_paths, unknown_key
from tests.commands import command

KEYS = ["seed", "task", "task.num_samples", "optimizer", "optimizer.lr", "optimizer.momentum"]


def test_every_key_of_a_nested_mapping():
    assert key_paths({"a": 1, "b": {"c": {"d": 2}, "e": []}}) == ["a", "b", "b.c", "b.c.d", "b.e"]
    assert key_paths({}) == []


def test_what_comes_close():
    assert close("optimizer.lrr", KEYS)[0] == "optimizer.lr"
    assert close("zzz", KEYS) == []
    assert len(close("optimizer", KEYS * 2)) == len(set(close("optimizer", KEYS)))


def test_an_unknown_option():
    assert unknown_key("task.num_sample", KEYS).startswith(
        "unknown option 'task.num_sample'; close matches: task.num_samples"
    )
    assert unknown_key("qqq", KEYS) == "unknown option 'qqq'; see python run.py --help"


@pytest.mark.parametrize(
    "text, line",
    [
        (
            "Could not override 'sed'.\nTo append to your config use +sed=1\nKey 'sed' is not in",
            "unknown option 'sed'; close matches: seed",
        ),
        (
            "In 'config': Could not find 'optimizer/addam'\n\nAvailable options in 'optimizer':\n"
            "\tadam\n\tsgd\nConfig search path:\n\tprovider=main",
            "unknown optimizer 'addam'; close matches: adam; available: adam, sgd",
        ),
        (
            "Key 'lrr' is not in struct\n    full_key: optimizer.lrr\n    object_type=dict",
            "unknown option 'optimizer.lrr'; close matches: optimizer.lr",
        ),
        ("Something\n\n  else\nand more", "Something; else"),
    ],
)
def test_errors_of_the_configuration_become_one_line(text, line):
    said = explain(RuntimeError(text), KEYS)
    assert said.startswith(line)
    assert "\n" not in said


def test_an_error_without_text_says_its_type():
    assert explain(KeyError(), KEYS) == "KeyError"


def test_a_missing_package_is_said_with_the_extra_that_brings_it():
    error = InstantiationException("Error")
    error.__cause__ = ImportError(
        "Error loading 'x':\nModuleNotFoundError(\"No module named 'a'\")"
    )
    assert messages.cause(error) == "a is not installed"
    error.__cause__ = ModuleNotFoundError("No module named 'torchzero.modules'")
    line = "torchzero is not installed; get it with: pip install -e '.[peers]'"
    assert messages.cause(error) == line
    # Of two extras that bring it, the one that is for users.
    assert messages.not_installed("pytorch_optimizer").endswith("'.[peers]'")
    error.__cause__ = ValueError("lr must be >= 0, got -1\nand more")
    assert messages.cause(error) == "lr must be >= 0, got -1"


def test_a_missing_package_is_one_line_and_leaves_nothing(tmp_path):
    result = command(
        "task=logistic",
        "scale=smoke",
        "optimizer.cls.path=no_such_package.Adam",
        f"runs_dir={tmp_path / 'runs'}",
    )
    assert (result.code, result.out) == (2, "")
    assert result.err == "run.py: optimizer.cls: no_such_package is not installed\n"
    assert not (tmp_path / "runs").exists()
