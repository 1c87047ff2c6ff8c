"""MovieLens-20M [Harper and Konstan 2015]: 20,000,263 ratings by 138,493 users.

The archive's MD5 is the one that its publisher quotes. Its README forbids commercial use without
permission. What the prepared file hashes to is not known here: it is listed when it is prepared.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from tasks.data.archives import unpacked
from tasks.data.download import Original, find_file
from tasks.data.formats.movielens import read_ratings
from tasks.data.store import DataError

ARCHIVE = Original(
    "ml-20m.zip",
    "https://files.grouplens.org/datasets/movielens/ml-20m.zip",
    md5="cd245b17a1ae2cc31bb14903e1204af3",
    held=True,
)
FILES = ("ratings.csv",)
NUM_RATINGS, NUM_USERS = 20_000_263, 138_493


def prepare(
    folder: Path,
    originals: Path | None = None,
    num_ratings: int = NUM_RATINGS,
    num_users: int = NUM_USERS,
) -> None:
    """Write `ratings.csv`, unchanged.

    Args:
        originals: the archive, or a folder of it or of its files; None: it is fetched.
        num_ratings, num_users: that there must be.
    Raises:
        DataError: if the archive cannot be had or is damaged, a line is no rating, or their
            number or that of the users is another.
    """
    with unpacked(ARCHIVE, folder, originals, FILES, "*/ratings.csv") as place:
        path = find_file(place, *FILES)
        ratings = read_ratings(path)
        found = len(ratings), len(np.unique(ratings.users))
        if found != (num_ratings, num_users):
            raise DataError(
                f"{path} must hold {num_ratings} ratings by {num_users} users, got {found[0]} by "
                f"{found[1]}"
            )
        shutil.copyfile(path, folder / FILES[0])
