"""A data set by its name: where it lies, what its files must be, how a user gets it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import tasks.data
from tasks.data.listing import SHA256, DataError, Listing, Mark, read_listing

CHECKSUMS = Path(__file__).with_name("checksums.sha256")
_MOST_NAMED = 12  # files in a message


@dataclass(frozen=True)
class Place:
    """A set in a folder of sets.

    A set is a module of `tasks.data` with a function `prepare(folder, originals)`, files in the
    committed list, or both. Its module may say `LISTED_BY` (a `Mark`, SHA256 by default), for a
    set that is not in the committed list, and `BRING`: what the user must bring where the set
    cannot be fetched.

    Args:
        committed: the committed list of its files; None where nobody here knows what they are.
    """

    name: str
    folder: Path
    committed: Listing | None

    @property
    def module(self) -> ModuleType:
        return importlib.import_module(f"tasks.data.{self.name}")

    @property
    def command(self) -> str:
        return f"python -m scripts.prepare_data {self.name} --data-dir {self.folder.parent}"

    @property
    def mark(self) -> Mark:
        """What a preparation lists of each file."""
        return getattr(self.module, "LISTED_BY", SHA256)

    def listing(self) -> Listing | None:
        """The list of the set's files; None where it is written at a preparation yet to come."""
        return self.committed or read_listing(self.folder, self.mark)

    def is_complete(self) -> bool:
        """Whether every file of the list is there, and as listed."""
        listing = self.listing()
        if listing is None:
            return False
        return next(listing.wrong(self.folder, tuple(listing.marks)), None) is None

    def check_names(self, listing: Listing, files: Sequence[str]) -> None:
        """Refuse names of files that the set does not have."""
        for file in files:
            if file not in listing.marks:
                raise DataError(f"data set {self.name} has no file {file}; {self.remedy(file)}")

    def check_can_begin(self, originals: Path | None) -> None:
        """Refuse a preparation that cannot succeed, or that would touch a user's own files."""
        bring = getattr(self.module, "BRING", "")
        if originals is None and bring:
            raise DataError(
                f"data set {self.name} is missing and cannot be fetched: {bring}; then run "
                f"{self.command} --from PATH"
            )
        if originals is None and os.environ.get("KAPPA_OFFLINE", "") not in ("", "0"):
            raise DataError(
                f"data set {self.name} is missing and KAPPA_OFFLINE forbids fetching it; run "
                f"{self.command} with a network and without KAPPA_OFFLINE, {self.by_hand()}"
            )
        if originals is not None and not originals.exists():
            raise DataError(f"--from must be a file or folder that exists, got {originals}")
        if originals is not None and originals.resolve() == self.folder.resolve():
            raise DataError(f"--from must not be the folder that is written, got {originals}")
        # Without a list nobody can tell a set of ours from files that a user keeps there.
        if self.committed is None and self.folder.exists() and any(self.folder.iterdir()):
            raise DataError(f"{self.folder} holds no complete data set; {self.remedy('')}")

    def by_hand(self) -> str:
        """What else a user without a network can do."""
        ways = "give the original files that you have with --from PATH"
        if self.committed is None:
            return f"or {ways}"
        files = [str(self.folder / file) for file in self.committed.marks]
        what = (
            ", ".join(files)
            if len(files) <= _MOST_NAMED
            else f"{len(files)} files of {self.folder}"
        )
        return f"{ways}, or put the files there by hand: {what}"

    def remedy(self, file: str) -> str:
        """What to do about a damaged file."""
        target = self.folder / file if self.committed else self.folder
        return f"delete {target} and run: {self.command}"


def find_place(name: str, data_dir: str | Path | None, checksums: Path) -> Place:
    """Find a set by its name.

    Raises:
        DataError: if there is no such set.
        ValueError: if data_dir is missing where the set is not in the committed list.
    """
    sets = committed(checksums)
    if name not in sets and not _has_module(name):
        raise DataError(f"data set must be one of {', '.join(names(sets))}, got {name}")
    if data_dir is None and name not in sets:
        raise ValueError(f"data_dir must be given for {name}, which is in no committed list")
    folder = Path("" if data_dir is None else data_dir) / name
    return Place(name, folder, Listing(sets[name]) if name in sets else None)


def committed(checksums: Path) -> dict[str, dict[str, str]]:
    """Read the committed list: {set: {file: SHA-256}}."""
    sets: dict[str, dict[str, str]] = {}
    for line in checksums.read_text().splitlines():
        digest, path = line.split(maxsplit=1)
        folder, file = path.split("/", 1)
        sets.setdefault(folder, {})[file] = digest
    return sets


def names(sets: dict[str, dict[str, str]]) -> list[str]:
    """Names of all sets, sorted: those of the list, and the modules that can prepare one."""
    modules = (module.name for module in pkgutil.iter_modules(tasks.data.__path__))
    return sorted({*sets, *(name for name in modules if _has_module(name))})


def _has_module(name: str) -> bool:
    if not name.isidentifier() or importlib.util.find_spec(f"tasks.data.{name}") is None:
        return False
    return hasattr(importlib.import_module(f"tasks.data.{name}"), "prepare")
