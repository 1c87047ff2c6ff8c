"""Schedules: values by hand, groups, resuming, and what is refused."""

import math
from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from runners.schedules import (
    Constant,
    Cosine,
    Exponential,
    InverseSqrt,
    Plateau,
    PowerAfter,
    Schedule,
    StepDecay,
    WarmupPolynomial,
)

CONF = Path(__file__).parents[2] / "conf" / "schedule"


class Groups:
    """Stands in for an optimizer: a schedule only needs its parameter groups."""

    def __init__(self, *groups):
        self.param_groups = [dict(group) for group in groups]

    def values(self, key):
        return [group[key] for group in self.param_groups]


def make(name, **changes):
    config = OmegaConf.load(CONF / f"{name}.yaml")
    for key, value in changes.items():
        OmegaConf.update(config, key.replace("__", "."), value)
    return instantiate(config)


@pytest.mark.parametrize(
    ("shape", "total", "expected"),
    [
        (Constant(), 10, {0: 1.0, 9: 1.0}),
        (Cosine(), 4, {0: 1.0, 1: (1 + math.sqrt(0.5)) / 2, 2: 0.5, 4: 0.0}),
        (Cosine(floor=0.2), 4, {0: 1.0, 2: 0.6, 4: 0.2, 7: 0.2}),
        (Cosine(warmup=4, start=0.2, floor=0.1), 8, {0: 0.2, 2: 0.6, 4: 1.0, 6: 0.55, 8: 0.1}),
        (Cosine(warmup=10), 5, {4: 0.4, 10: 1.0}),
        (WarmupPolynomial(4, 2.0), 12, {0: 0.0, 1: 0.25, 4: 1.0, 8: 0.25, 12: 0.0}),
        (WarmupPolynomial(4, 1.0, start=0.2), 12, {0: 0.2, 2: 0.6, 4: 1.0, 10: 0.25}),
        (WarmupPolynomial(0, 1.0), 10, {0: 1.0, 5: 0.5}),
        (WarmupPolynomial(10, 3.0), 5, {4: 0.4, 10: 1.0}),
        (WarmupPolynomial(0, 1.0, end=20), 10, {5: 0.75, 25: 0.0}),
        (InverseSqrt(4), 100, {0: 0.0, 2: 0.5, 4: 1.0, 16: 0.5, 64: 0.25}),
        (InverseSqrt(4, start=0.5), 100, {0: 0.5, 2: 0.75}),
        (Exponential(0.8), 100, {0: 1.0, 10: 0.8, 5: math.sqrt(0.8), 20: 0.64}),
        (Exponential(0.5, period=1), 100, {3: 0.125}),
        (StepDecay(0.1, 30), 90, {0: 1.0, 29.9: 1.0, 30: 0.1, 60: 0.01}),
        (PowerAfter(), 100, {0: 1.0, 11: 1.0, 14: 0.5, 26: 0.25}),
        (PowerAfter(offset=2, power=-1.0), 100, {3: 1.0, 6: 0.25}),
    ],
)
def test_shape_matches_its_formula(shape, total, expected):
    # round-off of a few operations on numbers near 1
    actual = {t: shape.factor(t, total) for t in expected}
    assert actual == pytest.approx(expected, rel=1e-15, abs=1e-16)


def test_groups_keep_their_proportions():
    groups = Groups({"lr": 0.1, "damping": 1e-3}, {"lr": 0.4, "damping": 1e-2})
    schedule = make("cosine")
    schedule.attach(groups, max_steps=4, steps_per_epoch=2)
    assert groups.values("lr") == [0.1, 0.4]
    schedule.set(2)
    # cos(pi/2) is 6e-17, not 0
    assert groups.values("lr") == pytest.approx([0.05, 0.2], rel=1e-15)
    assert groups.values("damping") == [1e-3, 1e-2]


