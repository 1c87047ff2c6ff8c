"""MovieLens: readers on files of the true format, preparation, what damaged files are told."""

import dataclasses

import pytest

from tasks.data import ml_20m, ml_latest_small
from tasks.data.formats.movielens import read_ratings
from tasks.data.store import DataError, fetch
from tests.commands import command
from tests.tasks.originals import zip_of

HEADER = "userId,movieId,rating,timestamp"
# Lines of the official ml-20m's form.
TINY = f"{HEADER}\n1,2,3.5,1112486027\n1,29,4.0,1112484676\n3,1,5.0,944919407\n"


def refusal(function, *arguments):
    with pytest.raises(DataError) as error:
        function(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


# ---------------------------------------------------------------- the file


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_official_format_is_read(end, tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_bytes(TINY.replace("\n", end).encode())
    ratings = read_ratings(path)
    assert ratings.users.tolist() == [1, 1, 3]
    assert ratings.movies.tolist() == [2, 29, 1]
    assert ratings.stars.tolist() == [3.5, 4.0, 5.0]


@pytest.mark.parametrize(
    ("line", "user"),
    [
        ("7,,,", "user 7"),  # a user without a rating
        ("7,31,,1260759144", "user 7"),
        ("7,31,5.5,1260759144", "user 7"),
        ("7,31,0,1260759144", "user 7"),
        ("7,31,2.7,1260759144", "user 7"),
        ("7,31,nan,1260759144", "user 7"),
        ("7,31,good,1260759144", "user 7"),
        ("7,31,4.0", "user 7"),
        ("7,31,4.0,1260759144,x", "user 7"),
        ("7,31.5,4.0,1260759144", "user 7"),
        ("7,-31,4.0,1260759144", "user 7"),
        ("0,31,4.0,1260759144", "user 0"),
        ("me,31,4.0,1260759144", "a user"),
        ("", "a user"),
    ],
)
def test_a_line_that_is_no_rating_is_named(line, user, tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_text(f"{TINY}{line}\n9,9,4.0,1\n")
    assert refusal(read_ratings, path) == (
        f"{path}, line 5: {user} must have a movie, a rating from 0.5 to 5 in halves and a time, "
        f"got {line!r}"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"{TINY}1,29,2.0,7\n", "{}, line 5: user 1 must rate a movie once, got movie 29 again"),
        (f"{HEADER}\n", "{}, line 2: must be a rating, got the end of the file"),
        (HEADER, "{}, line 2: must be a rating, got the end of the file"),
        ("user,item\n1,2\n", f"{{}}, line 1: must be {HEADER}, got b'user,item'"),
        ("", f"{{}}, line 1: must be {HEADER}, got b''"),
        (None, "{} cannot be read: No such file or directory"),
    ],
)
def test_other_files_are_refused(content, message, tmp_path):
    path = tmp_path / "ratings.csv"
    if content is not None:
        path.write_text(content)
    assert refusal(read_ratings, path) == message.format(path)


def test_no_utf8_is_told_its_line(tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_bytes(f"{HEADER}\n1,2,".encode() + b"\xff\n")
    assert refusal(read_ratings, path) == f"{path}, line 2: must be UTF-8, got invalid start byte"


# ---------------------------------------------------------------- preparation


def test_ratings_come_out_of_the_archive(tmp_path, monkeypatch):
    members = {"ml-20m/ratings.csv": TINY.encode(), "ml-20m/movies.csv": b"movieId,title,genres\n"}
    archive = tmp_path / "ml-20m.zip"
    archive.write_bytes(zip_of(members))
    (tmp_path / "out").mkdir()
    said = refusal(ml_20m.prepare, tmp_path / "out", archive)
    assert said.endswith(", expected cd245b17a1ae2cc31bb14903e1204af3")
    monkeypatch.setattr(ml_20m, "ARCHIVE", dataclasses.replace(ml_20m.ARCHIVE, md5=None))
    ml_20m.prepare(tmp_path / "out", archive, num_ratings=3, num_users=2)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["ratings.csv"]
    assert (tmp_path / "out" / "ratings.csv").read_text() == TINY
    said = refusal(ml_20m.prepare, tmp_path / "out", archive)
    assert said == f"{archive}:ratings.csv must hold 20000263 ratings by 138493 users, got 3 by 2"


def test_the_small_set_has_one_end_of_line(tmp_path):
    (tmp_path / "ml-latest-small").mkdir()
    (tmp_path / "ml-latest-small" / "ratings.csv").write_bytes(TINY.replace("\n", "\r\n").encode())
    (tmp_path / "out").mkdir()
    ml_latest_small.prepare(tmp_path / "out", tmp_path / "ml-latest-small")
    assert (tmp_path / "out" / "ratings.csv").read_bytes() == TINY.encode()


def test_another_selection_is_refused(tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_text(TINY)
    said = refusal(lambda: fetch("ml_latest_small", tmp_path / "data", originals=path))
    assert "ratings.csv" in said and "has SHA-256" in said


# ---------------------------------------------------------------- from the command line


def test_a_user_without_a_rating_ends_the_run_in_one_line(sets_dir, tmp_path):
    content = (sets_dir / "ml_latest_small" / "ratings.csv").read_text()
    place = tmp_path / "ml_20m"
    place.mkdir()
    (place / "ratings.csv").write_text(f"{content}71,,,\n")
    from tasks.data.listing import SHA256, write_listing

    write_listing(place, SHA256)
    number = len(content.splitlines()) + 1
    asked = ["task=ml20m_hvamp", "scale=smoke", "task.data=ml_20m", f"data_dir={tmp_path}"]
    result = command(*asked, f"runs_dir={tmp_path / 'runs'}")
    assert result.code == 2
    assert result.err.splitlines() == [
        f"run.py: {place / 'ratings.csv'}, line {number}: user 71 must have a movie, a rating from "
        "0.5 to 5 in halves and a time, got '71,,,'"
    ]
    assert not (tmp_path / "runs").exists()
