"""Settings of a run: what is allowed, and how a refusal reads."""

from pathlib import Path

import pytest
import torch

from runners.settings import PRECISIONS, Outcome, Place, Settings

GOOD = {
    "seed": 0,
    "precision": "float32",
    "device": "cpu",
    "max_steps": 1,
    "accumulate": 1,
    "grad_clip": 0.0,
    "spectra_every": 0,
}


def test_precisions_have_their_dtypes():
    assert {name: Settings(**{**GOOD, "precision": name}).dtype for name in PRECISIONS} == {
        "float32": torch.float32,
        "float64": torch.float64,
        "bf16_autocast": torch.float32,
    }


@pytest.mark.parametrize(
    "name, value, expected",
    [
        ("seed", -1, "an integer >= 0"),
        ("seed", 0.5, "an integer >= 0"),
        ("seed", True, "an integer >= 0"),
        ("max_steps", 0, "an integer >= 1"),
        ("accumulate", 0, "an integer >= 1"),
        ("spectra_every", -1, "an integer >= 0"),
        ("num_threads", 0, "an integer >= 1"),
        ("grad_clip", -1.0, "a number >= 0 or null"),
        ("grad_clip", "1", "a number >= 0 or null"),
        ("grad_clip", float("nan"), "a number >= 0 or null"),
        ("precision", "bf16", "one of float32, float64, bf16_autocast"),
        ("timing", "alone", "one of shared, exclusive"),
        ("progress", "yes", "one of auto, bar, none"),
        ("device", "gpu", "cpu, cuda or cuda:N"),
        ("checkpoint_steps", 0, "an integer >= 1 or null"),
        ("checkpoint_steps", "often", "an integer >= 1 or null"),
        ("checkpoint_seconds", -1, "a number >= 0"),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(name, value, expected):
    with pytest.raises(ValueError) as error:
        Settings(**{**GOOD, name: value})
    written = name.replace("checkpoint_", "checkpoint.")
    assert str(error.value) == f"{written} must be {expected}, got {value!r}"


def test_a_device_that_is_not_there_is_said():
    with pytest.raises(ValueError, match=r"device 'cuda:99': this machine has \d+ CUDA devices"):
        Settings(**{**GOOD, "device": "cuda:99"})


def test_a_run_has_its_folder():
    place = Place(Path("runs"), task="t", optimizer="o", scale="smoke", budget="full")
    assert place.run_dir("id") == Path("runs/t/o/id")


def test_an_outcome_is_plain_data():
    outcome = Outcome("finished", "t", "o", value=0.5)
    assert Outcome(**outcome.as_dict()) == outcome
