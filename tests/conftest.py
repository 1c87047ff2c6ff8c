"""What all tests share: no network, records in temporary folders, generated text for the LSTM."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest


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
def text_dir(tmp_path_factory) -> Path:
    """A small generated text in the layout of the Penn Treebank, for `commands` to stand in."""
    return write_text(tmp_path_factory.mktemp("text"))


def write_text(folder: Path) -> Path:
    """Write train, valid and test text of random symbols; always the same."""
    from tasks.data import ptb

    state = 1
    for split, length in {"train": 3001, "valid": 1203, "test": 95}.items():
        symbols = []
        for _ in range(length):
            # A generator of our own, so that golden numbers do not hang on a library's streams.
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
            symbols.append(ptb.SYMBOLS[(state >> 33) % 50])
        (folder / f"ptb.char.{split}.txt").write_text(" ".join(symbols))
    return folder


@pytest.fixture
def fake_text(text_dir, monkeypatch) -> Path:
    """Make `ptb_lstm` read the generated text in this process, taken for verified."""
    import tasks.ptb_lstm

    monkeypatch.setattr(tasks.ptb_lstm, "require", lambda name, data_dir, files: text_dir)
    return text_dir
