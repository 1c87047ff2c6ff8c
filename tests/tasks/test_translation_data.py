"""Parallel text: readers on files of the true formats, preparation, what damaged files are told."""

import gzip
import os
import zipfile
from pathlib import Path

import pytest
import torch

from tasks.data import multi30k, tatoeba_de_en
from tasks.data.joined_bpe import END, PADDING, START, UNKNOWN, JoinedBPE, plain
from tasks.data.parallel_text import read_lines, read_pairs, write_pairs
from tasks.data.store import DataError, fetch, require
from tasks.data.token_batches import by_tokens, padded
from tasks.seeding import seeded


def refusal(function, *arguments):
    with pytest.raises(DataError) as error:
        function(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


# ---------------------------------------------------------------- lines


def test_only_newlines_end_a_line(tmp_path):
    path = tmp_path / "text"
    path.write_bytes("eins\u2028zwei\r\ndrei\x0bvier\x85\n".encode())
    assert read_lines(path) == ["eins\u2028zwei", "drei\x0bvier\x85"]
    path.write_bytes(b"no newline at the end")
    assert read_lines(path) == ["no newline at the end"]


def test_two_files_make_pairs(tmp_path):
    pairs = [("Ein Hund.", "A dog."), ("Zwei Hunde.", "Two dogs.")]
    write_pairs(pairs, tmp_path / "de", tmp_path / "en")
    assert (tmp_path / "en").read_text() == "A dog.\nTwo dogs.\n"
    assert read_pairs(tmp_path / "de", tmp_path / "en") == pairs


@pytest.mark.parametrize(
    ("german", "english", "message"),
    [
        (b"a\nb\n", b"a\nb\nc\n", "{de} and {en} must have the same number of lines, got 2 and 3"),
        (b"", b"a\n", "{de} must hold sentences, got an empty file"),
        (b"a\n", b" \n\n", "{en} must hold sentences, got an empty file"),
        (b"a\nb\n", b"a\n \n", "{en}, line 2: must hold a sentence, got none"),
        (b"a\n\xff\n", b"a\nb\n", "{de}, line 2: must be UTF-8, got invalid start byte"),
        (b"a\n", None, "{en} cannot be read: No such file or directory"),
    ],
)
def test_bad_files_are_told_their_line(german, english, message, tmp_path):
    paths = {"de": tmp_path / "x.de", "en": tmp_path / "x.en"}
    for path, content in zip(paths.values(), (german, english), strict=True):
        if content is not None:
            path.write_bytes(content)
    assert refusal(read_pairs, *paths.values()) == message.format(**paths)


# ---------------------------------------------------------------- Multi30k


def captions(folder, pack):
    """The six files, packed or not, each with sentences that say where they are from."""
    folder.mkdir()
    for name in multi30k.FILES:
        text = f"{name} eins\n{name} zwei\n".encode()
        path = folder / (f"{name}.gz" if pack else name)
        path.write_bytes(gzip.compress(text) if pack else text)
    return folder


@pytest.mark.parametrize("pack", [True, False])
def test_captions_are_unpacked_and_read(pack, tmp_path):
    place = tmp_path / "prepared"
    place.mkdir()
    multi30k.prepare(place, captions(tmp_path / "originals", pack))
    assert sorted(path.name for path in place.iterdir()) == sorted(multi30k.FILES)
    text = multi30k.read(place)
    assert list(text) == ["train", "valid", "test"]
    assert text["valid"] == [("val.de eins", "val.en eins"), ("val.de zwei", "val.en zwei")]
    assert text["test"][1] == ("test_2016_flickr.de zwei", "test_2016_flickr.en zwei")


def test_damaged_captions_are_refused(tmp_path):
    originals = captions(tmp_path / "originals", pack=True)
    path = originals / "val.en.gz"
    path.write_bytes(path.read_bytes()[:-9])
    place = tmp_path / "prepared"
    place.mkdir()
    assert f"{path} cannot be unpacked: " in refusal(multi30k.prepare, place, originals)
    path.unlink()
    assert "must hold val.en.gz or val.en" in refusal(multi30k.prepare, place, originals)


def test_other_captions_than_the_listed_ones_never_count(tmp_path):
    originals = captions(tmp_path / "originals", pack=True)
    with pytest.raises(DataError, match=r"\.de from .*originals has SHA-256"):
        fetch("multi30k", tmp_path / "sets", originals=originals)
    assert not (tmp_path / "sets").exists()


# ---------------------------------------------------------------- Tatoeba

# Their SHA-256 modulo 100 is 0, 1 and neither.
ENGLISH = {"valid": "Sentence 75.", "test": "Sentence 74.", "train": "Hi."}


def test_a_tab_separates_english_from_german(tmp_path):
    lines = [
        f"{ENGLISH['train']}\tHallo!\n",
        f"{ENGLISH['valid']}\tErster Satz.\tCC-BY 2.0 (France)\n",
        f"{ENGLISH['train']}\tGrüß Gott!\n",
        f"{ENGLISH['test']}\tZweiter Satz.\n",
        f"{ENGLISH['valid']}\tEin Satz.\n",
    ]
    (tmp_path / "deu.txt").write_text("".join(lines))
    assert tatoeba_de_en.read(tmp_path) == {
        "train": [("Hallo!", "Hi."), ("Grüß Gott!", "Hi.")],
        "valid": [("Erster Satz.", ENGLISH["valid"]), ("Ein Satz.", ENGLISH["valid"])],
        "test": [("Zweiter Satz.", ENGLISH["test"])],
    }


@pytest.mark.parametrize("line", ["Hi. Hallo!", "Hi.\t", "\tHallo!", "", "Hi.\t "])
def test_a_line_with_too_few_columns_is_named(line, tmp_path):
    path = tmp_path / "deu.txt"
    path.write_text(f"Hi.\tHallo!\n{line}\nHi.\tServus!\n")
    assert refusal(tatoeba_de_en.read, tmp_path) == (
        f"{path}, line 2: must hold an English and a German sentence separated by a tab, "
        f"got {line!r}"
    )


def test_an_empty_split_is_named(tmp_path):
    path = tmp_path / "deu.txt"
    path.write_text(f"Hi.\tHallo!\n{ENGLISH['valid']}\tErster Satz.\n")
    assert refusal(tatoeba_de_en.read, tmp_path) == (
        f"{path} must hold sentences for test, got none"
    )


def test_the_text_is_taken_from_an_archive_or_as_it_is(tmp_path):
    text = b"Hi.\tHallo!\n"
    archive = tmp_path / "deu-eng.zip"
    with zipfile.ZipFile(archive, "w") as package:
        package.writestr("_about.txt", "whose it is")
        package.writestr("deu.txt", text)
    plain_text = tmp_path / "deu.txt"
    plain_text.write_bytes(text)
    for number, originals in enumerate((archive, plain_text, tmp_path)):
        place = tmp_path / f"prepared{number}"
        place.mkdir()
        tatoeba_de_en.prepare(place, originals)
        assert [path.name for path in place.iterdir()] == ["deu.txt"]
        assert (place / "deu.txt").read_bytes() == text


# ---------------------------------------------------------------- vocabulary

LINES = ["Der Hund läuft.", "The dog runs; the dog's here.", "der Hund  der Hund"] * 20


def test_text_survives_the_encoding():
    vocabulary = JoinedBPE(LINES, 60)
    encoded = vocabulary.encode(LINES)
    assert vocabulary.decode(encoded) == [plain(line) for line in LINES]
    assert plain("Der  Hund\tläuft. ") == "der hund läuft."
    assert max(max(line) for line in encoded) < 60
    # Joined where joining pays: fewer units than characters.
    assert len(encoded[2]) == 4


def test_marks_are_no_text():
    vocabulary = JoinedBPE(LINES, 60)
    (units,) = vocabulary.encode(["der </s> <pad>"])
    assert not {START, PADDING, END} & set(units)
    assert UNKNOWN in units
    (hund,) = vocabulary.encode(["hund"])
    assert vocabulary.decode([[START, *hund, END, PADDING]]) == ["hund"]


def test_an_unseen_character_is_unknown():
    vocabulary = JoinedBPE(LINES, 60)
    (units,) = vocabulary.encode(["ж"])
    assert UNKNOWN in units
    assert vocabulary.decode([units]) == ["<unk>"]


def test_the_vocabulary_follows_from_the_text_alone():
    first, second = (JoinedBPE(LINES, 60).encode(LINES) for _ in range(2))
    assert first == second
    # The order of the lines does not matter either.
    assert JoinedBPE(reversed(LINES), 60).encode(LINES) == first


def test_too_small_a_vocabulary_is_refused():
    characters = set("".join(map(plain, LINES))) - {" "} | {"▁"}
    least = len(characters) + 4
    with pytest.raises(ValueError, match=rf"vocab_size must be >= {least}, .* got 10"):
        JoinedBPE(LINES, 10)


# ---------------------------------------------------------------- batches


def pairs_of(lengths):
    return [([7] * source, [8] * target) for source, target in lengths]


def random_pairs(count, seed=0):
    generator = seeded(seed)
    lengths = torch.randint(1, 30, (count, 2), generator=generator).tolist()
    return pairs_of(lengths)


def test_batches_hold_every_pair_once_and_are_full():
    pairs = random_pairs(500)
    batches = by_tokens(pairs, 200, 1000, seeded(1))
    assert sorted(index for batch in batches for index in batch) == list(range(500))
    for batch in batches:
        longest = max(len(side) for index in batch for side in pairs[index])
        assert longest * len(batch) <= 200
        # Of a size that fits the multiple of 8, the last one apart.
        assert len(batch) % 8 == 0 or len(batch) < 8 or batch is batches[-1]
    sources = [len(pairs[index][0]) for batch in batches for index in batch]
    assert sources == sorted(sources)
    # Padding is little, and less than without order: the number of batches is near the least.
    needed = sum(max(map(len, pair)) for pair in pairs) / 200
    assert len(batches) < 1.5 * needed


def test_batches_by_hand():
    pairs = pairs_of([(3, 2), (1, 1), (2, 4), (2, 1), (1, 2)])
    # Ordered by source, then target; at most 6 tokens: 1 x 1, 2 x 2, 3 x 2, then 4 alone.
    assert by_tokens(pairs, 6, 100) == [[1, 4, 3], [2], [0]]
    assert by_tokens(pairs, 6, 2) == [[1, 4], [3], [2], [0]]
    assert by_tokens([], 6, 2) == []
    # Cut at 8 pairs: the ninth and tenth begin the next batch.
    assert [len(batch) for batch in by_tokens(pairs_of([(1, 1)] * 25), 10, 100)] == [8, 8, 9]
    # 8 x 6 are more than 20: the seven that were cut off do not go with the long one.
    longer = pairs_of([(1, 1)] * 15 + [(6, 6)])
    assert [len(batch) for batch in by_tokens(longer, 20, 100)] == [8, 7, 1]
    assert [len(batch) for batch in by_tokens(longer, 48, 100)] == [8, 8]


def test_the_generator_shuffles_equals_only():
    pairs = pairs_of([(2, 2)] * 20 + [(3, 3)] * 20)
    first, again, other = (by_tokens(pairs, 30, 100, seeded(seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert sorted(i for b in first for i in b if i < 20) == list(range(20))
    assert [i for b in first for i in b if i >= 20] == [i for b in first for i in b][20:]


def test_a_sentence_longer_than_a_batch_is_refused():
    with pytest.raises(ValueError, match="max_tokens must be >= 9, the longest sentence, got 8"):
        by_tokens(pairs_of([(2, 2), (1, 9)]), 8, 10)


def test_padding_stands_at_the_right():
    rows = padded([[5, 6, 2], [2]], PADDING, "cpu")
    assert rows.tolist() == [[5, 6, 2], [2, 1, 1]]


# ---------------------------------------------------------------- the real sets


@pytest.fixture(params=["multi30k", "tatoeba_de_en"])
def real_set(request):
    folder = Path(os.environ.get("KAPPA_DATA", "data")) / request.param
    if not folder.is_dir():
        pytest.skip(f"needs {request.param} under KAPPA_DATA")
    module = {"multi30k": multi30k, "tatoeba_de_en": tatoeba_de_en}[request.param]
    return request.param, module.read(require(request.param, folder.parent, module.FILES))


def test_the_real_sets_have_their_sizes(real_set):
    name, text = real_set
    counts = {split: len(pairs) for split, pairs in text.items()}
    expected = {
        "multi30k": {"train": 29_000, "valid": 1_014, "test": 1_000},
        "tatoeba_de_en": {"train": 166_389, "valid": 1_684, "test": 1_740},
    }
    assert counts == expected[name]
    english = {split: {en for _, en in pairs} for split, pairs in text.items()}
    if name == "tatoeba_de_en":
        assert not english["train"] & (english["valid"] | english["test"])
        assert not english["valid"] & english["test"]
