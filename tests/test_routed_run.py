"""A run whose parameters are divided between two optimizers: what is said, kept and counted."""

from runners.records import read_manifest
from tests.commands import command, the_run

ASKED = ("task=ptb_lstm", "optimizer=muon", "scale=smoke", "max_steps=3", "progress=none")


def test_the_routing_is_printed_and_kept(tmp_path, sets_dir):
    result = command(*ASKED, f"runs_dir={tmp_path}", sets_dir=sets_dir)
    assert result.code == 0, result
    manifest = read_manifest(the_run(tmp_path))
    groups = manifest["parameter_groups"]
    assert [group["optimizer"] for group in groups] == ["Muon", "AdamW", "AdamW"]
    assert groups[2]["names"] == ["embedding.weight", "readout.weight"]
    assert groups[1]["options"]["betas"] == [0.9, 0.95]
    assert all(len(name.split(".")) > 1 for group in groups for name in group["names"])
    assert sum(group["num_parameters"] for group in groups) == manifest["num_parameters"]
    versions = {"optimizer", "optimizer.groups.0", "optimizer.groups.1", "runner", "task"}
    assert set(manifest["numerics_versions"]) == versions
    said = [line for line in result.err.splitlines() if line.startswith("group")]
    assert [line.split(",")[0] for line in said] == [
        "group 0: Muon",
        "group 1: AdamW",
        "group 2: AdamW",
    ]
    assert "lr=0.001, betas=[0.9, 0.95]" not in said[0] and "betas=[0.9, 0.95]" in said[1]


def test_an_option_of_a_member_makes_another_run(tmp_path, sets_dir):
    for more in ([], ["optimizer.groups.1.betas=[0.9,0.99]"], ["optimizer.lr=0.002"]):
        result = command(*ASKED, *more, f"runs_dir={tmp_path}", sets_dir=sets_dir)
        assert result.code == 0, result
    rates = set()
    for path in tmp_path.glob("*/*/*/manifest.json"):
        groups = read_manifest(path.parent)["parameter_groups"]
        rates.add(tuple(group["options"]["lr"] for group in groups))
    # One rate for all: the members' follow the main one's.
    assert rates == {(0.001,) * 3, (0.002,) * 3}
    assert len(list(tmp_path.glob("*/*/*/manifest.json"))) == 3


def test_a_single_member_that_is_another_is_said(tmp_path):
    result = command(
        "task=logistic", "optimizer=muon", "scale=smoke", "progress=none", f"runs_dir={tmp_path}"
    )
    assert result.code == 0, result
    assert "group 0: AdamW, 10 parameters in 1 tensor, lr=0.001" in result.err.splitlines()
