"""Optimizers of other packages need one file each, and are told from ours where that matters."""

import pytest

from runners.records import read_manifest
from tests.commands import command, the_run

pytest.importorskip("pytorch_optimizer", reason="pip install -e '.[peers]'")


@pytest.mark.parametrize("name", ["soap", "scalable_shampoo", "psgd_kron", "lion"])
def test_a_peer_runs_and_its_package_is_on_record(name, tmp_path):
    result = command(
        "task=quadratic", f"optimizer={name}", "scale=smoke", "seed=2", f"runs_dir={tmp_path}"
    )
    assert result.code == 0, result
    manifest = read_manifest(the_run(tmp_path))
    assert manifest["status"] == "finished"
    assert manifest["numerics_versions"]["optimizer"] == 0
    assert manifest["packages"]["pytorch_optimizer"]
    assert manifest["optimizer_state_bytes"] > 0
