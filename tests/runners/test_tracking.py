"""W&B, offline and with the real package: what was logged is what the rows say.

Each run is tracked in a process of its own, since offline files are complete only when it ends.
"""

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from runners.records import RecordWriter, spectrum_row
from runners.tracking import NUM_BINS, NullTracker, WandbTracker
from tests.runners.wandb_reader import read

ROOT = Path(__file__).parents[2]
# Well formed, and of nobody.
FAKE_KEY = "0123456789abcdef" * 3

SCRIPT = """
import json, sys
from pathlib import Path
from runners.tracking import WandbTracker
job = json.loads(sys.stdin.read())
tracker = WandbTracker(**job["tracker"])
tracker.start(run_dir=Path(job["run_dir"]), run_id="abc123", name="logistic sgd abc123",
              config=job["config"], group="sweep-1", tags=["logistic", "sgd"],
              resume_step=job["resume_step"])
for block in job["blocks"]:
    tracker.log({name: [tuple(row) for row in rows] for name, rows in block.items()})
tracker.finish(job["status"], job["summary"])
print(json.dumps({"mode": tracker.mode, "problem": tracker.problem}))
"""


def environment(tmp_path, **changes):
    """A home without credentials, nothing of W&B set, and no way to the network."""
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB_", "NETRC"))}
    return {**kept, "HOME": str(home), "PYTHONPATH": str(ROOT), **changes}


def track(tmp_path, blocks, env=None, **job):
    """Track `blocks` of rows in another process; returns its report and its error output."""
    job = {
        "run_dir": str(tmp_path / "run"),
        "tracker": {},
        "config": {"optimizer": {"lr": 0.1, "betas": [0.9, 0.999]}, "seed": 1},
        "resume_step": 0,
        "status": "finished",
        "summary": {"best": 0.25},
        "blocks": blocks,
        **job,
    }
    workplace = tmp_path / "cwd"
    workplace.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=json.dumps(job),
        env=environment(tmp_path, **(env or {})),
        cwd=workplace,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert list(workplace.iterdir()) == []
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def offline_files(tmp_path):
    return sorted((tmp_path / "run").glob("wandb/offline-run-*/run-abc123.wandb"))


def step_row(step, update_norm=None):
    # nan, infinities and None among ordinary numbers
    loss = {5: math.nan, 6: math.inf, 7: -math.inf}.get(step, 1 / (step + 3))
    return (step, loss, 0.1, 1e-300 * step, 0.005 * step, update_norm)


def make_blocks():
    """Rows of 10 steps, two evaluations and three spectra, in two blocks cut within step 6."""
    eigenvalues = [10.0**-k for k in range(40)] + [0.0, -1e-12]
    steps = [step_row(step, 0.5 if step == 3 else None) for step in range(10)]
    first = {
        "steps": steps[:7],
        "evals": [
            (0, 0.0, "valid", "loss", 2.5, 0.0),
            (0, 0.0, "valid", "perplexity", math.nan, 0.0),
        ],
        "spectra": [
            spectrum_row(3, "gram", "gram", eigenvalues, 1e-6, 1e-12, 0),
            spectrum_row(3, "layer/left", "factor", [2.0, 2.0], 0.0, math.nan, 1, 5),
            spectrum_row(4, "gram", "gram", [0.0, -1.0], 1e-6, math.nan, 2),
        ],
    }
    second = {
        "steps": steps[7:],
        "evals": [(6, 0.6, "valid", "loss", 2.25, 0.03), (10, 1.0, "valid", "loss", 2.0, 0.05)],
        "spectra": [],
    }
    return [first, second]


def expected_history(blocks):
    """The rows as W&B should show them, written independently of the tracker."""
    history = {}
    columns = ("loss", "lr", "grad_norm", "train_seconds", "update_norm")
    for block in blocks:
        for step, *values in block["steps"]:
            named = zip(columns, values, strict=True)
            history.setdefault(step, {}).update({k: v for k, v in named if v is not None})
        for step, epoch, split, metric, value, seconds in block["evals"]:
            at = history.setdefault(step, {})
            at[f"{split}/{metric}"] = value
            at[f"{split}/epoch"], at[f"{split}/train_seconds"] = epoch, seconds
        for row in block["spectra"]:
            step, name, _, _, resolution, condition, rank, residual, fallbacks, staleness = row
            at, prefix = history.setdefault(step, {}), f"spectra/{name}"
            at[f"{prefix}/resolution"], at[f"{prefix}/root_residual"] = resolution, residual
            at[f"{prefix}/condition_number"], at[f"{prefix}/effective_rank"] = condition, rank
            at[f"{prefix}/fallbacks"], at[f"{prefix}/staleness"] = fallbacks, staleness
    return history


