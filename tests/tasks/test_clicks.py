"""Which clicks train and which are held out, against the published preparation."""

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.data.clicks import Clicks, read_split
from tasks.data.formats.movielens import HEADER, read_ratings
from tasks.data.store import DataError


def refusal(function, *arguments):
    with pytest.raises(DataError) as error:
        function(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def write(path: Path, clicks: dict[int, list[int]], dull: dict[int, list[int]]) -> Path:
    """Clicks and other ratings of each user."""
    lines = [
        f"{user},{movie},{stars},1\n"
        for user in sorted({*clicks, *dull})
        for movie, stars in sorted(
            [(m, 4.5) for m in clicks.get(user, [])] + [(m, 3.5) for m in dull.get(user, [])]
        )
    ]
    path.write_text(f"{','.join(HEADER)}\n{''.join(lines)}")
    return path


def sets_of(clicks: Clicks) -> list[set[int]]:
    items, starts = clicks.items.tolist(), clicks.starts.tolist()
    return [set(items[a:b]) for a, b in itertools.pairwise(starts)]


def plain_split(clicks: dict[int, list[int]], num_heldout: int):
    """Liang et al.'s preparation, in lists: users with 5 clicks, shuffled, then drawn from."""
    users = np.array([user for user in sorted(clicks) if len(clicks[user]) >= 5])
    users = users[np.random.RandomState(98765).permutation(len(users))]
    train = users[: -2 * num_heldout].tolist()
    known = {movie for user in train for movie in clicks[user]}
    found = []
    for held in (users[-2 * num_heldout : -num_heldout], users[-num_heldout:]):
        draw = np.random.RandomState(98765)  # as np.random.seed has it
        for user in sorted(held.tolist()):
            own = [movie for movie in sorted(clicks[user]) if movie in known]
            if len(own) >= 5:
                away = np.zeros(len(own), dtype=bool)
                size = int(0.2 * len(own))
                away[draw.choice(len(own), size=size, replace=False)] = True
                hidden = {m for m, a in zip(own, away, strict=True) if a}
                found.append((set(own) - hidden, hidden))
    return [set(clicks[user]) for user in train], found, known


@pytest.fixture(scope="module")
def clicks():
    draw = np.random.default_rng(0)
    found = {
        user: draw.choice(60, size=draw.integers(3, 16), replace=False).tolist()
        for user in range(1, 40)
    }
    return {user: [movie + 1 for movie in own] for user, own in found.items()}


def test_the_split_is_that_of_the_published_code(clicks, tmp_path):
    path = write(tmp_path / "ratings.csv", clicks, {2: [70], 50: [1, 2, 3, 4, 5, 6]})
    train, heldout, known = plain_split(clicks, 8)
    split = read_split(path, 8, len(known))
    # Items are numbered by their clicks, movies in order where they have as many.
    counts = {movie: sum(movie in own for own in train) for movie in known}
    number = {m: i for i, m in enumerate(sorted(known, key=lambda m: (-counts[m], m)))}

    def numbered(own):
        return {number[movie] for movie in own}

    assert sets_of(split.train) == [numbered(own) for own in train]
    both = [(split.valid, slice(None, len(split.valid.seen)))]
    both += [(split.test, slice(len(split.valid.seen), None))]
    for held, part in both:
        assert sets_of(held.seen) == [numbered(seen) for seen, _ in heldout[part]]
        assert sets_of(held.hidden) == [numbered(hidden) for _, hidden in heldout[part]]
    assert split.train.counts().tolist() == sorted(counts.values(), reverse=True)


def test_the_most_clicked_movies_count_and_users_without_one_do_not(clicks, tmp_path):
    # Users who have clicked what nobody else has.
    lonely = {user: list(range(10 * user, 10 * user + 5)) for user in range(90, 100)}
    path = write(tmp_path / "ratings.csv", clicks | lonely, {})
    available = len(plain_split(clicks | lonely, 8)[2])
    whole, part = (read_split(path, 8, num_items) for num_items in (available, 30))
    assert part.train.counts().tolist() == whole.train.counts().tolist()[:30]
    kept = [{item for item in own if item < 30} for own in sets_of(whole.train)]
    assert sets_of(part.train) == [own for own in kept if own]
    assert len(part.train) < len(whole.train)
    for held in (part.valid, part.test):
        assert all(len(seen) + len(hidden) >= 5 for seen, hidden in pairs(held))
    # Fewer training users have clicked fewer movies.
    first = read_split(path, 8, 30, num_train=7)
    assert len(first.train) <= 7
    assert int(first.train.counts().max()) <= 7


def pairs(held):
    return zip(sets_of(held.seen), sets_of(held.hidden), strict=True)


def test_too_few_users_or_movies_are_refused(clicks, tmp_path):
    path = write(tmp_path / "ratings.csv", clicks, {})
    active = sum(len(own) >= 5 for own in clicks.values())
    assert refusal(read_split, path, 20, 10) == (
        f"{path} must hold more than 40 users with 5 ratings of 4 and more, twice num_heldout, got "
        f"{active}"
    )
    with pytest.raises(ValueError, match=r"num_items must be <= \d+, the movies that training"):
        read_split(path, 8, 10**4)
    # Held-out users who have clicked nothing that training users have: nothing is to be found.
    alone = {user: list(range(10 * user, 10 * user + 5)) for user in range(1, 10)}
    path = write(tmp_path / "alone.csv", alone, {})
    assert refusal(read_split, path, 2, 5) == (
        f"{path} must hold held-out users with 5 clicks on the 5 movies that count, got none"
    )


def test_rows_of_clicks():
    clicks = Clicks(torch.tensor([0, 2, 3, 6]), torch.tensor([3, 0, 1, 0, 1, 4]), 5)
    rows = clicks.rows(torch.tensor([2, 0, 2]), torch.float64)
    full, other = [1, 1, 0, 0, 1], [1, 0, 0, 1, 0]
    assert rows.tolist() == [full, other, full]
    assert rows.dtype == torch.float64
    assert clicks.counts().tolist() == [2, 2, 0, 1, 1]


def test_the_real_selection_has_its_clicks():
    """As counted by hand from the file: 609 of 610 users click, 603 five times or more."""
    path = Path(os.environ.get("KAPPA_DATA", "data")).absolute() / "ml_latest_small" / "ratings.csv"
    if not path.is_file():
        pytest.skip("ml_latest_small is not there; set KAPPA_DATA to the folder of data sets")
    ratings = read_ratings(path)
    assert (len(ratings), len(np.unique(ratings.users))) == (100_836, 610)
    split = read_split(path, 50, 5697)
    assert (len(split.train), len(split.valid.seen), len(split.test.seen)) == (503, 50, 49)
    assert int(split.train.counts()[-1]) == 1  # every movie that a training user clicked
