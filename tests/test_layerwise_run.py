"""Optimizers that precondition some layers only: what a run of theirs says, keeps and refuses."""

import pytest

from runners import train
from runners.records import read_manifest
from runners.train import update
from tests.commands import command, the_run

COMMON = ("scale=smoke", "num_threads=1", "progress=none")
# Every other weight of the language model to K-FAC, whose kinds of layers it has one of.
ROUTED = (
    "optimizer=kfac",
    "optimizer.groups=[{names: [embedding], lr: 0.1, "
    "cls: {_target_: hydra.utils.get_class, path: torch.optim.SGD}}]",
)


@pytest.mark.parametrize(
    ("asked", "left_out"), [(("optimizer=kfac",), {"embedding.weight"}), (ROUTED, set())]
)
def test_what_is_preconditioned_is_printed_and_kept(tmp_path, sets_dir, asked, left_out):
    result = command(
        "task=ptb_lstm", *asked, *COMMON, "max_steps=2", f"runs_dir={tmp_path}", sets_dir=sets_dir
    )
    assert result.code == 0, result
    layers = read_manifest(the_run(tmp_path))["layers"]
    assert layers["preconditioned"] == ["readout.weight"]
    assert "lstm.weight_ih_l0" in layers["plain"]
    assert {name for name in layers["plain"] if name.startswith("embedding")} == left_out
    lines = result.err.splitlines()
    assert "preconditioned: readout.weight" in lines
    (said,) = [line for line in lines if line.startswith("plain momentum: ")]
    assert all(name in said for name in layers["plain"][:8])


def test_an_optimizer_of_the_whole_model_says_no_layers(tmp_path):
    result = command("task=logistic", "optimizer=sgd", *COMMON, f"runs_dir={tmp_path}")
    assert "preconditioned" not in result.err
    manifest = read_manifest(the_run(tmp_path))
    assert manifest["layers"] is None and manifest["fallbacks"] is None


@pytest.mark.parametrize("more", [(), ("dry_run=true",), ("-m", "seed=1")])
@pytest.mark.parametrize(
    ("optimizer", "kinds"),
    [
        ("kfac", "linear layers or convolutions without groups (Linear, Conv2d) for KFAC"),
        ("ng_plus", "weights of two or more dimensions, norms apart for NGPlus"),
        ("ng_plus_authors", "layers of kind Conv2d or Linear for NGPlusAuthors"),
    ],
)
def test_a_task_without_such_layers_is_refused(tmp_path, optimizer, kinds, more):
    runs = tmp_path / "runs"
    asked = (*more, "task=barrier", f"optimizer={optimizer}", *COMMON, f"runs_dir={runs}")
    result = command(*asked)
    assert result.code == 2, result
    (line,) = [line for line in result.err.splitlines() if "must have" in line]
    assert f"the model must have {kinds} to precondition, got parameters that would all" in line
    assert not runs.exists()


@pytest.mark.parametrize("optimizer", ["lars", "adam_norm_grad", "shampoo"])
def test_fallbacks_are_counted_in_the_manifest(tmp_path, monkeypatch, optimizer):
    asked = ("task=logistic", f"optimizer={optimizer}", *COMMON, "max_steps=5")
    assert command(*asked, f"runs_dir={tmp_path / 'plain'}").code == 0
    assert read_manifest(the_run(tmp_path / "plain"))["fallbacks"] == 0

    def spoiled(run, batches, carried):
        if run.step in (1, 3):
            run.parameters[0].grad.fill_(float("nan"))
        update(run, batches, carried)

    monkeypatch.setattr(train, "update", spoiled)
    result = command(*asked, f"runs_dir={tmp_path / 'spoiled'}")
    assert result.code == 0, result
    assert read_manifest(the_run(tmp_path / "spoiled"))["fallbacks"] == 2
