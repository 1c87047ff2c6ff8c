"""What records say about machine, packages, commit and memory; and what they must not say."""

import getpass
import json
import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from runners import environment


def test_hardware_describes_this_machine():
    found = environment.hardware()
    assert list(found) == ["cpu", "cores", "memory_gib", "gpu", "platform", "fingerprint"]
    assert found["cores"] == os.cpu_count()
    assert found["memory_gib"] > 0.1
    assert len(found["fingerprint"]) == 12 and int(found["fingerprint"], 16) >= 0
    assert found["gpu"] is None or isinstance(found["gpu"], str)
    json.dumps(found)


def test_fingerprint_depends_on_cpu_cores_and_gpu(monkeypatch):
    def fingerprint():
        return dict(environment._hardware.__wrapped__())["fingerprint"]

    first = fingerprint()
    assert fingerprint() == first == environment.hardware()["fingerprint"]
    monkeypatch.setattr(environment, "_gpu", lambda: "another GPU")
    second = fingerprint()
    monkeypatch.setattr(os, "cpu_count", lambda: 1000)
    assert len({first, second, fingerprint()}) == 3


def test_callers_cannot_change_what_is_cached():
    environment.hardware()["cpu"] = "changed"
    environment.packages()["torch"] = "changed"
    assert environment.hardware()["cpu"] != "changed"
    assert environment.packages()["torch"] != "changed"


def test_packages_gives_versions():
    found = environment.packages()
    assert found["torch"] == metadata.version("torch")
    assert found["python"] == platform.python_version()
    assert set(found) == {"python", *environment.PACKAGES}


def test_a_package_that_is_missing_is_none():
    assert environment._version("no-such-distribution-of-kappa") is None


def test_describing_is_fast_and_imports_nothing_heavy():
    code = (
        "import sys, time\n"
        "from runners import environment as e\n"
        "start = time.perf_counter()\n"
        "e.hardware(), e.packages(), e.peak_memory_bytes()\n"
        "print(time.perf_counter() - start)\n"
        "assert not {'torch', 'numpy', 'wandb', 'pyarrow', 'omegaconf'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    # about 10 ms on an idle core; the margin is for a machine that does other things
    assert float(done.stdout) < 0.5


def test_nothing_names_host_user_or_paths():
    text = json.dumps([environment.hardware(), environment.packages(), environment.commit()])
    assert str(Path.cwd()) not in text
    for name in (platform.node(), getpass.getuser()):
        # short names ("c", "root") may be parts of ordinary words
        if len(name) > 5:
            assert name not in text


def git(folder, *arguments):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", *identity, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "runners").mkdir()
    (tmp_path / "runners" / "code.py").write_text("a = 1\n")
    (tmp_path / ".gitignore").write_text("runs/\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    environment.commit.cache_clear()
    yield tmp_path
    environment.commit.cache_clear()


def test_commit_of_a_clean_checkout(checkout):
    (checkout / "runs").mkdir()
    (checkout / "runs" / "record").write_text("ignored")
    head = git(checkout, "rev-parse", "HEAD")
    assert environment.commit(checkout / "runners") == (head, False)


@pytest.mark.parametrize("name", ["runners/code.py", "runners/new.py"])
def test_changed_and_new_files_make_it_dirty(checkout, name):
    (checkout / name).write_text("a = 2\n")
    head = git(checkout, "rev-parse", "HEAD")
    assert environment.commit(checkout / "runners") == (head, True)


def test_an_installed_copy_is_not_given_a_foreign_commit(checkout):
    installed = checkout / "runs" / "site-packages" / "runners"
    installed.mkdir(parents=True)
    (installed / "code.py").write_text("a = 1\n")
    assert environment.commit(installed) == (None, None)


def test_hooks_of_another_repository_do_not_mislead(checkout, monkeypatch, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    git(other, "init", "-q")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    assert environment.commit(checkout / "runners")[0] == git(checkout, "rev-parse", "HEAD")


def test_no_commit_outside_a_checkout_or_without_git(checkout, tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("plain")
    assert environment.commit(folder) == (None, None)
    monkeypatch.setenv("PATH", str(folder))
    assert environment.commit(checkout / "runners") == (None, None)


def test_peak_memory_grows_with_an_allocation():
    before = environment.peak_memory_bytes()
    block = np.ones(32 * 2**20, dtype=np.uint8)
    after = environment.peak_memory_bytes()
    assert 2**20 < before < 2**40
    # the peak may lie above what was resident before the allocation
    assert after >= before and after > block.nbytes


def test_peak_memory_of_a_child_is_its_own():
    block = np.ones(256 * 2**20, dtype=np.uint8)
    code = "from runners import environment as e; print(e.peak_memory_bytes())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < block.nbytes


def test_peak_memory_on_a_device_asks_the_device():
    class Cuda:
        def max_memory_allocated(self):
            return 123

    assert environment.peak_memory_bytes(cuda=Cuda()) == 123


def test_cached_calls_cost_nothing():
    environment.hardware(), environment.packages()
    start = time.perf_counter()
    for _ in range(100):
        environment.hardware(), environment.packages()
    # 100 uncached calls would read 100 files and take about a second
    assert time.perf_counter() - start < 0.1
