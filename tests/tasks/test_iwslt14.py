"""IWSLT 2014: preparation from files in the format of its archive."""

import functools
import io
import tarfile

import pytest

from tasks.data import iwslt14
from tasks.data.store import DataError, content_hash, fetch, require

NUM_SENTENCES = 60
# Of a talk three lines are kept with the sentences; two at the end are not, and tests have two.
COUNTS = {"talks": NUM_SENTENCES + 5, "kept": NUM_SENTENCES + 3, "test": 10}
OFFICIAL = iwslt14.prepare


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """Make the set a tiny one."""
    small = functools.partial(OFFICIAL, num_sentences=COUNTS)
    monkeypatch.setattr(iwslt14, "prepare", small)


def tagged(language):
    """A file train.tags.de-en.*: headers of a talk, then sentences."""
    word = {"de": "Wort", "en": "word"}[language]
    lines = [
        "<url>http://www.ted.com/talks/lang/de/x.html</url>",
        "<keywords>talks, a, b</keywords>",
        "<speaker>Jemand</speaker>",
        "<talkid>1</talkid>",
        f"<title>{word} Titel</title>",
        f"<description>{word} : Beschreibung &amp; mehr</description>",
        *(f" {word} {number} .  " for number in range(NUM_SENTENCES)),
    ]
    # Too long by its ratio of 4 to 2, and empty on one side: neither is kept.
    lines += [f"{word} a b c" if language == "de" else f"{word} a", word]
    if language == "en":
        lines[-1] = ""
    return "".join(f"{line}\n" for line in lines)


def segments(language, talk):
    """A file IWSLT14.*.de-en.*.xml."""
    kind = {"de": "srcset", "en": "refset"}[language]
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        "<mteval>",
        f'<{kind} setid="iwslt2014-{talk}" srclang="german">',
        '<doc docid="1" genre="lectures">',
        "<url>http://www.ted.com/talks/x</url>",
        "<title>Titel</title>",
        f'<seg id="1"> {talk} {language} R&amp;D ’s </seg>',
        f'<seg id="2">{talk} {language} zwei</seg>',
        "</doc>",
        f"</{kind}>",
        "</mteval>",
    ]
    return "".join(f"{line}\n" for line in lines)


def files():
    found = {f"train.tags.de-en.{x}": tagged(x) for x in ("de", "en")}
    for talk in iwslt14.TALKS:
        found |= {f"IWSLT14.{talk}.de-en.{x}.xml": segments(x, talk) for x in ("de", "en")}
    return found


def write(folder, content):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in content.items():
        (folder / name).write_text(text)
    return folder


def archive(path, content):
    with tarfile.open(path, "w:gz") as tar:
        for name, text in content.items():
            raw = text.encode()
            member = tarfile.TarInfo(f"de-en/{name}")
            member.size = len(raw)
            tar.addfile(member, io.BytesIO(raw))
    return path


@pytest.fixture
def originals(tmp_path):
    return archive(tmp_path / "de-en.tgz", files())


def test_the_splits_are_fairseqs(originals, tmp_path):
    place = tmp_path / "prepared"
    place.mkdir()
    iwslt14.prepare(place, originals)
    assert sorted(path.name for path in place.iterdir()) == sorted(iwslt14.FILES)
    text = iwslt14.read(place)
    # What fairseq's script keeps of the headers: speaker, title and description.
    kept = [
        ("<speaker>Jemand</speaker>",) * 2,
        ("Wort Titel", "word Titel"),
        ("Wort : Beschreibung & mehr", "word : Beschreibung & mehr"),
        *((f"Wort {n} .", f"word {n} .") for n in range(NUM_SENTENCES)),
    ]
    assert text["valid"] == [kept[22], kept[45]]
    assert text["train"] == [p for n, p in enumerate(kept) if n not in (22, 45)]
    assert text["test"][:2] == [
        ("TED.dev2010 de R&D 's", "TED.dev2010 en R&D 's"),
        ("TED.dev2010 de zwei", "TED.dev2010 en zwei"),
    ]
    assert [german.split()[0] for german, _ in text["test"][::2]] == list(iwslt14.TALKS)


def test_an_archive_and_its_files_give_the_same(originals, tmp_path):
    loose = write(tmp_path / "mine" / "de-en", files())
    found = []
    for number, source in enumerate((originals, loose, loose.parent, tmp_path)):
        place = tmp_path / "prepared" / str(number)
        place.mkdir(parents=True)
        iwslt14.prepare(place, source)
        found.append({path.name: path.read_bytes() for path in place.iterdir()})
    assert all(each == found[0] for each in found)


def test_lengths_are_limited_as_in_fairseqs_preparation():
    assert iwslt14.is_clean("a b c", "a b")
    assert not iwslt14.is_clean("a b c d", "a b")
    assert not iwslt14.is_clean("a b", "a, b.")  # punctuation counts
    assert not iwslt14.is_clean("", "")
    assert iwslt14.is_clean("a " * 175, "b " * 175)
    assert not iwslt14.is_clean("a " * 176, "b " * 175)


