"""The code that two papers' authors published, made importable from clones of their repositories.

Neither is a package that one could install. Clone them and say where they lie:
KAPPA_AUTHORS for https://github.com/jonathanmei/kradagrad, KAPPA_AUTHORS_NGPLUS for
https://github.com/yangorwell/NGPlus.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import types
from dataclasses import dataclass
from pathlib import Path

AUTHORS_VARIABLE = "KAPPA_AUTHORS"
NGPLUS_VARIABLE = "KAPPA_AUTHORS_NGPLUS"


@dataclass(frozen=True)
class Clone:
    """A clone that an environment variable points to.

    Attributes:
        variable: name of the variable.
        repository: owner and name on GitHub.
        landmark: a file by which the clone is known.
        package: name under which it is imported.
        absent: modules that it imports and does not hold; empty ones stand in.
    """

    variable: str
    repository: str
    landmark: str
    package: str
    absent: tuple[str, ...] = ()

    def is_given(self) -> bool:
        """Whether the variable is set."""
        return bool(os.environ.get(self.variable))

    def hint(self) -> str:
        """What to do where it is not."""
        return f"set {self.variable} to a clone of https://github.com/{self.repository}"

    def command(self) -> str:
        """The commands that make it."""
        folder = self.repository.split("/")[1]
        url = f"https://github.com/{self.repository}"
        return f"git clone {url} && export {self.variable}=$PWD/{folder}"

    def root(self) -> Path:
        """Where it lies.

        Raises:
            ValueError: if there is no such clone where the variable says.
        """
        root = Path(os.environ.get(self.variable, "")).expanduser().resolve()
        if not (root / self.landmark).exists():
            raise ValueError(f"{self.variable} must be a clone of {self.repository}, got {root}")
        return root

    def commit(self) -> str:
        """The commit that is checked out, abbreviated."""
        command = ["git", "-C", str(self.root()), "rev-parse", "--short", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    def module(self, name: str) -> types.ModuleType:
        """Import one of its modules, named relative to the folder of the landmark."""
        folder = (self.root() / self.landmark).parent
        if self.package not in sys.modules:
            # In place of an __init__.py of theirs: that of kradagrad imports files that the
            # repository does not hold, NGPlus has none.
            package = types.ModuleType(self.package)
            package.__path__ = [str(folder)]
            sys.modules[self.package] = package
            for missing in self.absent:
                stand_in = types.ModuleType(f"{self.package}.{missing}")
                sys.modules[stand_in.__name__] = stand_in
                setattr(package, missing, stand_in)
        return importlib.import_module(f"{self.package}.{name}")


KRADAGRAD = Clone(
    AUTHORS_VARIABLE,
    "jonathanmei/kradagrad",
    "kradagrad.py",
    "kradagrad_authors",
    absent=("batched_matrix_functions",),  # for a batched path on CUDA that is not taken
)
NGPLUS = Clone(NGPLUS_VARIABLE, "yangorwell/NGPlus", "imagenet/NGPlus.py", "ng_plus_authors")
