"""Verified data sets: every prepared file is checked against one committed list before use."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

CHECKSUMS = Path(__file__).with_name("checksums.sha256")


class DataError(Exception):
    """A data set that is missing, damaged or cannot be fetched; the message is one line."""


def listed(name: str, checksums: Path = CHECKSUMS) -> dict[str, str]:
    """Read the committed list: {file name: SHA-256} of a set.

    Raises:
        DataError: if the list has no such set.
    """
    sets: dict[str, dict[str, str]] = {}
    for line in checksums.read_text().splitlines():
        digest, path = line.split(maxsplit=1)
        folder, file = path.split("/", 1)
        sets.setdefault(folder, {})[file] = digest
    if name not in sets:
        raise DataError(f"data set must be one of {', '.join(sorted(sets))}, got {name}")
    return sets[name]


def content_hash(name: str, files: Sequence[str], checksums: Path = CHECKSUMS) -> str:
    """Hash of the content of some files of a set, from the list alone: no data is read."""
    digests = listed(name, checksums)
    lines = "".join(f"{digests[file]}  {file}\n" for file in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()


def require(
    name: str, data_dir: str | Path, files: Sequence[str] = (), checksums: Path = CHECKSUMS
) -> Path:
    """Return the folder of a set whose files have been verified, fetching it on first use.

    Args:
        name: of the set: a folder of data_dir and a module of `tasks.data`.
        data_dir: where the sets lie.
        files: those that must be there, by default all that the list names; any other listed
            file is verified where it exists.
        checksums: the list.
    Raises:
        DataError: if a file is damaged, or missing and not to be fetched (KAPPA_OFFLINE=1).
    """
    folder = Path(data_dir) / name
    digests = listed(name, checksums)
    needed = tuple(files) or tuple(digests)
    if any(not (folder / file).is_file() for file in needed):
        fetch(name, data_dir, checksums)
    for file, expected in digests.items():
        if file in needed or (folder / file).is_file():
            found = sha256(folder / file)
            if found != expected:
                raise DataError(
                    f"{folder / file} is damaged: SHA-256 must be {expected}, got {found}; "
                    f"delete it and run: {_command(name, data_dir)}"
                )
    return folder


def fetch(name: str, data_dir: str | Path, checksums: Path = CHECKSUMS) -> Path:
    """Fetch a set from its source unless it is complete; a damaged file is replaced.

    The set is written beside, verified, and renamed when complete. A lock keeps two processes
    from fetching the same set at the same time.

    Raises:
        DataError: if it may not be fetched (KAPPA_OFFLINE=1), cannot be, or is not what the list
            says.
    """
    folder = Path(data_dir) / name
    digests = listed(name, checksums)
    if _complete(folder, digests):
        return folder
    by_hand = ", ".join(str(folder / file) for file in digests)
    if os.environ.get("KAPPA_OFFLINE", "") not in ("", "0"):
        raise DataError(
            f"data set {name} is missing and KAPPA_OFFLINE forbids fetching it; run "
            f"{_command(name, data_dir)} with a network and without KAPPA_OFFLINE, or put the "
            f"files there by hand: {by_hand}"
        )
    with _lock(folder):
        if not _complete(folder, digests):
            partial = folder.with_name(f".{name}.partial")
            partial.mkdir(exist_ok=True)
            try:
                importlib.import_module(f"tasks.data.{name}").prepare(partial)
                _check_prepared(partial, digests)
            except DataError as error:
                with contextlib.suppress(OSError):
                    partial.rmdir()  # a download that has begun stays, and is continued
                raise DataError(
                    f"{error}; try again with {_command(name, data_dir)}, or put the files there "
                    f"by hand: {by_hand}"
                ) from error
            _publish(partial, folder, digests)
    return folder


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _command(name: str, data_dir: str | Path) -> str:
    return f"python -m scripts.prepare_data {name} --data-dir {data_dir}"


def _complete(folder: Path, digests: dict[str, str]) -> bool:
    return all(
        (folder / file).is_file() and sha256(folder / file) == expected
        for file, expected in digests.items()
    )


def _check_prepared(partial: Path, digests: dict[str, str]) -> None:
    for file, expected in digests.items():
        if not (partial / file).is_file():
            raise DataError(f"the source has no {file}")
        found = sha256(partial / file)
        if found != expected:
            (partial / file).unlink()
            raise DataError(f"{file} from the source has SHA-256 {found}, expected {expected}")


def _publish(partial: Path, folder: Path, digests: dict[str, str]) -> None:
    if not folder.exists():
        # One rename: the set is there as a whole or not at all.
        partial.rename(folder)
        return
    for file in digests:
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
