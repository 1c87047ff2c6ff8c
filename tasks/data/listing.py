"""Lists of the files of a prepared set: what each must be, and whether it is."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path


class DataError(Exception):
    """A data set that is missing, damaged or cannot be fetched; the message is one line."""


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def num_bytes(path: Path) -> str:
    """Size of a file in bytes, as text."""
    return str(path.stat().st_size)


@dataclass(frozen=True)
class Mark:
    """What is known of each file of a set.

    Args:
        name: in messages.
        measure: of a file.
        file: where a preparation writes the list, in the set's folder.
    """

    name: str
    measure: Callable[[Path], str]
    file: str


SHA256 = Mark("SHA-256", sha256, "SHA256SUMS")
# For sets of which no run can read every byte before it begins.
SIZE = Mark("size in bytes", num_bytes, "SIZES")


@dataclass(frozen=True)
class Listing:
    """The files of a set and the mark that each must have, {file: mark}."""

    marks: dict[str, str]
    mark: Mark = SHA256

    def wrong(self, folder: Path, files: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Those of the files that are not as listed, each with what is said of it."""
        for file in files:
            try:
                found = self.mark.measure(folder / file)
            except FileNotFoundError:
                yield file, "is missing"
                continue
            except OSError as error:
                yield file, f"cannot be read: {error.strerror}"
                continue
            if found != self.marks[file]:
                yield file, f"has {self.mark.name} {found}, expected {self.marks[file]}"

    def content_hash(self, files: Sequence[str] = ()) -> str:
        """Hash of the marks of some files, by default of all."""
        lines = "".join(f"{self.marks[file]}  {file}\n" for file in sorted(files or self.marks))
        return hashlib.sha256(lines.encode()).hexdigest()


def write_listing(folder: Path, mark: Mark) -> Listing:
    """Measure every file below a folder, hidden ones apart, and write the list into it.

    The list appears whole or not at all.
    """
    marks = {}
    for root, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(root, name)
            if not name.startswith(".") and path != folder / mark.file:
                marks[path.relative_to(folder).as_posix()] = mark.measure(path)
    part = folder / f".{mark.file}.part"
    part.write_text("".join(f"{value}  {file}\n" for file, value in marks.items()))
    part.replace(folder / mark.file)
    return Listing(marks, mark)


def read_listing(folder: Path, mark: Mark) -> Listing | None:
    """Read the list that a preparation has written; None where there is none.

    Raises:
        DataError: if it is damaged.
    """
    path = folder / mark.file
    try:
        lines = path.read_text().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read; delete {folder} and prepare it again") from error
    marks = {}
    for number, line in enumerate(lines, 1):
        value, _, file = line.partition("  ")
        # An empty part: no file at all, or a path from the root.
        if not value.isalnum() or not {"", ".", ".."}.isdisjoint(file.split("/")):
            raise DataError(
                f"{path}:{number} must be a {mark.name}, two blanks and a file, got {line[:80]!r}; "
                f"delete {folder} and prepare it again"
            )
        marks[file] = value
    if not marks:
        raise DataError(f"{path} is empty; delete {folder} and prepare it again")
    return Listing(marks, mark)
