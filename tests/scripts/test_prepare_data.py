"""The command that prepares a data set."""

import pytest

from scripts import prepare_data
from tasks.data import cifar100
from tests.tasks.originals import cifar_records, random_bytes

COUNTS = {"train": 3, "test": 2}


@pytest.fixture
def originals(tmp_path, monkeypatch):
    """A tiny CIFAR-100 as it is unpacked."""
    (tmp_path / "originals").mkdir()
    for split, count in COUNTS.items():
        monkeypatch.setitem(cifar100.NUM_IMAGES, split, count)
        labels = random_bytes(1, (count,)) % 100
        batch = cifar_records(random_bytes(2, (count, 32, 32, 3)), labels, coarse=0)
        (tmp_path / "originals" / f"{split}.bin").write_bytes(batch)
    return tmp_path / "originals"


def test_a_set_is_prepared_once(originals, tmp_path, monkeypatch, capsys):
    arguments = ["cifar100", "--from", str(originals), "--data-dir", str(tmp_path / "data")]
    assert prepare_data.main(arguments) == 0
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "data/cifar100").iterdir()}
    assert len(times) == 5
    assert prepare_data.main(arguments) == 0
    assert {path: path.stat().st_mtime_ns for path in times} == times
    monkeypatch.setenv("KAPPA_DATA", str(tmp_path / "data"))
    assert prepare_data.main(["cifar100"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"cifar100 is complete in {tmp_path}/data/cifar100"] * 3


def test_what_cannot_be_had_ends_in_one_line(originals, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KAPPA_DATA", str(tmp_path / "data"))
    (originals / "test.bin").write_bytes(b"damaged")
    assert prepare_data.main(["cifar100", "--from", str(originals)]) == 2
    assert prepare_data.main(["cifar100"]) == 2
    assert prepare_data.main(["imagenet"]) == 2
    assert prepare_data.main(["imagenet", "--from", str(originals)]) == 2
    assert prepare_data.main(["mnist", "--from", str(tmp_path / "no")]) == 2
    assert prepare_data.main(["pbt"]) == 2
    printed = capsys.readouterr()
    damaged, offline, bring, wrong, missing, unknown = printed.err.splitlines()
    assert damaged.endswith("test.bin must hold whole records of 3074 bytes, got 7 bytes")
    assert "KAPPA_OFFLINE forbids fetching it" in offline
    assert "cannot be fetched: get ILSVRC2012_img_train.tar" in bring
    assert "must hold ILSVRC2012_devkit_t12.tar.gz, which it does not" in wrong
    assert missing == f"--from must be a file or folder that exists, got {tmp_path}/no"
    assert unknown.startswith("data set must be one of ") and unknown.endswith(", got pbt")
    assert printed.out == ""
    assert not (tmp_path / "data").exists()


def test_an_interruption_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(prepare_data, "fetch", interrupted)
    assert prepare_data.main(["mnist"]) == 130
    assert capsys.readouterr().err == "mnist stopped; the same command goes on from there\n"
