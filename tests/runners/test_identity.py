"""A run's identity: what it depends on and what it does not."""

import copy

import pytest

from runners.identity import identity_config, run_id

CONFIG = {
    "seed": 0,
    "precision": "float32",
    "device": "cpu",
    "max_steps": 10,
    "scale": "smoke",
    "task": {"_target_": "tasks.ptb_lstm.PTBLSTM", "data_dir": "/a", "bptt": 10, "clip_norm": None},
    "optimizer": {"lr": 0.1, "betas": [0.9, 0.999], "groups": []},
    "schedule": {"rules": {}},
    "choices": {"task": "ptb_lstm", "optimizer": "adam"},
    "runs_dir": "runs",
    "data_dir": "/a",
    "tracking": {"mode": None},
    "num_threads": 1,
    "progress": "auto",
    "timing": "shared",
    "force": False,
    "dry_run": False,
    "checkpoint": {"seconds": 60},
    "budget": {"name": "full"},
    "experiment": None,
}
VERSIONS = {"runner": 1, "task": 1, "optimizer": 1}


def identity(config=CONFIG, data_hash="hash", versions=VERSIONS):
    return run_id(identity_config(config), data_hash, versions)


def changed(path, value):
    config = copy.deepcopy(CONFIG)
    *folders, key = path.split(".")
    inner = config
    for folder in folders:
        inner = inner[folder]
    assert inner.get(key, "absent") != value
    inner[key] = value
    return config


def test_it_is_twelve_hexadecimal_digits_for_ever():
    assert identity() == identity(copy.deepcopy(CONFIG))
    # Runs on disk are found again by this name: another hash would make all of them again.
    assert identity() == "ced0921bb77b"
    assert len(identity()) == 12 and int(identity(), 16) >= 0


@pytest.mark.parametrize(
    "path, value",
    [
        ("runs_dir", "elsewhere"),
        ("data_dir", "/b"),
        ("task.data_dir", "/b"),
        ("task.num_workers", 4),
        ("tracking", {"mode": "offline"}),
        ("num_threads", 2),
        ("progress", "none"),
        ("timing", "exclusive"),
        ("force", True),
        ("dry_run", True),
        ("checkpoint", {"seconds": 1, "steps": 5}),
        ("budget", {"name": "figure"}),
        ("experiment", {"name": "x"}),
        ("sweep", "x"),
        ("trial", 3),
    ],
)
def test_what_cannot_change_numbers_is_not_in_it(path, value):
    assert identity(changed(path, value)) == identity()


@pytest.mark.parametrize(
    "path, value",
    [
        ("seed", 1),
        ("precision", "float64"),
        ("device", "cuda"),
        ("max_steps", 11),
        ("scale", "small"),
        ("task.bptt", 11),
        ("task.clip_norm", 0.0),
        ("task.a_key_added_later", 1),
        ("optimizer.lr", 0.1000000001),
        ("optimizer.betas", [0.9, 0.99]),
        ("optimizer.groups", [{"ndim": [1], "weight_decay": 0.0}]),
        ("schedule", {"rules": {"lr": {"by": "step"}}}),
        ("choices.optimizer", "adamw"),
        ("a_key_added_later", None),
    ],
)
def test_what_can_change_numbers_is_in_it(path, value):
    assert identity(changed(path, value)) != identity()


def test_the_kind_of_device_counts_and_its_number_does_not():
    one, two = changed("device", "cuda:0"), changed("device", "cuda:1")
    assert identity(one) == identity(two) == identity(changed("device", "cuda"))


def test_data_and_numerics_versions_count():
    ids = {identity(), identity(data_hash="other")}
    ids |= {identity(versions={**VERSIONS, name: 2}) for name in VERSIONS}
    assert len(ids) == 5


def test_the_order_of_keys_does_not_count():
    assert identity(dict(reversed(CONFIG.items()))) == identity()
