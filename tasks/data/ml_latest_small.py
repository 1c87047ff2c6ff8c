"""MovieLens, the latest small selection [Harper and Konstan 2015], as of September 2018.

100,836 ratings by 610 users. Its README forbids commercial use without permission.
"""

from __future__ import annotations

from pathlib import Path

from tasks.data.archives import unpacked
from tasks.data.download import Original, find_file
from tasks.data.formats.movielens import read_ratings
from tasks.data.lines import decoded_lines

# What lies there may be replaced by a later selection, which the committed list then refuses.
ARCHIVE = Original(
    "ml-latest-small.zip",
    "https://files.grouplens.org/datasets/movielens/ml-latest-small.zip",
)
FILES = ("ratings.csv",)


def prepare(folder: Path, originals: Path | None = None) -> None:
    """Write `ratings.csv` as it is in the archive, its lines ended by "\\n".

    Args:
        originals: the archive, or a folder of it or of its files; None: it is fetched.
    Raises:
        DataError: if the archive cannot be had or is damaged, or a line is no rating.
    """
    with unpacked(ARCHIVE, folder, originals, FILES, "*/ratings.csv") as place:
        path = find_file(place, *FILES)
        read_ratings(path)
        text = "".join(f"{line}\n" for line in decoded_lines(path))
    (folder / FILES[0]).write_bytes(text.encode())
