"""Options of a wrong type or out of range: one line, with the option's name and its value."""

import math

import hydra
import pytest
from hydra.errors import InstantiationException
from hydra.utils import instantiate

from tasks import checks
from tests.commands import CONF, command


@pytest.mark.parametrize(
    ("value", "bounds", "message"),
    [
        ("x", {"least": 0, "below": 1}, "a must be a number >= 0 and < 1, got x"),
        (None, {"above": 0, "most": 1}, "a must be a number > 0 and <= 1, got None"),
        (True, {"least": 0}, "a must be a number >= 0, got True"),
        ([1], {}, "a must be a number, got [1]"),
        ("x", {"above": 0, "optional": True}, "a must be a number > 0 or null, got x"),
        (0, {"above": 0, "optional": True}, "a must be > 0 or null, got 0"),
        (1.0, {"least": 0, "below": 1}, "a must be >= 0 and < 1, got 1.0"),
        (1.5, {"most": 1}, "a must be <= 1, got 1.5"),
        (math.nan, {"least": 0}, "a must be >= 0, got nan"),
        (math.inf, {"least": 0}, "a must be finite, got inf"),
        (math.nan, {}, "a must be finite, got nan"),
    ],
)
def test_a_number_that_cannot_be_is_refused(value, bounds, message):
    with pytest.raises(ValueError) as error:
        checks.check_number("a", value, **bounds)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("value", "bounds"),
    [
        (0, {"least": 0, "below": 1}),
        (1, {"above": 0, "most": 1}),
        (-2.5, {}),
        (None, {"above": 0, "optional": True}),
    ],
)
def test_bounds_that_are_reached_are_allowed(value, bounds):
    checks.check_number("a", value, **bounds)


def refused(name: str, override: str) -> str:
    """What is said of a task whose options or whose model cannot be."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose("config", [f"task={name}", override, "scale=smoke"]).task
    with pytest.raises((InstantiationException, ValueError)) as error:
        instantiate(config).build_model()
    reason = error.value.__cause__ or error.value
    assert isinstance(reason, ValueError)
    return str(reason)


RATE = "a number >= 0 and < 1"
COUNT = "be an integer"


@pytest.mark.parametrize(
    ("name", "option", "value", "wanted"),
    [
        ("logistic", "clip_norm", "x", "be a number > 0 or null"),
        ("logistic", "condition", "x", "be a number >= 1"),
        ("logistic", "evaluate_at", "1.5", "be an integer or a list of steps"),
        ("logistic", "evaluate_at", "[0, 1.5]", "be an integer"),
        ("logistic", "eval_splits", "train", "be a list of train"),
        ("logistic", "target", "null", "be a metric, split, direction and value"),
        ("logistic", "target.value", "x", "be a number"),
        ("quadratic", "max_eigenvalue", "x", "be a number > 0"),
        ("quadratic2d", "start", "3", "be two finite numbers"),
        ("quadratic2d", "coupling", "x", "be a number > -1 and < 1"),
        ("mnist_cnn_small", "mean", "0.5", "have a number for each of the 1 channels of mnist"),
        ("mnist_cnn_small", "model", "null", "have a _target_ that makes it"),
        ("mnist_cnn_small", "model.image_shape", "3", "be three integers >= 1, channels, height"),
        ("mnist_cnn_small", "model.width", "x", COUNT),
        ("mnist_cnn_small", "model.num_groups", "1.5", COUNT),
        ("cifar10_resnet32", "mean", "[a, b, c]", "have a number for each of the 3 channels"),
        ("cifar10_resnet32", "std", "[1, true, 1]", "have a number for each of the 3 channels"),
        ("cifar10_resnet32", "label_smoothing", "a", f"be {RATE}"),
        ("cifar10_resnet32", "model.depth", "x", "be 6 k + 2 with k >= 1"),
        ("cifar10_resnet32", "model.num_classes", "x", COUNT),
        ("cifar10_shakeshake", "model.width", "x", "be even and >= 2"),
        ("imagenet_resnet50", "min_scale", "abc", "be a number > 0 and <= 1"),
        ("imagenet_resnet50", "max_aspect", "abc", "be a number >= 1"),
        ("imagenet_resnet50", "eval_resize", "null", "be a number >= 1"),
        ("imagenet_resnet50", "eval_resize", "inf", "be finite"),
        ("imagenet_resnet50", "label_smoothing", "a", "be a number >= 0 and <= 0.98"),
        ("imagenet_resnet50", "model.num_blocks", "[1, x, 1, 1]", "be four integers >= 1"),
        ("imagenet_resnet50", "model.num_blocks", "4", "be four integers >= 1"),
        ("ae_mnist", "widths", "5", "begin with 784"),
        ("ae_mnist", "widths", "[784, x]", "begin with 784"),
        ("ptb_lstm", "dropout", "x", f"be {RATE}"),
        ("ptb_gpt", "dropout", "x", f"be {RATE}"),
        ("ptb_gpt", "tied", "3", "be true or false"),
        ("ptb_word_lstm", "tied", "3", "be true or false"),
        ("ptb_word_lstm", "dropout", "x", "be rates of words, inputs, hidden, outputs, weights"),
        ("ptb_word_lstm", "dropout.words", "x", f"be {RATE}"),
        ("ptb_word_lstm", "slowness_penalty", "x", "be a number >= 0"),
        ("iwslt14_transformer", "search", "null", "have a _target_ that makes it"),
        ("iwslt14_transformer", "search.beam", "1.5", COUNT),
        ("iwslt14_transformer", "search.length_penalty", "x", "be a number >= 0"),
        ("iwslt14_transformer", "label_smoothing", "a", f"be {RATE}"),
        ("iwslt14_transformer", "model.dim", "x", COUNT),
        ("iwslt14_transformer", "model.relu_dropout", "x", f"be {RATE}"),
    ],
)
def test_wrong_types_are_named(name, option, value, wanted):
    said = refused(name, f"task.{option}={value}")
    # A nested option is named by its last part, or from the section that it belongs to.
    named = any(said.startswith(f"{key} must {wanted}") for key in (option, option.split(".")[-1]))
    assert named and ", got " in said, said


@pytest.mark.parametrize(
    ("task", "option"), [("iwslt14_transformer", "search.beam=1.5"), ("ptb_lstm", "dropout=x")]
)
def test_the_command_ends_in_one_line(task, option, tmp_path):
    result = command(f"task={task}", f"task.{option}", "scale=smoke", f"runs_dir={tmp_path}/runs")
    name, value = option.removeprefix("search.").split("=")
    (line,) = [line for line in result.err.splitlines() if line.strip()]
    assert result.code == 2
    assert f"{name} must be" in line and line.endswith(f"got {value}")
    assert not (tmp_path / "runs").exists()
