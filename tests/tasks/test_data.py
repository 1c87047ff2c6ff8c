"""Fetching, verifying and preparing data, with a server on this machine."""

import hashlib
import http.server
import io
import tarfile
import threading

import pytest

from scripts import prepare_data
from tasks.data import ptb, store
from tasks.data.download import download, extract
from tasks.data.store import DataError, content_hash, fetch, listed, require

FILES = {
    f"ptb.{kind}{split}.txt": f"{kind}{split}: a _ b \n".encode() * 3000
    for kind in ("", "char.")
    for split in ("train", "valid", "test")
}


def tar_of(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


ARCHIVE = tar_of(
    {
        "./simple-examples/README": b"not wanted",
        **{f"./simple-examples/data/{name}": content for name, content in FILES.items()},
    }
)


@pytest.fixture
def server(monkeypatch):
    """A server of one archive; `cuts` are the bytes after which its next answers break off."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            state.requests.append(self.headers.get("Range"))
            if self.path != "/simple-examples.tgz":
                self.send_error(404)
                return
            first = 0
            if self.headers.get("Range") and state.ranges:
                first = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
                if first >= len(state.content):
                    self.send_error(416)
                    return
                self.send_response(206)
            else:
                self.send_response(200)
            body = state.content[first:]
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: state.cuts.pop(0)] if state.cuts else body)

        def log_message(self, *args):
            pass

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    state = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    state.content, state.cuts, state.requests, state.ranges = ARCHIVE, [], [], True
    state.url = f"http://127.0.0.1:{state.server_port}/simple-examples.tgz"
    thread = threading.Thread(target=state.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    state.shutdown()
    thread.join()
    state.server_close()


@pytest.fixture
def source(server, tmp_path, monkeypatch):
    """The server in the place of the official source, and a list of its files' checksums."""
    monkeypatch.delenv("KAPPA_OFFLINE", raising=False)
    prepare = ptb.prepare
    md5 = hashlib.md5(ARCHIVE).hexdigest()
    monkeypatch.setattr(ptb, "prepare", lambda folder: prepare(folder, None, server.url, md5))
    checksums = tmp_path / "checksums.sha256"
    lines = (f"{hashlib.sha256(data).hexdigest()}  ptb/{name}" for name, data in FILES.items())
    checksums.write_text("\n".join(lines) + "\n")
    return checksums


def md5_of(content):
    return hashlib.md5(content).hexdigest()


def test_a_missing_set_is_fetched_on_first_use(server, source, tmp_path):
    folder = require("ptb", tmp_path / "data", ptb.CHAR_FILES, source)
    assert folder == tmp_path / "data" / "ptb"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
    assert not (tmp_path / "data" / ".ptb.partial").exists()
    require("ptb", tmp_path / "data", ptb.CHAR_FILES, source)
    assert len(server.requests) == 1


def test_a_cut_download_goes_on(server, tmp_path):
    server.cuts = [100, 50]
    target = tmp_path / "a.tgz"
    download(server.url, target, md5_of(ARCHIVE))
    assert target.read_bytes() == ARCHIVE
    assert server.requests == [None, "bytes=100-", "bytes=150-"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.tgz"]


def test_a_download_goes_on_in_another_process(server, tmp_path):
    server.cuts = [100, 0]
    target = tmp_path / "a.tgz"
    with pytest.raises(DataError, match="cannot fetch http"):
        download(server.url, target, md5_of(ARCHIVE))
    assert (tmp_path / "a.tgz.part").read_bytes() == ARCHIVE[:100]
    download(server.url, target, md5_of(ARCHIVE))
    assert target.read_bytes() == ARCHIVE
    assert server.requests[-1] == "bytes=100-"


def test_a_part_that_is_complete_is_taken(server, tmp_path):
    (tmp_path / "a.tgz.part").write_bytes(ARCHIVE)
    download(server.url, tmp_path / "a.tgz", md5_of(ARCHIVE))
    assert (tmp_path / "a.tgz").read_bytes() == ARCHIVE


def test_a_server_without_ranges_starts_again(server, tmp_path):
    server.ranges = False
    (tmp_path / "a.tgz.part").write_bytes(b"something else")
    download(server.url, tmp_path / "a.tgz", md5_of(ARCHIVE))
    assert (tmp_path / "a.tgz").read_bytes() == ARCHIVE


def test_a_wrong_archive_is_refused_and_not_kept(server, tmp_path):
    with pytest.raises(DataError, match=f"has MD5 {md5_of(ARCHIVE)}, expected 0123"):
        download(server.url, tmp_path / "a.tgz", "0123")
    assert list(tmp_path.iterdir()) == []


def test_an_unreachable_source_is_one_line(server, tmp_path):
    with pytest.raises(DataError, match="HTTP 404") as error:
        download(server.url + "x", tmp_path / "a.tgz", "0")
    assert "\n" not in str(error.value)
    assert len(server.requests) == 1


@pytest.mark.parametrize("name", ["../outside.txt", "/outside.txt", "a/../../outside.txt"])
def test_a_member_that_leaves_the_folder_is_refused(tmp_path, name):
    archive = tmp_path / "a.tgz"
    archive.write_bytes(tar_of({name: b"x"}))
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


def test_what_is_no_archive_is_refused(tmp_path):
    (tmp_path / "a.tgz").write_bytes(ARCHIVE[:200])
    with pytest.raises(DataError, match=r"a\.tgz cannot be unpacked") as error:
        extract(tmp_path / "a.tgz", tmp_path, "*")
    assert "\n" not in str(error.value)


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


def test_the_command_fetches_once(server, source, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        prepare_data,
        "fetch",
        lambda name, folder, originals: fetch(name, folder, source, originals),
    )
    assert prepare_data.main(["ptb", "--data-dir", str(tmp_path)]) == 0
    assert prepare_data.main(["ptb", "--data-dir", str(tmp_path)]) == 0
    assert len(server.requests) == 1
    assert capsys.readouterr().out.count("ptb is complete in") == 2


def test_the_command_ends_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KAPPA_OFFLINE", "1")
    monkeypatch.setenv("KAPPA_DATA", str(tmp_path))
    assert prepare_data.main(["ptb"]) == 2
    assert prepare_data.main(["pbt"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("data set must be one of ") and lines[1].endswith(", got pbt")
