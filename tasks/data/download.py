"""Original files: the user's own, or a resumable download."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from tasks.data.store import SCRATCH, DataError

_BLOCK = 1 << 16
_TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class Original:
    """A file of the official source, with the checksum its publisher or its users quote.

    Args:
        name: of the file, as users know it.
        md5, sha256: at most one of them, in hexadecimal; neither where none is published, so
            that only its reader checks it.
        held: whether a user's own file must have the checksum, too: where no committed list says
            what must come out of it.
    """

    name: str
    url: str
    md5: str | None = None
    sha256: str | None = None
    held: bool = False


def obtain(original: Original, folder: Path, originals: Path | None = None) -> Path:
    """Give the path of an original file: the user's where `originals` is given, else fetched.

    A fetched file lies in a hidden folder below `folder`, which goes when the set is complete. A
    user's file is held to the checksum where the original says so; elsewhere its reader and the
    committed list of the prepared files check it, so that it may be packed anew.

    Args:
        folder: the one that is being prepared.
        originals: the file itself, or a folder in which it lies, directly or one level down.
    Raises:
        DataError: if the file is not there, cannot be fetched or is another.
    """
    if originals is not None:
        path = find_file(originals, original.name)
        if original.held:
            check(path, path, original.md5, original.sha256)
        return path
    path = folder / SCRATCH / original.name
    path.parent.mkdir(exist_ok=True)
    try:
        download(original.url, path, original.md5, original.sha256)
    finally:
        with contextlib.suppress(OSError):
            path.parent.rmdir()  # nothing has arrived
    return path


def find_file(originals: Path, *names: str) -> Path:
    """Find the first of some files in what the user gave, directly or one folder down.

    Args:
        originals: a folder, or a file, which is taken whatever its name.
    Raises:
        DataError: if there is none of them.
    """
    if originals.is_file():
        return originals
    for name in names:
        for path in (originals / name, *sorted(originals.glob(f"*/{name}"))):
            if path.is_file():
                return path
    raise DataError(f"{originals} must hold {' or '.join(names)}, which it does not")


def download(url: str, path: Path, md5: str | None = None, sha256: str | None = None) -> None:
    """Fetch a file over HTTP, going on where an earlier attempt was cut.

    What has arrived lies in `<path>.part` until it is complete and its checksum is right.

    Args:
        md5, sha256: checksum in hexadecimal; where none is published, a file that is there
            already is fetched again, as nobody could tell that it is the wrong one.
    Raises:
        DataError: if the source cannot be reached or the file is not the one expected.
    """
    kind, expected = _kind(md5, sha256)
    if expected is not None and path.is_file() and checksum(path, kind) == expected:
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
    try:
        check(part, url, md5, sha256)
    except DataError:
        part.unlink()
        raise
    part.replace(path)


def check(path: Path, what: object, md5: str | None = None, sha256: str | None = None) -> None:
    """Compare a file with its checksum where there is one; `what` names it in the message.

    Raises:
        DataError: if it is another.
    """
    kind, expected = _kind(md5, sha256)
    if expected is not None and (found := checksum(path, kind)) != expected:
        raise DataError(f"{what} has {kind} {found}, expected {expected}")


def _kind(md5: str | None, sha256: str | None) -> tuple[str, str | None]:
    return ("SHA-256", sha256) if sha256 else ("MD5", md5)


def checksum(path: Path, kind: str) -> str:
    """MD5 or SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256() if kind == "SHA-256" else hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


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


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code}"
    return str(getattr(error, "reason", error)) or type(error).__name__
