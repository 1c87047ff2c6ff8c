"""Golden trajectories: numbers that move need a raised `numerics_version`, and the reverse.

python -m tests.test_golden --write      writes the files that a raised version has made stale
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import pytest
import torch
import yaml
from hydra.utils import get_class

from runners import checkpoint
from runners.records import read_manifest
from tests.commands import CONF, ROOT, column, command, the_run

GOLDEN = Path(__file__).parent / "golden"

# All in float64. Sums differ between processors by about 1e-16 of their terms. Measured: a relative
# change of 1e-13 in the condition number of the data moves no case by more than 4e-11, so that RTOL
# leaves plenty of room, and a change of any formula is far above it.
RTOL = 1e-6

COMMON = ("scale=smoke", "num_threads=1", "precision=float64", "checkpoint.keep=true")
# Small enough for the quadratics' curvature of up to 2 * 10 * 10 and losses summed over pixels.
TASK_RATES = {
    **dict.fromkeys(("quadratic", "quadratic_384", "quadratic_1536", "ae_mnist"), "1e-3"),
    "ae_curves": "1e-2",
    "matproj_schnet": "1e-2",
    "qm9_schnet": "1e-4",
    "barrier": "1e-4",
    "ml20m_hvamp": "1e-3",
}
# No dropout: its masks come from a library that not every build of torch has.
NO_DROPOUT = {
    "iwslt14_transformer": ["task.model.dropout=0.0"],
    "ml20m_hvamp": ["task.model.dropout=0.0"],
    "ptb_word_lstm": [
        f"task.dropout.{rate}=0.0" for rate in ("words", "inputs", "hidden", "outputs", "weights")
    ],
}
# For whichever optimizer has these: a window that is overwritten within 20 steps, kept in float64,
# and a damping with which round-off is not blown up, as the literal 1/1e-8 of Algorithm 1 does.
# Roots that are renewed, and blocks that do not divide evenly. What is null or 0 stays so.
IF_PRESENT = {
    "window": "7",
    "window_dtype": "float64",
    "damping": "1e-2",
    "update_freq": "3",
    "block_size": "7",
    "sketch_size": "5",
    "statistics_dtype": "float64",
    "root_dtype": "float64",
    "apply_dtype": "float64",
}
# The parameters are a vector; a matrix, which most methods are about; several layers with samples.
VECTOR, MATRIX, LAYERS = "task=logistic", "task=quadratic", "task=ptb_lstm"
RATES = {VECTOR: "0.01", MATRIX: "0.001", LAYERS: "0.1"}
# A rate that multiplies what is already a length.
RATES |= {"lars": "1.0", "gd_line_search": "0.5", "newton": "0.5"}
OF_VECTORS = {
    "adadelta", "adagrad", "adam", "adamw", "full_adagrad", "ggt", "ggt_authors", "ggt_printed",
    "nesterov", "rmsprop", "sgd",
}  # fmt: skip
# With a single layer, or a damping above its squared gradients, both readings are alike.
OF_LAYERS = {"adagrad_bma", "adagrad_bma_printed"}
# Muon multiplies matrices in bfloat16, which processors round each in its own way.
UNSTEADY = {"muon"}
# An optimizer that draws from the global generators, so that their seeding counts.
RUNNER = (
    "task=ptb_lstm optimizer=sgd optimizer.cls.path=tests.toys.Noisy optimizer.lr=0.5 accumulate=2 "
    "grad_clip=0.2 schedule=warmup_polynomial schedule.rules.lr.shape.warmup=4 "
    "task.average_last=5 seed=3"
)


def cases() -> dict[str, list[str]]:
    """Name of a file -> overrides."""
    found = {"runner": RUNNER.split()}
    for path in sorted((CONF / "task").glob("*.yaml")):
        lr = f"optimizer.lr={TASK_RATES.get(path.stem, '0.1')}"
        more = NO_DROPOUT.get(path.stem, [])
        found[f"task-{path.stem}"] = [f"task={path.stem}", "optimizer=sgd", lr, *more]
    for path in sorted((CONF / "optimizer").glob("*.yaml")):
        own = yaml.safe_load(path.read_text())
        package = own["cls"]["path"].split(".")[0]
        # Peers have no version that could be raised: their numbers are their own affair.
        if path.stem in UNSTEADY or package not in ("torch", "optimizers"):
            continue
        more = [
            f"optimizer.{key}={value}"
            for key, value in IF_PRESENT.items()
            if own.get(key) and not (key == "damping" and path.stem in OF_LAYERS)
        ]
        task = VECTOR if path.stem in OF_VECTORS else MATRIX
        needs_model = getattr(get_class(own["cls"]["path"]), "needs_model", False)
        if needs_model or path.stem in OF_LAYERS:
            task = LAYERS
        # The rate is said, so that another default is no change of numbers.
        more.append(f"optimizer.lr={RATES.get(path.stem, RATES[task])}")
        found[f"optimizer-{path.stem}"] = [task, f"optimizer={path.stem}", *more]
    return found


def trajectory(overrides: list[str], sets_dir: Path) -> dict:
    """Run a case; its versions and numbers."""
    with tempfile.TemporaryDirectory() as folder:
        result = command(*overrides, *COMMON, f"runs_dir={folder}", sets_dir=sets_dir)
        assert result.code == 0, result
        run_dir = the_run(Path(folder))
        manifest, saved = read_manifest(run_dir), checkpoint.load(run_dir)
        losses = column(run_dir, "steps", "loss")
        tensors = [t.double() for t in saved["model"].values()]
        norm = torch.linalg.vector_norm(torch.cat([t.flatten() for t in tensors]))
        return {
            "overrides": overrides,
            "numerics_versions": manifest["numerics_versions"],
            "losses": losses[:: max(1, len(losses) // 10)],
            "last_metric": manifest["best"]["last"],
            "parameter_norm": norm.item(),
        }


def moved(golden: dict, fresh: dict) -> bool:
    """Whether the numbers differ by more than the processor can make them."""

    def flat(entry):
        return [*entry["losses"], entry["last_metric"], entry["parameter_norm"]]

    a, b = (torch.tensor(flat(entry), dtype=torch.float64) for entry in (golden, fresh))
    return a.shape != b.shape or not torch.allclose(a, b, rtol=RTOL, atol=1e-12)


def complaint(golden: dict, fresh: dict) -> str:
    """What is wrong with a case; "" if nothing is."""
    before, now = golden["numerics_versions"], fresh["numerics_versions"]
    if before != now:
        return (
            f"numerics versions were {before} and are {now}: write the golden file anew with "
            "python -m tests.test_golden --write"
        )
    if moved(golden, fresh):
        return "numbers moved: raise the numerics_version of what changed, and say so"
    return ""


CASES = cases()


@pytest.mark.parametrize("name", CASES)
def test_numbers_move_only_with_their_version(name, sets_dir):
    golden = json.loads((GOLDEN / f"{name}.json").read_text())
    fresh = trajectory(CASES[name], sets_dir)
    assert golden["overrides"] == CASES[name], "the case has changed: write its golden file anew"
    assert complaint(golden, fresh) == ""


def test_every_golden_file_belongs_to_a_case():
    assert {path.stem for path in GOLDEN.glob("*.json")} == set(CASES)


def test_a_change_is_noticed():
    golden = json.loads((GOLDEN / "task-logistic.json").read_text())
    assert complaint(golden, golden) == ""
    for key in ("last_metric", "parameter_norm"):
        # Ten times the tolerance.
        assert "numbers moved" in complaint(golden, {**golden, key: golden[key] * (1 + 1e-5)})
    losses = [*golden["losses"][:-1], golden["losses"][-1] * (1 - 1e-5)]
    assert "numbers moved" in complaint(golden, {**golden, "losses": losses})
    assert "numbers moved" in complaint(golden, {**golden, "losses": losses[:-1]})
    raised = {**golden["numerics_versions"], "task": golden["numerics_versions"]["task"] + 1}
    assert "write the golden file anew" in complaint(
        golden, {**golden, "numerics_versions": raised}
    )


def write() -> int:
    """Write new files and those of a raised version; refuse numbers that moved without one."""
    from tests.fake_sets import write_sets

    with tempfile.TemporaryDirectory() as folder:
        sets_dir = write_sets(Path(folder) / "sets")
        refused = 0
        for name, overrides in CASES.items():
            path, fresh = GOLDEN / f"{name}.json", trajectory(overrides, sets_dir)
            golden = json.loads(path.read_text()) if path.exists() else None
            if golden is not None and golden["overrides"] == overrides:
                said = complaint(golden, fresh)
                if not said:
                    continue
                if golden["numerics_versions"] == fresh["numerics_versions"]:
                    print(f"{name}: {said}")
                    refused = 1
                    continue
            path.write_text(json.dumps(fresh, indent=1) + "\n")
            print(f"wrote {path.relative_to(ROOT)}")
    return refused


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python -m tests.test_golden --write")
    sys.exit(write())
