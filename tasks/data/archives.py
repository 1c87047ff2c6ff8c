"""Archives and packed files: safe extraction, and damage told in one line."""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import gzip
import lzma
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from tasks.data.download import Original, obtain
from tasks.data.store import DataError

# What damaged archives raise, of whatever format; a zip that is encrypted is a RuntimeError.
_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,
    NotImplementedError,
)
_GZIP = b"\x1f\x8b"


@contextlib.contextmanager
def unpacked(
    archive: Original, folder: Path, originals: Path | None, files: Sequence[str], pattern: str
) -> Iterator[Path]:
    """Give where files of an archive lie, unpacked meanwhile unless the user has them so.

    Args:
        folder: the one that is being prepared.
        originals: the archive, or a folder of it or of its files, or one of these files, the
            others lying beside it. None: the archive is fetched.
        files: that the archive must hold.
        pattern: of the members' paths that are unpacked.
    Raises:
        DataError: if the archive cannot be had, is damaged or lacks a file.
    """
    if originals is not None and _holds(originals, files):
        yield originals.parent if originals.is_file() and len(files) > 1 else originals
        return
    path = obtain(archive, folder, originals)
    with tempfile.TemporaryDirectory(prefix=".unpacked-", dir=folder) as scratch:
        found = {file.name for file in extract(path, Path(scratch), pattern)}
        for name in files:
            if name not in found:
                raise DataError(f"{path} must hold {name}, which it does not")
        try:
            yield Path(scratch)
        except DataError as error:
            # Nobody finds the temporary folder afterwards: the archive is named.
            message = str(error).replace(f"{scratch}/", f"{path}:").replace(scratch, str(path))
            raise DataError(message) from error


def _holds(originals: Path, files: Sequence[str]) -> bool:
    if originals.is_file():
        return originals.name in files
    places = (originals, *originals.glob("*/"))
    return any((place / name).is_file() for place in places for name in files)


def gunzipped(path: Path) -> bytes:
    """Read a file that is compressed by gzip or not.

    Raises:
        DataError: if it cannot be read or is damaged.
    """
    with reading(path):
        raw = path.read_bytes()
        return gzip.decompress(raw) if raw[:2] == _GZIP else raw


def extract(archive: Path, folder: Path, pattern: str) -> list[Path]:
    """Extract the regular files of a tar or zip archive that match a pattern, flat, into a folder.

    Links, devices and folders are not extracted.

    Args:
        pattern: of the members' paths, `*` as in a shell; a leading "./" does not count.
    Returns:
        The files written.
    Raises:
        DataError: if it is no whole archive, or a member of it would leave the folder.
    """
    written = []
    with reading(archive):
        for member, source in _members(archive):
            name = PurePosixPath(member)
            if name.is_absolute() or ".." in name.parts or "\\" in member:
                raise DataError(f"{archive.name} is refused: {member} leaves the folder")
            if source is None or not fnmatch.fnmatchcase(str(name), pattern):
                continue
            target = folder / name.name
            with source() as reader, target.open("wb") as stream:
                shutil.copyfileobj(reader, stream)
            written.append(target)
    return written


@contextlib.contextmanager
def reading(what: object) -> Iterator[None]:
    """Turn what a damaged archive or file raises into one line that names it.

    Raises:
        DataError: in the place of the errors of tarfile, zipfile, gzip and the system.
    """
    try:
        yield
    except (*_DAMAGE, OSError) as error:
        # tarfile lists in further lines what each of its methods says.
        reason = str(error).partition("\n")[0].rstrip(":") or type(error).__name__
        raise DataError(f"{what} cannot be unpacked: {reason}") from error


def _members(archive: Path) -> Iterator[tuple[str, Callable[[], IO[bytes]] | None]]:
    """Names in an archive, each with what opens it; None for whatever is no regular file."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as package:
            for info in package.infolist():
                kind = stat.S_IFMT(info.external_attr >> 16)
                regular = not info.is_dir() and kind in (0, stat.S_IFREG)
                yield info.filename, functools.partial(package.open, info) if regular else None
        return
    with tarfile.open(archive) as tar:
        for member in tar:
            opener = functools.partial(tar.extractfile, member) if member.isfile() else None
            yield member.name, opener
