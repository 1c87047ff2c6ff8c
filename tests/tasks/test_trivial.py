"""What a predictor without learning reaches, the fact that a task's target has to beat."""

import math

import pytest
import torch

import run
from tasks.data.streams import frequency_loss
from tests.commands import CONF
from tests.fake_sets import standing_in

# Convex problems have an optimum instead, and BLEU of guesses is 0.
WITHOUT = {
    "barrier", "iwslt14_transformer", "logistic", "online_convex", "quadratic", "quadratic2d",
    "quadratic_1536", "quadratic_384",
}  # fmt: skip
# Fewer words at scale=smoke, so that frequencies say more.
SMALLER = {"ptb_word_lstm"}
NAMES = sorted({path.stem for path in CONF.glob("task/*.yaml")} - WITHOUT - SMALLER)


@pytest.fixture(scope="module", autouse=True)
def sets(sets_dir):
    with standing_in(sets_dir):
        yield sets_dir


def made(name, *more):
    from hydra.utils import instantiate

    task = instantiate(run.compose([f"task={name}", "scale=smoke", *more]).task)
    task.setup("cpu", torch.float32)
    return task


def test_frequencies_by_hand():
    # Of 4 symbols, counted once more each: (3 + 1)/8, (1 + 1)/8, and 1/8 for those never seen.
    train, text = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 1, 3], dtype=torch.uint8)
    expected = -(math.log(4 / 8) + math.log(2 / 8) + math.log(1 / 8)) / 3
    assert frequency_loss(train, text, 4) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_a_target_is_better_than_the_trivial_predictor(name):
    # The target is that of scale=small, which the trivial value hardly depends on.
    target = run.compose([f"task={name}"]).task.target
    trivial = made(name).facts()["trivial"]
    assert trivial < target.value if target.direction == "max" else trivial > target.value


def test_frequencies_of_words():
    task = made("ptb_word_lstm")
    assert 1 < task.facts()["trivial"] < task.vocab_size


def test_the_most_frequent_class():
    task = made("mnist_cnn_small")
    train, test = (task._labels[split].tolist() for split in ("train", "test"))
    most = max(range(10), key=train.count)
    assert task.facts()["trivial"] == test.count(most) / len(test)


def test_none_for_another_metric():
    assert "trivial" not in made("imagenet_resnet50", "task.target.metric=accuracy_top5").facts()
