"""MovieLens's ratings.csv: who gave which film how many stars."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tasks.data.lines import decoded_lines
from tasks.data.store import DataError

HEADER = ("userId", "movieId", "rating", "timestamp")
LEAST, MOST = 0.5, 5.0  # stars, in halves
_FIRST = 2  # line of the first rating
_LARGEST = 2**31 - 1  # of the numbers of users and movies


@dataclass(frozen=True)
class Ratings:
    """Ratings in the order of the file.

    Args:
        users, movies: their numbers, int64, shape (n,).
        stars: float64, shape (n,).
    """

    users: np.ndarray
    movies: np.ndarray
    stars: np.ndarray

    def __len__(self) -> int:
        return len(self.users)


def read_ratings(path: Path) -> Ratings:
    """Read a file of lines `user,movie,stars,seconds` below a line of names.

    The whole file is parsed at once, some millions of lines a second; what does not fit is then
    looked for line by line.

    Raises:
        DataError: if the file cannot be read, or a line is no rating or a second one of the same
            movie by the same user; names the line.
    """
    _check_header(path)
    ratings = _parsed(path)
    if ratings is None or not _is_plausible(ratings):
        raise DataError(_complaint(path))
    _check_no_pair_twice(path, ratings)
    return ratings


def _check_header(path: Path) -> None:
    try:
        with path.open("rb") as stream:
            found = stream.readline(200).removesuffix(b"\n").removesuffix(b"\r")
            more = stream.read(1)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    if found != ",".join(HEADER).encode():
        raise DataError(f"{path}, line 1: must be {','.join(HEADER)}, got {found[:60]!r}")
    if not more:
        raise DataError(f"{path}, line {_FIRST}: must be a rating, got the end of the file")


def _parsed(path: Path) -> Ratings | None:
    """The columns; None where a line has other fields or a field is no number."""
    import pyarrow as pa
    from pyarrow import csv

    kinds = dict(zip(HEADER, (pa.int64(), pa.int64(), pa.float64(), pa.int64()), strict=True))
    try:
        table = csv.read_csv(
            path,
            csv.ReadOptions(column_names=list(HEADER), skip_rows=1),
            # Lines keep their numbers: none is left out, and none goes on in the next.
            csv.ParseOptions(quote_char=False, ignore_empty_lines=False),
            csv.ConvertOptions(column_types=kinds),
        )
    except pa.ArrowInvalid:
        return None
    if any(column.null_count for column in table.columns):
        return None
    return Ratings(*(table[name].to_numpy() for name in HEADER[:3]))


def _is_plausible(ratings: Ratings) -> bool:
    numbers = (ratings.users, ratings.movies)
    stars = ratings.stars
    return all(((n >= 1) & (n <= _LARGEST)).all() for n in numbers) and bool(
        ((stars >= LEAST) & (stars <= MOST) & (stars * 2 % 1 == 0)).all()
    )


def _complaint(path: Path) -> str:
    """What is wrong with the first line that is no rating."""
    for number, line in enumerate(decoded_lines(path)[1:], start=_FIRST):
        if not _is_rating(line.split(",")):
            return f"{path}, line {number}: {_wanted(line)}, got {line[:60]!r}"
    return f"{path} cannot be read as lines of {','.join(HEADER)}"


def _is_rating(fields: list[str]) -> bool:
    if len(fields) != len(HEADER):
        return False
    try:
        user, movie, stars, _ = int(fields[0]), int(fields[1]), float(fields[2]), int(fields[3])
    except ValueError:
        return False
    return (
        1 <= user <= _LARGEST
        and 1 <= movie <= _LARGEST
        and LEAST <= stars <= MOST
        and stars * 2 % 1 == 0
    )


def _wanted(line: str) -> str:
    user = line.split(",")[0]
    who = f"user {user}" if user.isdecimal() else "a user"
    return f"{who} must have a movie, a rating from {LEAST} to {MOST:g} in halves and a time"


def _check_no_pair_twice(path: Path, ratings: Ratings) -> None:
    pairs = (ratings.users << 31) + ratings.movies
    if (pairs[1:] > pairs[:-1]).all():  # as in the official files: by user, then by movie
        return
    order = np.argsort(pairs, kind="stable")
    again = pairs[order[1:]] == pairs[order[:-1]]
    if again.any():
        row = int(order[1:][again].min())
        raise DataError(
            f"{path}, line {row + _FIRST}: user {ratings.users[row]} must rate a movie once, got "
            f"movie {ratings.movies[row]} again"
        )