def without_histograms(history):
    return {
        step: {k: v for k, v in values.items() if "/histogram" not in k}
        for step, values in history.items()
    }


def assert_same(found, expected):
    assert list(found) == list(expected)
    for step, values in expected.items():
        assert sorted(found[step]) == sorted(values)
        # bit for bit: numbers travel as their shortest decimal form
        np.testing.assert_array_equal(
            [found[step][k] for k in sorted(values)], [values[k] for k in sorted(values)]
        )


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("tracked")
    report, errors = track(tmp_path, make_blocks())
    (path,) = offline_files(tmp_path)
    return report, errors, read(path), path


def test_offline_needs_no_account_and_says_nothing(tracked):
    report, errors, _, _ = tracked
    assert report == {"mode": "offline", "problem": None}
    assert errors == ""


def test_offline_file_holds_every_row_once(tracked):
    found = tracked[2]
    assert found["steps"] == list(range(11))
    assert_same(without_histograms(found["history"]), expected_history(make_blocks()))


def test_spectra_become_histograms_of_positive_eigenvalues(tracked):
    history = tracked[2]["history"]
    prefix = "spectra/gram/histogram"
    gram = {key: history[3][f"{prefix}/{key}"] for key in ("_type", "bins", "values")}
    assert gram["_type"] == "histogram"
    counts, edges = np.histogram(np.log10([10.0**-k for k in range(40)]), bins=NUM_BINS)
    np.testing.assert_array_equal(gram["values"], counts)
    np.testing.assert_array_equal(gram["bins"], edges)
    assert sum(gram["values"]) == 40
    single = history[3]["spectra/layer/left/histogram/values"]
    assert sum(single) == 2 and max(single) == 2
    assert not [key for key in history[4] if "histogram" in key]


def test_run_carries_config_group_and_result(tracked):
    found = tracked[2]
    run = found["run"]
    assert (run.run_id, run.project, run.run_group) == ("abc123", "kappa", "sweep-1")
    assert run.display_name == "logistic sgd abc123"
    assert list(run.tags) == ["logistic", "sgd"]
    assert found["config"]["optimizer"] == {"lr": 0.1, "betas": [0.9, 0.999]}
    assert found["summary"]["best"] == 0.25 and found["summary"]["status"] == "finished"
    assert found["exit_code"] == 0


def test_run_says_nothing_about_machine_code_or_user(tracked):
    run, path = tracked[2]["run"], tracked[3]
    assert run.host == ""
    assert not run.HasField("git")
    content = path.read_bytes()
    assert str(ROOT).encode() not in content
    assert str(path.parents[2]).encode() not in content
    assert not [p for p in path.parent.rglob("*") if p.suffix == ".py"]
    assert not (path.parent / "files" / "requirements.txt").exists()


def test_resumed_run_writes_a_second_part_from_where_it_stopped(tmp_path):
    blocks = make_blocks()
    cut = [{**blocks[0], "steps": blocks[0]["steps"][:6]}]
    track(tmp_path, cut, status="interrupted")
    again = {
        "steps": [step_row(step) for step in range(4, 10)],
        "evals": blocks[1]["evals"],
        "spectra": [],
    }
    time.sleep(1.1)  # W&B names its folders by the second
    track(tmp_path, [again], resume_step=6)
    first, second = (read(path) for path in offline_files(tmp_path))
    assert first["run"].run_id == second["run"].run_id == "abc123"
    assert first["exit_code"] == 1 and second["exit_code"] == 0
    assert first["steps"] + second["steps"] == list(range(11))
    expected = expected_history([again])
    assert_same(second["history"], {step: expected[step] for step in range(6, 11)})