def test_two_keys_follow_their_own_rules():
    """The published code's NG+ schedule: 6.7e-4 at epoch 40 from 0.18, damping 0.16 * 0.8^4."""
    groups = Groups({"lr": 0.18, "damping": 0.16})
    schedule = make("warmup_polynomial_damping")
    schedule.attach(groups, max_steps=400, steps_per_epoch=10)
    for epoch, lr in ((0, 0.18 * 0.0556), (5, 0.18), (39, 0.18 * (1 - 34 / 52) ** 5)):
        schedule.set(epoch * 10)
        # the formula is written with another order of operations
        assert groups.values("lr") == pytest.approx([lr], rel=1e-13)
        assert groups.values("damping") == pytest.approx([0.16 * 0.8 ** (epoch / 10)], rel=1e-14)
    schedule.set(400)
    # two digits are what the survey of the code gives
    assert groups.values("lr") == pytest.approx([6.7e-4], rel=0.01)


def test_epoch_changes_only_between_epochs():
    groups = Groups({"lr": 1.0})
    schedule = make("exponential", rules__lr__shape__rate=0.5, rules__lr__shape__period=1)
    schedule.attach(groups, max_steps=9, steps_per_epoch=3)
    seen = []
    for step in range(9):
        schedule.set(step)
        seen += groups.values("lr")
    assert seen == [1.0] * 3 + [0.5] * 3 + [0.25] * 3


def test_cosine_by_epoch_counts_epochs_of_the_run():
    groups = Groups({"lr": 1.0})
    schedule = make("cosine", rules__lr__by="epoch")
    schedule.attach(groups, max_steps=10, steps_per_epoch=5)
    schedule.set(9)
    assert groups.values("lr") == pytest.approx([0.5], rel=1e-15)


def test_fractions_of_an_epoch_count_where_a_rule_says_so():
    """NG+'s published code between epochs, t = epoch + batch / batches; damping likewise."""
    groups = Groups({"lr": 0.18, "damping": 0.16})
    schedule = make("warmup_polynomial_damping")
    schedule.attach(groups, max_steps=480, steps_per_epoch=10)
    for step, lr in ((25, 0.18 * (0.0556 + (1 - 0.0556) / 2)), (307, 0.18 * (1 - 25.7 / 52) ** 5)):
        schedule.set(step)
        assert groups.values("lr") == pytest.approx([lr], rel=1e-12)
        assert groups.values("damping") == pytest.approx([0.16 * 0.8 ** (step / 100)], rel=1e-12)


def test_constant_leaves_every_group_alone():
    groups = Groups({"lr": 0.1}, {"momentum": 0.9})
    schedule = make("constant")
    schedule.attach(groups, max_steps=3, steps_per_epoch=1)
    schedule.set(2)
    assert groups.param_groups == [{"lr": 0.1}, {"momentum": 0.9}]


@pytest.mark.parametrize("direction", ["min", "max"])
def test_plateau_reduces_after_patience(direction):
    sign = 1 if direction == "min" else -1
    shape = Plateau(factor=0.5, patience=1, threshold=0.1, minimum=0.2)
    factors = []
    #           first, better, worse, too little better, worse, nan, better, four more
    for value in (10.0, 8.0, 9.0, 7.9, 8.0, math.nan, 5.0, 5.0, 5.0, 5.0, 5.0):
        shape.observe(sign * value, direction)
        factors.append(shape.factor(0, 1))
    assert factors == [1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.25, 0.2, 0.2, 0.2]


def test_plateau_counts_a_first_nan_as_no_improvement():
    shape = Plateau(factor=0.5, patience=0, threshold=0.0, minimum=0.0)
    shape.observe(math.nan, "min")
    assert shape.factor(0, 1) == 0.5
    shape.observe(3.0, "min")
    shape.observe(2.0, "min")
    assert shape.factor(0, 1) == 0.5