def test_the_store_prepares_lists_and_verifies_it(originals, tmp_path):
    data_dir = tmp_path / "sets"
    folder = fetch("iwslt14", data_dir, originals=originals)
    assert require("iwslt14", data_dir, iwslt14.FILES) == folder
    before = content_hash("iwslt14", iwslt14.FILES, data_dir=data_dir)
    assert len(before) == 64
    (folder / "valid.de").write_text("anders\n")
    with pytest.raises(DataError, match=r"valid\.de is damaged"):
        require("iwslt14", data_dir, iwslt14.FILES)
    assert content_hash("iwslt14", iwslt14.FILES, data_dir=data_dir) == before


def changed(name, old, new):
    content = files()
    assert old in content[name]
    return {**content, name: content[name].replace(old, new, 1)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            changed("train.tags.de-en.en", " word 3 .  \n", ""),
            "must have the same number of sentences, got 65 and 64",
        ),
        (
            changed("IWSLT14.TED.tst2011.de-en.de.xml", '<seg id="2">', '<seg id="2"/><seg>'),
            "IWSLT14.TED.tst2011.de-en.de.xml, line 8: must hold <seg id",
        ),
        (
            changed("IWSLT14.TEDX.dev2012.de-en.en.xml", "TEDX.dev2012 en zwei", " "),
            "IWSLT14.TEDX.dev2012.de-en.en.xml, line 8: must hold <seg id",
        ),
        (
            {k: v for k, v in files().items() if "tst2012.de-en.en" not in k},
            "must hold IWSLT14.TED.tst2012.de-en.en.xml, which it does not",
        ),
    ],
)
def test_damaged_files_are_told_what_is_wrong(content, message, tmp_path):
    place = tmp_path / "prepared"
    place.mkdir()
    with pytest.raises(DataError) as error:
        iwslt14.prepare(place, archive(tmp_path / "de-en.tgz", content))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (iwslt14.NUM_SENTENCES, r"train.tags.de-en.* in {path} must hold 174443 sentences, got 65"),
        ({**COUNTS, "test": 11}, "IWSLT14.*.de-en.*.xml in {path} must hold 11 sentences, got 10"),
        (
            {**COUNTS, "kept": 65},
            "of the sentences in {path} about 65 must be within the limits of length, got 63",
        ),
    ],
)
def test_other_numbers_of_sentences_are_refused(counts, message, originals, tmp_path):
    place = tmp_path / "prepared"
    place.mkdir()
    with pytest.raises(DataError) as error:
        iwslt14.prepare(place, originals, num_sentences=counts)
    assert str(error.value) == message.format(path=originals)


def test_lines_at_the_limits_may_be_others_than_fairseqs(originals, tmp_path):
    for kept in (62, 64):  # 63 and 2 %
        iwslt14.prepare(tmp_path, originals, num_sentences={**COUNTS, "kept": kept})


def test_a_split_without_sentences_is_named(tmp_path):
    few = {**files(), "train.tags.de-en.de": "a\n" * 9, "train.tags.de-en.en": "a\n" * 9}
    counts = {**COUNTS, "talks": 9, "kept": 9}
    with pytest.raises(DataError, match=r"de-en\.tgz must hold sentences for valid, got none"):
        iwslt14.prepare(tmp_path, archive(tmp_path / "de-en.tgz", few), num_sentences=counts)


def test_the_official_archive_is_fetched_under_a_certificate():
    assert iwslt14.ARCHIVE.url.startswith("https://")
    assert sum(iwslt14.NUM_SENTENCES[name] for name in ("kept", "test")) == 160_239 + 7_283 + 6_750


def test_a_truncated_archive_leaves_no_set(originals, tmp_path):
    originals.write_bytes(originals.read_bytes()[:-400])
    with pytest.raises(DataError, match=r"de-en\.tgz"):
        fetch("iwslt14", tmp_path / "sets", originals=originals)
    assert not (tmp_path / "sets" / "iwslt14").exists()


def test_what_is_wrong_in_an_archive_is_told_by_its_name(tmp_path):
    content = changed("IWSLT14.TEDX.dev2012.de-en.en.xml", "TEDX.dev2012 en zwei", " ")
    path = archive(tmp_path / "mine.tgz", content)
    place = tmp_path / "prepared"
    place.mkdir()
    with pytest.raises(DataError) as error:
        iwslt14.prepare(place, path)
    assert str(error.value).startswith(f"{path}:IWSLT14.TEDX.dev2012.de-en.en.xml, line 8: ")
    assert list(place.iterdir()) == []


def test_an_invalid_byte_is_told_its_line(tmp_path):
    folder = write(tmp_path / "mine", files())
    path = folder / "IWSLT14.TED.tst2010.de-en.de.xml"
    path.write_bytes(path.read_bytes().replace(b"zwei", b"\xe4"))
    place = tmp_path / "prepared"
    place.mkdir()
    with pytest.raises(DataError, match=r"tst2010\.de-en\.de\.xml, line 8: must be UTF-8"):
        iwslt14.prepare(place, folder)
