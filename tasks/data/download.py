"""Resumable download and safe extraction of archives."""

from __future__ import annotations

import fnmatch
import hashlib
import http.client
import shutil
import sys
import tarfile
import urllib.error
import urllib.request
from pathlib import Path, PurePosixPath

from tasks.data.store import DataError

_BLOCK = 1 << 16
_TIMEOUT_SECONDS = 30


def download(url: str, path: Path, md5: str) -> None:
    """Fetch a file over HTTP, going on where an earlier attempt was cut.

    What has arrived lies in `<path>.part` until it is complete and its MD5 is right.

    Raises:
        DataError: if the source cannot be reached or the file is not the one expected.
    """
    if path.is_file() and _md5(path) == md5:
        return
    part = path.with_name(path.name + ".part")
    complete = False
    while not complete:
        before = _size(part)
        reason = "the connection was cut"
        try:
            complete = _continue(url, part)
        except (OSError, http.client.HTTPException) as error:
            reason = _reason(error)
        # After a cut the next attempt goes on; an attempt that brought nothing ends it.
        if not complete and _size(part) <= before:
            raise DataError(f"cannot fetch {url}: {reason}")
    found = _md5(part)
    if found != md5:
        part.unlink()
        raise DataError(f"{url} has MD5 {found}, expected {md5}")
    part.replace(path)


def extract(archive: Path, folder: Path, pattern: str) -> list[Path]:
    """Extract the regular files of a tar archive that match a pattern, flat, into a folder.

    Args:
        pattern: of the members' paths, `*` as in a shell; a leading "./" does not count.
    Returns:
        The files written.
    Raises:
        DataError: if it is no tar archive, or a member of it would leave the folder.
    """
    written = []
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = PurePosixPath(member.name)
                if name.is_absolute() or ".." in name.parts:
                    raise DataError(f"{archive.name} is refused: {member.name} leaves the folder")
                if not member.isfile() or not fnmatch.fnmatchcase(str(name), pattern):
                    continue
                target = folder / name.name
                source = tar.extractfile(member)
                assert source is not None
                with source, target.open("wb") as stream:
                    shutil.copyfileobj(source, stream)
                written.append(target)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"cannot extract {archive.name}: {error}") from error
    return written


def _continue(url: str, part: Path) -> bool:
    """Append what is missing to the part; True when the source says that it is complete."""
    have = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        with error:
            # 416: nothing lies beyond what we have. Right or not, the checksum decides.
            if have and error.code == 416:
                return True
            raise
    with response:
        if response.status != 206:
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        _copy(response, part, have, total)
    return total is None or _size(part) >= total


def _copy(response: http.client.HTTPResponse, part: Path, have: int, total: int | None) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    console = Console(file=sys.stderr)
    with (
        part.open("ab" if have else "wb") as stream,
        Progress(*columns, TransferSpeedColumn(), console=console, transient=True) as progress,
    ):
        bar = progress.add_task(part.stem, completed=have, total=total)
        while block := response.read(_BLOCK):
            stream.write(block)
            progress.advance(bar, len(block))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code}"
    return str(getattr(error, "reason", error)) or type(error).__name__
