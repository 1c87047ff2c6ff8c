"""Verified data sets: every prepared file is checked against a list before use.

The list is the committed one where the project knows what the prepared files must be. Of any
other set the preparation writes a list into the set's folder, last.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from tasks.data.listing import DataError, Listing, sha256, write_listing
from tasks.data.place import CHECKSUMS, Place, committed, find_place, names

__all__ = ["DataError", "content_hash", "fetch", "files_of", "listed", "require", "sha256"]

# In a folder that is being prepared: what has been fetched, kept until the set is complete.
SCRATCH = ".originals"


def listed(name: str, checksums: Path = CHECKSUMS) -> dict[str, str]:
    """Read the committed list: {file name: SHA-256} of a set.

    Raises:
        DataError: if the list has no such set.
    """
    sets = committed(checksums)
    if name not in sets:
        raise DataError(f"data set must be one of {', '.join(names(sets))}, got {name}")
    return sets[name]


def content_hash(
    name: str,
    files: Sequence[str] = (),
    checksums: Path = CHECKSUMS,
    data_dir: str | Path | None = None,
) -> str:
    """Hash of the content of some files of a set, from a list alone: no data is read.

    Args:
        files: of the set, by default all.
        data_dir: where the sets lie; needed for a set that is not in the committed list. Such a
            set is fetched where it can be, as a run's identity needs the hash before the data;
            where it cannot, the hash is "", and `require` says why.
    Raises:
        ValueError: if data_dir is needed and missing.
        DataError: if there is no such set, or the list in its folder is damaged.
    """
    place = find_place(name, data_dir, checksums)
    listing = place.listing()
    if listing is None:
        with contextlib.suppress(DataError):
            fetch(name, place.folder.parent, checksums)
            listing = place.listing()
    if listing is None:
        return ""
    place.check_names(listing, files)
    return listing.content_hash(files)


def files_of(name: str, data_dir: str | Path, checksums: Path = CHECKSUMS) -> tuple[str, ...]:
    """Names of the prepared files of a set that is there, sorted: those that `require` verifies.

    For readers of folders: what else lies there has not been verified.

    Raises:
        DataError: if the set is missing, or the list in its folder is damaged.
    """
    place = find_place(name, data_dir, checksums)
    listing = place.listing()
    if listing is None:
        raise DataError(f"data set {name} is missing; run: {place.command}")
    return tuple(sorted(listing.marks))


def require(
    name: str, data_dir: str | Path, files: Sequence[str] = (), checksums: Path = CHECKSUMS
) -> Path:
    """Return the folder of a set whose files have been verified, fetching it on first use.

    A set that is listed by sizes (ImageNet: 150 GB) is verified by the sizes of its files alone.

    Args:
        name: of the set: a folder of data_dir and a module of `tasks.data`.
        data_dir: where the sets lie.
        files: those that must be there, by default all that the list names; any other listed
            file is verified where it exists.
        checksums: the committed list.
    Raises:
        DataError: if a file is damaged, or missing and not to be fetched (KAPPA_OFFLINE=1).
    """
    place = find_place(name, data_dir, checksums)
    folder, listing = place.folder, place.listing()
    if listing is None or (place.committed and _some_missing(folder, files or listing.marks)):
        fetch(name, data_dir, checksums)
        listing = place.listing()
        assert listing is not None
    place.check_names(listing, files)
    needed = set(files or listing.marks)
    there = [file for file in listing.marks if file in needed or (folder / file).is_file()]
    for file, what in listing.wrong(folder, there):
        raise DataError(f"{folder / file} is damaged: it {what}; {place.remedy(file)}")
    return folder


def fetch(
    name: str,
    data_dir: str | Path,
    checksums: Path = CHECKSUMS,
    originals: str | Path | None = None,
) -> Path:
    """Prepare a set from its source unless it is complete; a damaged file is replaced.

    The set is written beside, verified or listed, and renamed when complete. A lock keeps two
    processes from preparing the same set at the same time.

    Args:
        originals: file or folder of the original files that the user has; None: they are
            fetched.
    Raises:
        DataError: if it may not be fetched (KAPPA_OFFLINE=1), cannot be, or is not what the list
            says.
    """
    place = find_place(name, data_dir, checksums)
    if place.is_complete():
        return place.folder
    originals = None if originals is None else Path(originals)
    place.check_can_begin(originals)
    with _lock(place.folder):
        if not place.is_complete():
            partial = place.folder.with_name(f".{name}.partial")
            partial.mkdir(exist_ok=True)
            try:
                listing = _prepare(place, partial, originals)
            except DataError as error:
                _clear(partial)
                with contextlib.suppress(OSError):
                    partial.rmdir()  # a download that has begun stays, and is continued
                hint = "" if originals else f"; try again with {place.command}, {place.by_hand()}"
                raise DataError(f"{error}{hint}") from error
            _publish(partial, place.folder, listing)
    return place.folder


def _some_missing(folder: Path, files: Sequence[str] | dict[str, str]) -> bool:
    return any(not (folder / file).is_file() for file in files)


def _prepare(place: Place, partial: Path, originals: Path | None) -> Listing:
    """Fill the folder beside and verify it, or list what is in it."""
    _clear(partial)
    if originals is None:
        place.module.prepare(partial)
    else:
        place.module.prepare(partial, originals)
    if place.committed is None:
        listing = write_listing(partial, place.mark)
    else:
        listing = place.committed
        for file, what in listing.wrong(partial, tuple(listing.marks)):
            raise DataError(f"{file} from {originals or 'the source'} {what}")
    shutil.rmtree(partial / SCRATCH, ignore_errors=True)
    return listing


def _clear(partial: Path) -> None:
    """Remove what an attempt that was cut or failed has written, downloads apart."""
    for path in partial.iterdir():
        if path.name == SCRATCH:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _publish(partial: Path, folder: Path, listing: Listing) -> None:
    if not folder.exists() or not any(folder.iterdir()):
        # One rename: the set is there as a whole or not at all.
        partial.rename(folder)
        return
    for file in listing.marks:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (partial / file).replace(folder / file)
    shutil.rmtree(partial)


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        stream = folder.with_name(f".{folder.name}.lock").open("w")
    except OSError as error:
        raise DataError(f"cannot write in {folder.parent}: {error.strerror}") from error
    try:
        with stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield
    except DataError:
        # Nothing is left behind where nothing could be had.
        Path(stream.name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            folder.parent.rmdir()
        raise
