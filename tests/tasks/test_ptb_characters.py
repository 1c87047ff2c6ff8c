"""The Penn Treebank's characters as numbers."""

import pytest

from tasks.data import ptb
from tasks.data.store import DataError


def test_the_encoding_takes_symbols_and_newlines(tmp_path):
    path = tmp_path / "text"
    path.write_bytes(b"a _ b\n < u n k > \n")
    symbols = ptb.read_symbols(path)
    assert "".join(ptb.SYMBOLS[i] for i in symbols) == "a_b\n<unk>\n"
    assert symbols[3] == ptb.NEWLINE
    path.write_bytes(b"a B\n")
    with pytest.raises(DataError, match="must hold the 49 symbols"):
        ptb.read_symbols(path)


def test_there_are_fifty_symbols():
    assert len(set(ptb.SYMBOLS)) == len(ptb.SYMBOLS) == 50
