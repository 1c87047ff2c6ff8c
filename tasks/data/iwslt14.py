"""IWSLT 2014, German to English [Cettolo et al. 2014]: TED talks, as fairseq prepares them.

Which lines are kept and how they are split follows fairseq's examples/translation/
prepare-iwslt14.sh, except that tokens are not Moses's: lines are kept as they were written, with
the characters that XML escapes put back, and the limits on their lengths count words and
punctuation marks. Fairseq's splits have 160,239, 7,283 and 6,750 pairs; these differ from the
first two by the lines at the limits.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from tasks.data.archives import unpacked
from tasks.data.download import Original, find_file
from tasks.data.parallel_text import SPLITS, Pair, read_lines, read_pairs, write_pairs
from tasks.data.store import DataError

# WIT3's archive, at the mirror that fairseq names. No checksum of it is published: the mirror's
# certificate and the numbers of sentences are all that tells whether it is the right one.
ARCHIVE = Original("de-en.tgz", "https://dl.fbaipublicfiles.com/fairseq/data/iwslt14/de-en.tgz")
# What fairseq's script reports of it: sentences of the training talks, those of them that are
# neither too long nor too unlike, from which training and validation are split, and of the test.
NUM_SENTENCES = {"talks": 174_443, "kept": 167_522, "test": 6_750}
TALKS = ("TED.dev2010", "TEDX.dev2012", "TED.tst2010", "TED.tst2011", "TED.tst2012")
FILES = tuple(f"{split}.{language}" for split in SPLITS for language in ("de", "en"))

_TRAIN = "train.tags.de-en.{}"
_TEST = "IWSLT14.{}.de-en.{{}}.xml"
_ORIGINALS = tuple(
    name.format(language)
    for name in (_TRAIN, *map(_TEST.format, TALKS))
    for language in ("de", "en")
)

_HEADERS = ("<url>", "<talkid>", "<keywords>")
_MARKS = re.compile(r"</?(?:title|description)>")
_SEGMENT = re.compile(r'<seg id="[0-9]+">\s*(.*?)\s*</seg>')
_TOKEN = re.compile(r"\w+|[^\w\s]")
_VALID_EVERY = 23
_MOST_TOKENS, _RATIO = 175, 1.5
# Moses's tokens are not those that are counted here, so that other lines are at the limits: about
# 0.1 % of all in Multi30k and in Tatoeba's pairs.
_TOLERANCE = 0.02


def prepare(
    folder: Path,
    originals: Path | None = None,
    num_sentences: Mapping[str, int] = NUM_SENTENCES,
) -> None:
    """Write each split as two files, one sentence a line.

    Args:
        originals: the archive, or a folder of it or of its files; None: it is fetched.
        num_sentences: that there must be; of those kept 2 % more or less.
    Raises:
        DataError: if the archive cannot be had or is damaged, two sides do not match, or the
            number of sentences is another.
    """
    with unpacked(ARCHIVE, folder, originals, _ORIGINALS, "*de-en.*") as place:
        talks = _training_pairs(place)
        kept = [pair for pair in talks if is_clean(*pair)]
        test = [pair for talk in TALKS for pair in _test_pairs(place, talk)]
        _check_numbers(place, {"talks": talks, "kept": kept, "test": test}, num_sentences)
    pairs = {
        "train": [p for n, p in enumerate(kept, start=1) if n % _VALID_EVERY],
        "valid": kept[_VALID_EVERY - 1 :: _VALID_EVERY],
        "test": test,
    }
    for split, found in pairs.items():
        if not found:
            raise DataError(f"{ARCHIVE.name} must hold sentences for {split}, got none")
        write_pairs(found, folder / f"{split}.de", folder / f"{split}.en")


def read(folder: Path) -> dict[str, list[Pair]]:
    """Read the prepared pairs of each split.

    Raises:
        DataError: if a file is empty, not UTF-8, or has not as many lines as its other side.
    """
    return {split: read_pairs(folder / f"{split}.de", folder / f"{split}.en") for split in SPLITS}


def is_clean(german: str, english: str) -> bool:
    """Whether both have 1 to 175 tokens, and neither more than 1.5 times as many as the other."""
    counts = sorted(len(_TOKEN.findall(text)) for text in (german, english))
    return counts[0] >= 1 and counts[1] <= min(_MOST_TOKENS, _RATIO * counts[0])


def _check_numbers(
    place: Path, pairs: Mapping[str, list[Pair]], num_sentences: Mapping[str, int]
) -> None:
    """Check the numbers of sentences that are known of the official files."""
    found = {name: len(some) for name, some in pairs.items()}
    for name, files in (("talks", _TRAIN.format("*")), ("test", _TEST.format("*").format("*"))):
        if found[name] != num_sentences[name]:
            raise DataError(
                f"{files} in {place} must hold {num_sentences[name]} sentences, got {found[name]}"
            )
    expected = num_sentences["kept"]
    if abs(found["kept"] - expected) > _TOLERANCE * expected:
        raise DataError(
            f"of the sentences in {place} about {expected} must be within the limits of length, "
            f"got {found['kept']}"
        )


def _training_pairs(place: Path) -> list[Pair]:
    return _matched(place, _TRAIN, _talk_lines)


def _test_pairs(place: Path, talk: str) -> list[Pair]:
    return _matched(place, _TEST.format(talk), _segments)


def _matched(place: Path, name: str, reader: Callable[[Path], list[str]]) -> list[Pair]:
    paths = [find_file(place, name.format(language)) for language in ("de", "en")]
    german, english = (reader(path) for path in paths)
    if len(german) != len(english):
        raise DataError(
            f"{paths[0]} and {paths[1]} must have the same number of sentences, got "
            f"{len(german)} and {len(english)}"
        )
    return list(zip(german, english, strict=True))


def _talk_lines(path: Path) -> list[str]:
    """Sentences, titles and descriptions of the talks; the other headers are dropped."""
    return [
        " ".join(html.unescape(_MARKS.sub("", line)).split())
        for line in read_lines(path)
        if not any(header in line for header in _HEADERS)
    ]


def _segments(path: Path) -> list[str]:
    """Sentences of an XML file, one element `seg` a line."""
    sentences = []
    for number, line in enumerate(read_lines(path), start=1):
        if "<seg id" not in line:
            continue
        found = _SEGMENT.search(line)
        text = " ".join(html.unescape(found[1]).split()) if found else ""
        if not text:
            raise DataError(
                f'{path}, line {number}: must hold <seg id="n"> sentence </seg>, got '
                f"{line.strip()[:40]!r}"
            )
        sentences.append(text.replace("’", "'"))
    return sentences
