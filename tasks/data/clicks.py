"""Ratings as clicks, and which users and clicks are held out [Liang et al. 2018, their code].

A rating of 4 or 5 stars is a click; the rest is dropped, and so are users with fewer than 5
clicks. Some users train; of the others, some validate and as many test. What counts is what
training users have clicked; of a held-out user a fifth of these clicks is to be found from the
rest.

The draws are those of the published code, number for number: from ml-20m come its 116,677, 10,000
and 10,000 users and its 20,108 movies.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tasks.data.formats.movielens import Ratings, read_ratings
from tasks.data.store import DataError

LEAST_STARS = 4.0
LEAST_CLICKS = 5
_HIDDEN = 0.2  # of a held-out user's clicks
_SEED = 98765  # Liang's, of the users' order and, anew for each split, of the hidden clicks


@dataclass(frozen=True)
class Clicks:
    """The items that each of some users has clicked; no user without one.

    Args:
        starts: where each user's items begin, and their end, int64, shape (users + 1,).
        items: from 0, int64, one user's after the other's.
        num_items: there are in all.
    """

    starts: Tensor
    items: Tensor
    num_items: int

    def __len__(self) -> int:
        return len(self.starts) - 1

    def to(self, device: torch.device | str) -> Clicks:
        return Clicks(self.starts.to(device), self.items.to(device), self.num_items)

    def rows(self, users: Tensor, dtype: torch.dtype) -> Tensor:
        """1 for each item clicked, else 0: users (n,) -> (n, num_items)."""
        first = self.starts[users]
        lengths = self.starts[users + 1] - first
        row = torch.repeat_interleave(lengths)
        # What takes a click's position among those of all these users to its position in `items`.
        shift = first - (lengths.cumsum(0) - lengths)
        own = torch.arange(len(row), device=row.device) + shift.index_select(0, row)
        places = row * self.num_items + self.items.index_select(0, own)
        dense = torch.zeros(len(users) * self.num_items, dtype=dtype, device=row.device)
        return dense.index_fill_(0, places, 1).view(-1, self.num_items)

    def counts(self) -> Tensor:
        """Users who clicked each item, int64, shape (num_items,)."""
        return torch.bincount(self.items, minlength=self.num_items)


@dataclass(frozen=True)
class Heldout:
    """Clicks of held-out users: those that are seen, and those that are to be found."""

    seen: Clicks
    hidden: Clicks


@dataclass(frozen=True)
class Split:
    """Clicks of the users who train, validate and test."""

    train: Clicks
    valid: Heldout
    test: Heldout


def read_split(path: Path, num_heldout: int, num_items: int, num_train: int | None = None) -> Split:
    """Read ratings and split them.

    Items are numbered by how many training users clicked them, the most first. Training users
    with no click among the items that count, and held-out users with fewer than 5, take no part:
    there would be nothing to find.

    Args:
        path: of ratings.csv.
        num_heldout: users who validate, and as many who test.
        num_items: movies that count, the most clicked ones.
        num_train: training users, the first ones; None: all.
    Raises:
        DataError: if a line is no rating, or too few users are left.
        ValueError: if the training users have not clicked so many movies.
    """
    users, movies = _clicks(read_ratings(path))
    groups = _by_user(users)
    if len(groups) <= 2 * num_heldout:
        raise DataError(
            f"{path} must hold more than {2 * num_heldout} users with {LEAST_CLICKS} ratings of "
            f"{LEAST_STARS:g} and more, twice num_heldout, got {len(groups)}"
        )
    order = np.random.RandomState(_SEED).permutation(len(groups))
    first, second = len(groups) - 2 * num_heldout, len(groups) - num_heldout
    # Of held-out users in the order of their numbers, as hidden clicks are drawn in turn.
    train, valid, test = (
        order[:first][:num_train],
        np.sort(order[first:second]),
        np.sort(order[second:]),
    )
    number = _most_clicked(movies, [groups[i] for i in train], num_items)
    items = number[movies]

    def of(chosen: np.ndarray) -> list[np.ndarray]:
        return [own[own >= 0] for own in (items[groups[i]] for i in chosen)]

    return Split(
        _packed([own for own in of(train) if len(own)], num_items),
        _hide(of(valid), num_items, path),
        _hide(of(test), num_items, path),
    )


def _clicks(ratings: Ratings) -> tuple[np.ndarray, np.ndarray]:
    kept = ratings.stars >= LEAST_STARS
    return ratings.users[kept], np.unique(ratings.movies[kept], return_inverse=True)[1]


def _by_user(users: np.ndarray) -> list[np.ndarray]:
    """Positions of each user's clicks, in the file's order, of users with enough, by number."""
    order = np.argsort(users, kind="stable")
    bounds = np.flatnonzero(np.diff(users[order])) + 1
    return [own for own in np.split(order, bounds) if len(own) >= LEAST_CLICKS]


def _most_clicked(movies: np.ndarray, train: list[np.ndarray], num_items: int) -> np.ndarray:
    """Number of each movie as an item; -1 for those that do not count."""
    clicks = np.bincount(movies[np.concatenate(train)], minlength=int(movies.max()) + 1)
    available = int((clicks > 0).sum())
    if num_items > available:
        raise ValueError(
            f"num_items must be <= {available}, the movies that training users have clicked, got "
            f"{num_items}"
        )
    number = np.full(len(clicks), -1)
    number[np.argsort(-clicks, kind="stable")[:num_items]] = np.arange(num_items)
    return number


def _hide(clicks: list[np.ndarray], num_items: int, path: Path) -> Heldout:
    draw = np.random.RandomState(_SEED)
    seen, hidden = [], []
    for own in clicks:
        if len(own) < LEAST_CLICKS:
            continue
        away = np.zeros(len(own), dtype=bool)
        away[draw.choice(len(own), size=int(_HIDDEN * len(own)), replace=False)] = True
        seen.append(own[~away])
        hidden.append(own[away])
    if not seen:
        raise DataError(
            f"{path} must hold held-out users with {LEAST_CLICKS} clicks on the {num_items} "
            "movies that count, got none"
        )
    return Heldout(_packed(seen, num_items), _packed(hidden, num_items))


def _packed(clicks: list[np.ndarray], num_items: int) -> Clicks:
    starts = np.cumsum([0, *map(len, clicks)])
    return Clicks(torch.as_tensor(starts), torch.as_tensor(np.concatenate(clicks)), num_items)
