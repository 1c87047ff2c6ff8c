"""What all tests share: no network, records in temporary folders, generated data sets."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_sets import standing_in, write_sets


@pytest.fixture(scope="session", autouse=True)
def places(tmp_path_factory):
    """Downloads forbidden; records, temporary files and the machine's timing lock kept apart.

    With a temporary folder of their own the tests neither wait for a run with timing=exclusive
    that goes on beside them nor hold one up.
    """
    root = tmp_path_factory.mktemp("places")
    (root / "tmp").mkdir()
    patch = pytest.MonkeyPatch()
    patch.setenv("KAPPA_OFFLINE", "1")
    patch.setenv("KAPPA_RUNS", str(root / "runs"))
    patch.setenv("TMPDIR", str(root / "tmp"))
    patch.setattr(tempfile, "tempdir", None)  # read again from TMPDIR
    yield
    patch.undo()


@pytest.fixture(scope="session")
def ptb_dir() -> Path:
    """The folder of data sets, where the real Penn Treebank lies in it."""
    data_dir = Path(os.environ.get("KAPPA_DATA", "data")).absolute()
    if not (data_dir / "ptb" / "ptb.char.train.txt").is_file():
        pytest.skip("the Penn Treebank is not there; set KAPPA_DATA to the folder of data sets")
    return data_dir


@pytest.fixture(scope="session")
def sets_dir(tmp_path_factory) -> Path:
    """Small generated data sets in the true layouts, for `commands` to stand in."""
    return write_sets(tmp_path_factory.mktemp("sets"))


@pytest.fixture
def fake_sets(sets_dir) -> Iterator[Path]:
    """Make tasks read the generated sets in this process, taken for verified."""
    with standing_in(sets_dir):
        yield sets_dir