def test_divergence_is_a_result_and_failure_is_not(tmp_path):
    blocks = [{"steps": [step_row(5)], "evals": [], "spectra": []}]
    for status, code in (("diverged", 0), ("failed", 1)):
        place = tmp_path / status
        place.mkdir()
        track(place, blocks, status=status, summary={"best": None})
        (path,) = offline_files(place)
        found = read(path)
        assert found["exit_code"] == code and found["summary"]["status"] == status
        assert math.isnan(found["history"][5]["loss"])


def test_unreachable_server_costs_a_line_and_goes_offline(tmp_path):
    env = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": FAKE_KEY}
    start = time.monotonic()
    report, errors = track(tmp_path, make_blocks(), env=env)
    # 10 s until the server counts as absent; the rest is for a slow machine
    assert time.monotonic() - start < 30
    assert report == {"mode": "offline", "problem": None}
    assert errors.count("\n") == 1 and "could not go online" in errors
    assert FAKE_KEY not in errors
    (path,) = offline_files(tmp_path)
    assert read(path)["steps"] == list(range(11))


def test_online_without_a_login_goes_offline_and_never_asks(tmp_path):
    report, errors = track(tmp_path, make_blocks()[:1], tracker={"mode": "online"})
    assert report == {"mode": "offline", "problem": None}
    assert errors == "W&B: not logged in; tracking offline\n"


def test_wandb_mode_of_the_environment_is_heard(tmp_path):
    env = {"WANDB_MODE": "offline", "WANDB_API_KEY": FAKE_KEY}
    report, errors = track(tmp_path, make_blocks()[:1], env=env)
    assert report["mode"] == "offline" and errors == ""


def test_netrc_counts_as_logged_in(tmp_path):
    """Seen from the attempt to go online; a key that is too short fails at once."""
    (tmp_path / "netrc").write_text("machine api.example.org login user password short\n")
    env = {"NETRC": str(tmp_path / "netrc"), "WANDB_BASE_URL": "https://api.example.org"}
    report, errors = track(tmp_path, make_blocks()[:1], env=env)
    assert report == {"mode": "offline", "problem": None}
    assert "could not go online (AuthenticationError" in errors


def test_without_wandb_tracking_is_off_with_one_line(tmp_path):
    shadow = tmp_path / "shadow"
    shadow.mkdir()
    (shadow / "wandb.py").write_text("raise ImportError('No module named wandb')\n")
    env = {"PYTHONPATH": f"{shadow}{os.pathsep}{ROOT}"}
    report, errors = track(tmp_path, make_blocks(), env=env)
    assert report["problem"].startswith("start failed (ImportError")
    assert errors.count("\n") == 1 and "tracking is off" in errors
    assert not (tmp_path / "run").exists()


class FailingRun:
    """Stands in for a W&B run whose service has died."""

    def log(self, data, step):
        raise BrokenPipeError("service\nhas gone")


def test_a_failure_while_logging_turns_it_off_once():
    lines = []
    tracker = WandbTracker(warn=lines.append)
    tracker._run = FailingRun()
    for _ in range(3):
        tracker.log(make_blocks()[1])
    tracker.finish("finished", {})
    assert lines == [
        "W&B: log failed (BrokenPipeError: service has gone); "
        "tracking is off, the records are not affected"
    ]
    assert tracker.problem == "log failed (BrokenPipeError: service has gone)"


def test_bad_mode_is_refused():
    with pytest.raises(ValueError, match="must be online, offline or null, got 'on'"):
        WandbTracker(mode="on")


def test_importing_tracking_does_not_import_wandb():
    code = "import sys, runners.tracking as t; t.WandbTracker(); assert 'wandb' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


@pytest.mark.parametrize(("name", "kind"), [("none", NullTracker), ("wandb", WandbTracker)])
def test_configuration_builds_the_tracker(name, kind):
    tracker = instantiate(OmegaConf.load(ROOT / "conf" / "tracking" / f"{name}.yaml"))
    assert isinstance(tracker, kind)


def test_null_tracker_takes_what_the_other_takes(tmp_path):
    tracker, writer = NullTracker(), RecordWriter(tmp_path)
    tracker.start(tmp_path, "abc123", "name", {}, None, [], resume_step=0)
    tracker.log(writer.unseen())
    tracker.finish("finished", {})
    assert list(tmp_path.iterdir()) == []