def test_resume_continues_from_the_bases_and_the_plateau():
    def rules():
        plateau = Plateau(factor=0.5, patience=1, threshold=0.0, minimum=0.0)
        return {
            "lr": {"by": "step", "shape": plateau},
            "damping": {"by": "step", "shape": Cosine()},
        }

    values = [3.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]

    def play(schedule, groups, steps):
        seen = []
        for step in steps:
            schedule.set(step)
            seen.append((groups.values("lr"), groups.values("damping")))
            schedule.observe(values[step], "min")
        return seen

    groups = Groups({"lr": 0.1, "damping": 1.0}, {"lr": 0.3, "damping": 2.0})
    schedule = Schedule(rules())
    schedule.attach(groups, 7, 1)
    uncut = play(schedule, groups, range(7))

    groups = Groups({"lr": 0.1, "damping": 1.0}, {"lr": 0.3, "damping": 2.0})
    schedule = Schedule(rules())
    schedule.attach(groups, 7, 1)
    before = play(schedule, groups, range(4))
    # A resumed optimizer brings the driven values, not the bases.
    resumed_groups = Groups(*groups.param_groups)
    resumed = Schedule(rules())
    resumed.attach(resumed_groups, 7, 1)
    resumed.load_state_dict(schedule.state_dict())
    assert before + play(resumed, resumed_groups, range(4, 7)) == uncut
    assert len({lr[0] for lr, _ in uncut}) > 1


def test_missing_key_is_named_with_what_there_is():
    groups = Groups({"lr": 0.1, "damping": 1.0}, {"lr": 0.1, "nesterov": True, "betas": (0, 1)})
    schedule = Schedule({"damping": {"by": "step", "shape": Cosine()}})
    with pytest.raises(ValueError, match=r"^schedule rules\.damping .* got group 1 with lr$"):
        schedule.attach(groups, 10, 1)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Cosine(floor=1.5), "floor must be in [0, 1], got 1.5"),
        (lambda: WarmupPolynomial(-1, 1.0), "warmup must be >= 0, got -1"),
        (lambda: WarmupPolynomial(5, -1.0), "power must be >= 0, got -1.0"),
        (lambda: WarmupPolynomial(5, 1.0, end=5), "end must be > warmup (5), got 5"),
        (lambda: InverseSqrt(0), "warmup must be > 0, got 0"),
        (lambda: Exponential(0.0), "rate must be > 0, got 0.0"),
        (lambda: Exponential(0.5, period=0), "period must be > 0, got 0"),
        (lambda: StepDecay(0.0, 30), "rate must be > 0, got 0.0"),
        (lambda: StepDecay(0.1, 0), "period must be > 0, got 0"),
        (lambda: PowerAfter(offset=-1), "offset must be >= 0, got -1"),
        (lambda: Plateau(1.0, 1, 0.0, 0.0), "factor must be in (0, 1), got 1.0"),
        (
            lambda: Plateau(0.5, 1, 0.0, 0.0).observe(1.0, "down"),
            "direction must be 'min' or 'max', got 'down'",
        ),
        (
            lambda: Schedule({"lr": {"by": "steps", "shape": Constant()}}),
            "by must be one of step, epoch, continuous_epoch, got 'steps'",
        ),
        (
            lambda: Schedule({}).attach(Groups(), 0, 1),
            "max_steps must be >= 1, got 0",
        ),
    ],
)
def test_bad_values_are_refused(build, message):
    with pytest.raises(ValueError) as caught:
        build()
    assert str(caught.value) == message


def test_state_of_other_rules_or_groups_is_refused():
    schedule = make("cosine")
    schedule.attach(Groups({"lr": 0.1}), 10, 1)
    with pytest.raises(ValueError, match="schedule state must be of"):
        schedule.load_state_dict({})
    other = make("cosine")
    other.attach(Groups({"lr": 0.1}, {"lr": 0.2}), 10, 1)
    with pytest.raises(ValueError, match="must be of 2 parameter groups, got 1"):
        other.load_state_dict(schedule.state_dict())


# `default` only refers to others, by what the command line says: tests/test_configs.py.
FILES = sorted(set(CONF.glob("*.yaml")) - {CONF / "default.yaml"})


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_instantiates_and_drives_its_keys(path):
    config = OmegaConf.load(path)
    schedule = instantiate(config)
    groups = Groups({"lr": 0.5, "damping": 0.25})
    schedule.attach(groups, 200, 10)
    schedule.set(150)
    schedule.observe(1.0, "min")
    assert [rule.key for rule in schedule.rules] == list(config.rules)
    assert all(math.isfinite(value) for value in groups.param_groups[0].values())
