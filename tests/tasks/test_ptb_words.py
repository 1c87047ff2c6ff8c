"""The word files of the Penn Treebank: vocabulary, encoding, and what is wrong with a file."""

import hashlib
import io
import tarfile

import numpy as np
import pytest

from tasks.data import ptb
from tasks.data.store import DataError

TRAIN = " b a <unk> \n a b a c \n\n N a \n"


@pytest.fixture
def train(tmp_path):
    path = tmp_path / "ptb.train.txt"
    path.write_text(TRAIN)
    return path


def test_words_are_numbered_by_frequency(train):
    vocabulary = ptb.read_vocabulary(train, 10)
    # b before c and N, which come once each, in the order in which they come.
    assert vocabulary == {"<eos>": 0, "<unk>": 1, "a": 2, "b": 3, "c": 4, "N": 5}
    numbers = ptb.read_words(train, vocabulary)
    assert numbers.tolist() == [3, 2, 1, 0, 2, 3, 2, 4, 0, 0, 5, 2, 0]
    assert numbers.dtype == np.int64


def test_the_rarest_words_may_count_as_unknown(train):
    vocabulary = ptb.read_vocabulary(train, 4)
    assert vocabulary == {"<eos>": 0, "<unk>": 1, "a": 2, "b": 3, "c": 1, "N": 1}


def test_a_word_never_seen_is_named_with_its_line(train, tmp_path):
    vocabulary = ptb.read_vocabulary(train, 10)
    path = tmp_path / "ptb.valid.txt"
    path.write_text(" a b \n a d e \n")
    with pytest.raises(DataError) as error:
        ptb.read_words(path, vocabulary)
    assert str(error.value) == (
        f"{path}, line 2: every word must occur in the training text, got 'd'"
    )


@pytest.mark.parametrize("content", [b"", b"\n", b"  \n \n"])
def test_an_empty_text_is_named(tmp_path, content):
    path = tmp_path / "ptb.valid.txt"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        ptb.read_words(path, {})
    assert str(error.value) == f"{path} must hold words, got an empty text"
    with pytest.raises(DataError, match="must hold words"):
        ptb.read_vocabulary(path, 10)


def test_an_empty_file_of_characters_is_named(tmp_path):
    path = tmp_path / "ptb.char.valid.txt"
    path.write_bytes(b"  ")
    with pytest.raises(DataError) as error:
        ptb.read_symbols(path)
    assert str(error.value) == f"{path} must hold symbols, got an empty text"


@pytest.mark.parametrize(
    ("content", "line", "shown"),
    [(b"A", 1, "b'A'"), (b"a b\nc\n\xc3\n d", 3, "b'\\xc3'"), (b"a\n\n\r\n", 3, "b'\\r'")],
)
def test_a_byte_that_is_no_symbol_is_named_with_its_line(tmp_path, content, line, shown):
    path = tmp_path / "ptb.char.valid.txt"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        ptb.read_symbols(path)
    assert str(error.value) == (
        f"{path}, line {line}: must hold the 49 symbols, blanks and newlines only, got {shown}"
    )


def test_what_is_no_text_is_named(tmp_path):
    path = tmp_path / "ptb.train.txt"
    path.write_bytes(b"a b\n\nc \xff\n")
    with pytest.raises(DataError, match=r", line 3: must be UTF-8, got invalid start byte$"):
        ptb.read_vocabulary(path, 10)


def test_characters_spell_the_words(tmp_path):
    path = tmp_path / "ptb.char.train.txt"
    path.write_text("a _ < u n k > \n b _ N \n")
    assert ptb.spell(ptb.read_symbols(path)) == "a <unk>\nb N\n"


def test_the_users_own_archive_is_read(tmp_path):
    content = b" a b \n"
    archive = tmp_path / "simple-examples.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        info = tarfile.TarInfo("./simple-examples/data/ptb.train.txt")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    for given in (archive, tmp_path):
        folder = tmp_path / hashlib.md5(str(given).encode()).hexdigest()
        folder.mkdir()
        ptb.prepare(folder, given)
        assert (folder / "ptb.train.txt").read_bytes() == content
    assert archive.is_file()
    with pytest.raises(DataError, match=r"must hold simple-examples.tgz"):
        ptb.prepare(folder, folder)


def test_the_real_words(ptb_dir):
    folder = ptb_dir / "ptb"
    vocabulary = ptb.read_vocabulary(folder / "ptb.train.txt", 10_000)
    assert sorted(vocabulary.values()) == list(range(10_000))
    assert list(vocabulary)[:5] == ["<eos>", "<unk>", "the", "N", "of"]
    lengths = {"train": 929_589, "valid": 73_760, "test": 82_430}
    for split, length in lengths.items():
        assert len(ptb.read_words(folder / f"ptb.{split}.txt", vocabulary)) == length
    # The characters are those of the words.
    text = (folder / "ptb.valid.txt").read_text()
    symbols = ptb.read_symbols(folder / "ptb.char.valid.txt")
    assert ptb.spell(symbols).split() == text.split()
