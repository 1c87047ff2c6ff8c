"""A mistake in a command: exit status 2, one line that names it, and nothing left."""

import json
import subprocess
import sys

import pytest

from tests.commands import ROOT, command, the_run
from tests.places import go_elsewhere, litter

SMOKE = ("scale=smoke", "num_threads=1")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    go_elsewhere(tmp_path, monkeypatch)


def assert_refused(result, tmp_path, *words):
    """Exit 2, one line that holds every word, and nothing left anywhere."""
    assert result.code == 2, result
    (line,) = result.err.splitlines()
    for word in words:
        assert word in line
    assert result.out == ""
    assert litter(tmp_path) == []
    assert not (tmp_path / "runs").exists()


# ---------------------------------------------------------------- on the command line


@pytest.mark.parametrize(
    "overrides, words",
    [
        ("optimizer.lrr=1", ["optimizer.lrr", "close matches", "optimizer.lr"]),
        ("optimizr=adam", ["optimizr", "close matches", "optimizer"]),
        ("task.num_sample=5", ["task.num_sample", "task.num_samples"]),
        ("optimizer=addam", ["unknown optimizer 'addam'", "adam", "available"]),
        ("task=logisitc", ["unknown task 'logisitc'", "logistic"]),
        ("optimizer.lr=-1", ["lr must be >= 0", "-1"]),
        ("optimizer=adam optimizer.lr=-1", ["lr must be >= 0", "-1"]),
        ("optimizer=ggt optimizer.window=0", ["window must be", "0"]),
        ("optimizer=ggt optimizer.damping=-0.1", ["damping must be > 0", "-0.1"]),
        ("optimizer=shampoo optimizer.floor=null", ["floor must be >= 0", "None"]),
        ("optimizer=shampoo optimizer.exponent=true", ["exponent must be None or > 0", "True"]),
        ("optimizer=shampoo optimizer.graft=[sgd]", ["graft must be one of none, sgd", "sgd"]),
        ("optimizer=adam_norm_grad optimizer.betas=0.9", ["betas must be two numbers", "0.9"]),
        ("optimizer.lr=fast", ["lr", "fast"]),
        ("scale=tiny", ["scale", "tiny", "smoke", "small", "paper"]),
        ("schedule=warmup_polynomial_damping", ["damping", "schedule"]),
        ("precision=float16", ["precision must be one of float32, float64", "float16"]),
        ("device=gpu", ["device", "gpu"]),
        ("device=cuda:63", ["device", "cuda:63"]),
        ("max_steps=0", ["max_steps must be an integer >= 1", "0"]),
        ("max_steps=1.5", ["max_steps must be an integer >= 1", "1.5"]),
        ("seed=-1", ["seed must be an integer >= 0", "-1"]),
        ("accumulate=2", ["accumulate must be <= 1"]),
        ("task.dim=0", ["dim must be >= 1", "0"]),
        ("task.labels=random", ["labels must be one of sampled, hyperplane", "random"]),
        ("task.target.split=valid", ["split must be one of train", "valid"]),
        ("timing=alone", ["timing must be one of shared, exclusive", "alone"]),
        ("probe=gradient_window probe.window=0", ["window must be", "0"]),
        ("experiment=ggt_fig9", ["experiment", "ggt_fig9", "ggt_fig2"]),
        ("sweep=lr_gird", ["sweep", "lr_gird", "lr_grid"]),
        ("optimizer.lr", ["optimizer.lr"]),
    ],
)
def test_a_mistake_gets_one_line_and_leaves_nothing(overrides, words, tmp_path):
    result = command("task=logistic", "scale=smoke", *overrides.split())
    assert_refused(result, tmp_path, *words)


def test_a_dry_run_refuses_what_a_run_refuses(tmp_path):
    nowhere = f"data_dir={tmp_path / 'data'}"
    for asked in (("task=logistic", "scale=smoke"), ("task=ptb_lstm", nowhere)):
        result = command(*asked, "tracking=none", "dry_run=true", "optimizer.lr=-1")
        assert result.code == 2
        assert "lr must be >= 0, got -1" in result.err
        assert not (tmp_path / "runs").exists()


def test_run_py_is_a_script_of_its_own(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), "task=logistic", "scale=smoke", "optimizer=addam"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert litter(tmp_path) == []


# ---------------------------------------------------------------- in data and records


def test_missing_data_says_how_to_get_it(tmp_path):
    result = command("task=ptb_lstm", "scale=smoke", f"data_dir={tmp_path / 'data'}")
    words = ["python -m scripts.prepare_data ptb", "by hand", str(tmp_path / "data" / "ptb")]
    assert_refused(result, tmp_path, *words)
    assert not (tmp_path / "data").exists()


def test_one_changed_byte_is_found(ptb_dir, tmp_path):
    folder = tmp_path / "data" / "ptb"
    folder.mkdir(parents=True)
    for path in (ptb_dir / "ptb").glob("ptb.*"):
        (folder / path.name).symlink_to(path)
    damaged = folder / "ptb.char.valid.txt"
    content = bytearray(damaged.read_bytes())
    content[1000] ^= 1
    damaged.unlink()
    damaged.write_bytes(content)
    result = command("task=ptb_lstm", "scale=smoke", f"data_dir={tmp_path / 'data'}")
    assert_refused(result, tmp_path, f"{damaged} is damaged: it has SHA-256 ", ", expected ")
    # Both checksums, in full.
    assert sum(len(word.strip(",;")) == 64 for word in result.err.split()) == 2


def test_records_of_an_unknown_version_are_refused(tmp_path):
    from analysis import load_runs
    from runners.records import RecordsError

    assert command("task=logistic", *SMOKE).code == 0
    path = the_run(tmp_path / "runs") / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 99}))
    text = path.read_text()
    result = command("task=logistic", *SMOKE)
    assert result.code == 2
    (line,) = result.err.splitlines()
    assert str(path) in line and "99" in line
    assert path.read_text() == text
    with pytest.raises(RecordsError, match="schema version 99"):
        load_runs(tmp_path / "runs")
