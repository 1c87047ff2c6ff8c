"""Fetching and verifying a set of the committed list, with a server on this machine."""

import dataclasses
import functools
import hashlib

import pytest

from tasks.data import ptb, store
from tasks.data.archives import extract
from tasks.data.download import Original, obtain
from tasks.data.store import SCRATCH, DataError, content_hash, fetch, listed, require
from tests.tasks.originals import tar_of

FILES = {
    f"ptb.{kind}{split}.txt": f"{kind}{split}: a _ b \n".encode() * 3000
    for kind in ("", "char.")
    for split in ("train", "valid", "test")
}
ARCHIVE = tar_of(
    {
        "./simple-examples/README": b"not wanted",
        **{f"./simple-examples/data/{name}": content for name, content in FILES.items()},
    },
    "w:gz",
)


@pytest.fixture
def source(server, tmp_path, monkeypatch):
    """The server in the place of the official source, and a list of its files' checksums."""
    monkeypatch.delenv("KAPPA_OFFLINE", raising=False)
    server.content = ARCHIVE
    prepare = ptb.prepare
    archive = dataclasses.replace(ptb.ARCHIVE, url=server.url, md5=hashlib.md5(ARCHIVE).hexdigest())
    monkeypatch.setattr(ptb, "prepare", functools.partial(prepare, archive=archive))
    checksums = tmp_path / "checksums.sha256"
    lines = (f"{hashlib.sha256(data).hexdigest()}  ptb/{name}" for name, data in FILES.items())
    checksums.write_text("\n".join(lines) + "\n")
    return checksums


def test_a_missing_set_is_fetched_on_first_use(server, source, tmp_path):
    folder = require("ptb", tmp_path / "data", ptb.CHAR_FILES, source)
    assert folder == tmp_path / "data" / "ptb"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
    assert not (tmp_path / "data" / ".ptb.partial").exists()
    require("ptb", tmp_path / "data", ptb.CHAR_FILES, source)
    assert len(server.requests) == 1


def test_a_damaged_file_is_named_with_both_checksums(server, source, tmp_path):
    folder = require("ptb", tmp_path, (), source)
    path = folder / "ptb.char.valid.txt"
    path.write_bytes(b"A" + FILES[path.name][1:])
    with pytest.raises(DataError) as error:
        require("ptb", tmp_path, ptb.CHAR_FILES, source)
    message = str(error.value)
    assert str(path) in message
    assert store.sha256(path) in message
    assert hashlib.sha256(FILES[path.name]).hexdigest() in message
    assert f"python -m scripts.prepare_data ptb --data-dir {tmp_path}" in message
    assert "\n" not in message
    fetch("ptb", tmp_path, source)
    assert path.read_bytes() == FILES[path.name]


def test_files_that_are_not_needed_may_be_missing_but_not_damaged(server, source, tmp_path):
    folder = require("ptb", tmp_path, (), source)
    (folder / "ptb.train.txt").unlink()
    require("ptb", tmp_path, ptb.CHAR_FILES, source)
    (folder / "ptb.test.txt").write_bytes(b"")
    with pytest.raises(DataError, match=r"ptb\.test\.txt is damaged"):
        require("ptb", tmp_path, ptb.CHAR_FILES, source)


def test_offline_says_the_command_and_the_places(server, source, tmp_path, monkeypatch):
    monkeypatch.setenv("KAPPA_OFFLINE", "1")
    with pytest.raises(DataError) as error:
        require("ptb", tmp_path / "data", ptb.CHAR_FILES, source)
    message = str(error.value)
    assert "python -m scripts.prepare_data ptb" in message
    assert all(str(tmp_path / "data" / "ptb" / name) in message for name in FILES)
    assert "\n" not in message
    assert server.requests == []
    assert not (tmp_path / "data").exists()


def test_a_source_that_has_changed_is_not_published(server, source, tmp_path):
    source.write_text(source.read_text().replace("  ptb/ptb.test", "0  ptb/ptb.test"))
    with pytest.raises(DataError, match=r"ptb\.test\.txt from the source has SHA-256"):
        require("ptb", tmp_path / "data", (), source)
    assert not (tmp_path / "data" / "ptb").exists()


def test_the_committed_list_names_the_character_files():
    digests = listed("ptb")
    assert set(ptb.CHAR_FILES) < set(digests)
    assert all(len(digest) == 64 for digest in digests.values())


def test_the_content_hash_follows_the_content(source):
    one = content_hash("ptb", ptb.CHAR_FILES)
    assert one == content_hash("ptb", ptb.CHAR_FILES[::-1])
    assert one != content_hash("ptb", ptb.CHAR_FILES, source)
    assert one != content_hash("ptb", ptb.CHAR_FILES[:2])


def test_the_users_own_archive_needs_no_network(server, source, tmp_path, monkeypatch):
    monkeypatch.undo()  # the official address, and no network
    (tmp_path / "simple-examples.tgz").write_bytes(ARCHIVE)
    folder = fetch("ptb", tmp_path / "data", source, originals=tmp_path)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
    assert server.requests == []


def test_the_users_own_archive_is_verified_too(server, source, tmp_path):
    (tmp_path / "own.tgz").write_bytes(
        tar_of({f"simple-examples/data/{name}": b"x" for name in FILES}, "w:gz")
    )
    with pytest.raises(DataError, match=r"ptb\.train\.txt from .*own\.tgz has SHA-256") as error:
        fetch("ptb", tmp_path / "data", source, originals=tmp_path / "own.tgz")
    assert "try again" not in str(error.value)
    assert not (tmp_path / "data" / "ptb").exists()


def test_an_original_with_no_checksum_is_fetched_again_when_it_was_wrong(
    server, source, tmp_path, monkeypatch
):
    original = Original("text.tgz", server.url)

    def prepare(folder, originals=None):
        extract(obtain(original, folder, originals), folder, ptb.MEMBERS)

    monkeypatch.setattr(ptb, "prepare", prepare)
    server.content = b"a page that says that the file has moved"
    with pytest.raises(DataError, match=r"text\.tgz cannot be unpacked"):
        require("ptb", tmp_path / "data", (), source)
    server.content = ARCHIVE
    folder = require("ptb", tmp_path / "data", (), source)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES


def test_what_has_been_fetched_outlasts_a_cut(server, source, tmp_path, monkeypatch):
    original = Original("text.tgz", server.url, md5=hashlib.md5(ARCHIVE).hexdigest())

    def prepare(folder, originals=None):
        (folder / "begun").touch()
        extract(obtain(original, folder, originals), folder, ptb.MEMBERS)

    monkeypatch.setattr(ptb, "prepare", prepare)
    server.cuts = [100, 0]
    with pytest.raises(DataError, match="cannot fetch http"):
        require("ptb", tmp_path, (), source)
    partial = tmp_path / ".ptb.partial"
    assert [path.name for path in partial.iterdir()] == [SCRATCH]
    assert (partial / SCRATCH / "text.tgz.part").stat().st_size == 100
    folder = require("ptb", tmp_path, (), source)
    assert server.requests[-1] == "bytes=100-"
    assert sorted(path.name for path in folder.iterdir()) == sorted([*FILES, "begun"])
