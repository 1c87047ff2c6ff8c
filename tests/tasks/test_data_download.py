"""Fetching files from a server on this machine, finding the user's own, unpacking archives."""

import dataclasses
import hashlib
import os
import stat
import tarfile
import zipfile

import pytest

from tasks.data.archives import extract
from tasks.data.download import Original, download, find_file, obtain
from tasks.data.store import SCRATCH, DataError
from tests.tasks.originals import tar_of, zip_of

CONTENT = bytes(range(256)) * 40


def md5_of(content):
    return hashlib.md5(content).hexdigest()


@pytest.fixture(autouse=True)
def served(server):
    """The content that most tests fetch."""
    server.content = CONTENT


def test_a_cut_download_goes_on(server, tmp_path):
    server.cuts = [100, 50]
    target = tmp_path / "a.tgz"
    download(server.url, target, md5_of(CONTENT))
    assert target.read_bytes() == CONTENT
    assert server.requests == [None, "bytes=100-", "bytes=150-"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.tgz"]


def test_a_download_goes_on_in_another_process(server, tmp_path):
    server.cuts = [100, 0]
    target = tmp_path / "a.tgz"
    with pytest.raises(DataError, match="cannot fetch http"):
        download(server.url, target, md5_of(CONTENT))
    assert (tmp_path / "a.tgz.part").read_bytes() == CONTENT[:100]
    download(server.url, target, md5_of(CONTENT))
    assert target.read_bytes() == CONTENT
    assert server.requests[-1] == "bytes=100-"


def test_a_part_that_is_complete_is_taken(server, tmp_path):
    (tmp_path / "a.tgz.part").write_bytes(CONTENT)
    download(server.url, tmp_path / "a.tgz", md5_of(CONTENT))
    assert (tmp_path / "a.tgz").read_bytes() == CONTENT


def test_a_server_without_ranges_starts_again(server, tmp_path):
    server.ranges = False
    (tmp_path / "a.tgz.part").write_bytes(b"something else")
    download(server.url, tmp_path / "a.tgz", md5_of(CONTENT))
    assert (tmp_path / "a.tgz").read_bytes() == CONTENT


def test_a_wrong_archive_is_refused_and_not_kept(server, tmp_path):
    with pytest.raises(DataError, match=f"has MD5 {md5_of(CONTENT)}, expected 0123"):
        download(server.url, tmp_path / "a.tgz", "0123")
    assert list(tmp_path.iterdir()) == []


def test_an_unreachable_source_is_one_line(server, tmp_path):
    with pytest.raises(DataError, match="HTTP 404") as error:
        download(server.url + "x", tmp_path / "a.tgz", "0")
    assert "\n" not in str(error.value)
    assert len(server.requests) == 1


@pytest.mark.parametrize("pack", [tar_of, zip_of])
@pytest.mark.parametrize("name", ["../outside.txt", "/outside.txt", "a/../../outside.txt"])
def test_a_member_that_leaves_the_folder_is_refused(tmp_path, name, pack):
    archive = tmp_path / "a.tgz"
    archive.write_bytes(pack({name: b"x"}))
    folder = tmp_path / "in"
    folder.mkdir()
    with pytest.raises(DataError, match="leaves the folder"):
        extract(archive, folder, "*")
    assert list(folder.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tgz", "in"]


def test_links_are_not_extracted(tmp_path):
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w") as tar:
        link = tarfile.TarInfo("data/ptb.x.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(link)
    assert extract(archive, tmp_path, "data/*") == []


def test_links_in_a_zip_are_not_extracted(tmp_path):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as package:
        link = zipfile.ZipInfo("data/ptb.x.txt")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        package.writestr(link, "/etc/hostname")
        package.writestr("data/", b"")
        package.writestr("data/ptb.y.txt", b"a file")
    assert [path.name for path in extract(archive, tmp_path, "data/*")] == ["ptb.y.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "ptb.y.txt"]


@pytest.mark.parametrize("pack", [tar_of, lambda members: tar_of(members, "w:xz"), zip_of])
def test_members_are_extracted_flat(tmp_path, pack):
    archive = tmp_path / "archive"
    archive.write_bytes(pack({"set/a.bin": b"1", "set/deep/b.bin": b"2", "set/c.txt": b"3"}))
    found = extract(archive, tmp_path, "set/*.bin")
    assert {path.name: path.read_bytes() for path in found} == {"a.bin": b"1", "b.bin": b"2"}


@pytest.mark.parametrize("pack", [tar_of, lambda members: tar_of(members, "w:gz"), zip_of])
@pytest.mark.parametrize("keep", [0, 0.3, 0.6])
def test_a_truncated_archive_is_one_line(tmp_path, pack, keep):
    raw = pack({"a.bin": os.urandom(30_000), "b.bin": b"x" * 30_000})
    archive = tmp_path / "archive"
    archive.write_bytes(raw[: int(keep * len(raw))])
    with pytest.raises(DataError, match="archive cannot be unpacked: ") as error:
        extract(archive, tmp_path, "*")
    assert "\n" not in str(error.value)


def test_sha256_is_checked_where_it_is_known(server, tmp_path):
    right = hashlib.sha256(CONTENT).hexdigest()
    download(server.url, tmp_path / "a", sha256=right)
    download(server.url, tmp_path / "a", sha256=right)
    assert len(server.requests) == 1
    with pytest.raises(DataError, match=f"has SHA-256 {right}, expected 0123"):
        download(server.url, tmp_path / "a", sha256="0123")


def test_an_original_is_fetched_beside_or_is_the_users(server, tmp_path):
    original = Original("set.bin", server.url, md5=md5_of(CONTENT))
    path = obtain(original, tmp_path)
    assert path == tmp_path / SCRATCH / "set.bin"
    assert path.read_bytes() == CONTENT
    own = tmp_path / "own" / "deeper"
    own.mkdir(parents=True)
    (own / "set.bin").write_bytes(b"mine")
    for originals in (own / "set.bin", own, own.parent):
        assert obtain(original, tmp_path, originals) == own / "set.bin"
    assert len(server.requests) == 1
    with pytest.raises(DataError, match=r"own must hold a\.bin or b\.bin, which it does not"):
        find_file(own.parent, "a.bin", "b.bin")


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_a_users_file_is_held_to_its_checksum_where_it_must(tmp_path, kind):
    path = tmp_path / "set.bin"
    path.write_bytes(CONTENT)
    right = hashlib.new(kind, CONTENT).hexdigest()
    assert obtain(Original("set.bin", "", **{kind: right}, held=True), tmp_path, tmp_path) == path
    wrong = Original("set.bin", "", **{kind: "0123"})
    assert obtain(wrong, tmp_path, path) == path
    with pytest.raises(DataError, match=f"^{path} has .* {right}, expected 0123$"):
        obtain(dataclasses.replace(wrong, held=True), tmp_path, path)
    assert path.read_bytes() == CONTENT


def test_a_fetch_that_brought_nothing_leaves_nothing(server, tmp_path):
    with pytest.raises(DataError, match="HTTP 404"):
        obtain(Original("set.bin", server.url + "x", md5="0"), tmp_path)
    assert list(tmp_path.iterdir()) == []
