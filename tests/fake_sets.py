"""Small generated data sets in the true prepared layouts, for tests that need no real data.

Always the same bytes: what is drawn comes from generators whose streams no release changes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np

CHECKSUMS = "checksums.sha256"  # of all sets, as the committed list
IMAGES = {"train": 640, "test": 160}  # of MNIST and CIFAR
CLASSES = {"mnist": 10, "cifar10": 10, "cifar100_20k": 100}
WNIDS = {"train": 4, "val": 2}  # images of each of 50 classes
SENTENCES = {"train": 300, "val": 40, "test_2016_flickr": 30}
PAIRS = 400  # of Tatoeba, one in ten with the English side of the one before
CLICKS = 700  # rows of Criteo's log, one in four a click
RATERS, FILMS = 70, 400  # of MovieLens; each rates 30 films, about half of them with 4 or 5 stars
STRUCTURES = 90  # of QM9, and of each file of Carbon-24
WORDS = 9999  # of the Penn Treebank, with <unk>; the end of a line is the 10,000th symbol


def write_sets(folder: Path) -> Path:
    """Write every set that a task reads, and the list of their checksums; about a second."""
    from tasks.data.store import sha256

    write_penn_treebank(folder / "ptb")
    write_images(folder / "mnist", (28, 28), CLASSES["mnist"])
    for name in ("cifar10", "cifar100_20k"):
        write_images(folder / name, (32, 32, 3), CLASSES[name])
    write_image_folder(folder / "tiny_imagenet_50")
    write_faces(folder / "olivetti")
    write_captions(folder / "multi30k")
    write_pairs(folder / "tatoeba_de_en")
    write_molecules(folder / "qm9_3000")
    write_crystals(folder / "carbon24")
    write_clicks(folder / "criteo_10k")
    write_ratings(folder / "ml_latest_small")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / CHECKSUMS).write_text("".join(lines))
    return folder


@contextlib.contextmanager
def standing_in(folder: Path) -> Iterator[None]:
    """Let the sets of a folder stand for the real ones in this process, taken for verified."""
    import tasks.data.place

    ours = tasks.data.place.committed(folder / CHECKSUMS)
    with (
        mock.patch.object(tasks.data.place, "committed", lambda _: ours),
        mock.patch.dict(os.environ, {"KAPPA_DATA": str(folder)}),
    ):
        yield


def integers(seed: int, shape: tuple[int, ...], bound: int) -> np.ndarray:
    """Integers below a bound, int64, of which 256 is a multiple or that are far below 2^64."""
    raw = np.random.PCG64(seed).random_raw(int(np.prod(shape)))
    return (raw % np.uint64(bound)).astype(np.int64).reshape(shape)


def write_images(folder: Path, shape: tuple[int, ...], num_classes: int) -> None:
    """Images of noise with random labels; every class has one."""
    folder.mkdir(parents=True)
    for seed, (split, count) in enumerate(IMAGES.items()):
        images = integers(seed, (count, *shape), 256).astype(np.uint8)
        labels = integers(seed + 10, (count,), num_classes).astype(np.uint8)
        labels[:num_classes] = np.arange(num_classes)
        np.save(folder / f"{split}_images.npy", images)
        np.save(folder / f"{split}_labels.npy", labels)


def write_image_folder(folder: Path, num_classes: int = 50) -> None:
    """64x64 noise by class, stored as PNG under the set's names: no decoder rounds it."""
    from PIL import Image

    for number in range(num_classes):
        for split, count in WNIDS.items():
            place = folder / split / f"n{number:08d}"
            place.mkdir(parents=True)
            for i in range(count):
                pixels = integers(1000 * number + 10 * i + len(split), (64, 64, 3), 256)
                with (place / f"{split}_{number}_{i}.JPEG").open("wb") as stream:
                    Image.fromarray(pixels.astype(np.uint8)).save(stream, format="PNG")


def write_faces(folder: Path) -> None:
    """400 pictures of noise."""
    folder.mkdir(parents=True)
    np.save(folder / "images.npy", integers(7, (400, 64, 64), 256).astype(np.uint8))


def write_penn_treebank(folder: Path) -> None:
    """Random words and random characters; every word occurs in the training text."""
    folder.mkdir(parents=True)
    words = ["<unk>", *(f"w{i}" for i in range(WORDS - 1))]
    drawn = integers(3, (1500,), WORDS)
    numbers = {
        "train": [*range(WORDS), *drawn[:500]],
        "valid": drawn[500:1000],
        "test": drawn[1000:],
    }
    for split, chosen in numbers.items():
        text = [words[i] for i in chosen]
        lines = [" ".join(text[i : i + 20]) for i in range(0, len(text), 20)]
        (folder / f"ptb.{split}.txt").write_text("".join(f" {line} \n" for line in lines))
    write_characters(folder)


def write_characters(folder: Path) -> None:
    """Train, valid and test text of random symbols."""
    from tasks.data import ptb

    state = 1
    for split, length in {"train": 3001, "valid": 1203, "test": 95}.items():
        symbols = []
        for _ in range(length):
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
            symbols.append(ptb.SYMBOLS[(state >> 33) % 50])
        (folder / f"ptb.char.{split}.txt").write_text(" ".join(symbols))


def sentence(seed: int, language: str) -> str:
    """Four to eleven words of a language of 60; both languages say the same."""
    length = 4 + int(integers(seed, (1,), 8)[0])
    names = [f"{language}{number}" for number in integers(seed + 1, (length,), 60)]
    return f"{' '.join(names).capitalize()}."


def write_captions(folder: Path) -> None:
    """Parallel sentences, one a line."""
    folder.mkdir(parents=True)
    for number, (split, count) in enumerate(SENTENCES.items()):
        for language in ("de", "en"):
            lines = [sentence(10_000 * number + 2 * i, language) for i in range(count)]
            (folder / f"{split}.{language}").write_text("".join(f"{x}\n" for x in lines))


def fractions(seed: int, count: int) -> np.ndarray:
    """Places of atoms in a unit cube, two of which are a quarter or more apart, (count, 3)."""
    corners = np.argsort(integers(seed, (27,), 2**20), kind="stable")[:count]
    lattice = np.stack(np.unravel_index(corners, (3, 3, 3)), axis=1)
    return (lattice + integers(seed + 1, (count, 3), 250) / 1000) / 3


def write_molecules(folder: Path) -> None:
    """Three to nine atoms of any kind; their energy knows nothing of their places."""
    from tasks.data import qm9

    (folder / "qm9_xyz").mkdir(parents=True)
    free = dict(zip("HCNOF", qm9.REFERENCES.values(), strict=True))
    lines = [",mol_id,u0\n"]
    for number in range(STRUCTURES):
        seed = 20_000 + 10 * number
        count = 3 + int(integers(seed, (1,), 7)[0])
        symbols = ["HCNOF"[i] for i in integers(seed + 1, (count,), 5)]
        places = 5 * fractions(seed + 2, count)
        bound = -4 + int(integers(seed + 4, (1,), 1000)[0]) / 1000
        energy = sum(map(free.get, symbols)) + count * bound
        lines.append(f"{number},gdb_{number},{energy / qm9.EV_PER_HARTREE:.8f}\n")
        text = [str(count), 'Properties=species:S:1:pos:R:3 pbc="F F F"']
        text += [
            f"{symbol} {x:.8f} {y:.8f} {z:.8f}"
            for symbol, (x, y, z) in zip(symbols, places, strict=True)
        ]
        (folder / "qm9_xyz" / f"gdb_{number}.xyz").write_text("\n".join(text) + "\n")
    (folder / "qm9.csv").write_text("".join(lines))


def write_crystals(folder: Path) -> None:
    """Two to eight atoms of carbon in an oblique cell; their energy knows nothing of it."""
    folder.mkdir(parents=True)
    for part, name in enumerate(("val", "test")):
        lines = [",material_id,cif,energy_per_atom\n"]
        for number in range(STRUCTURES):
            seed = 30_000 + 10_000 * part + 10 * number
            count = 2 + int(integers(seed, (1,), 7)[0])
            sizes = [f"_cell_length_{axis} {4 + i / 10}" for i, axis in enumerate("abc")]
            sizes += [f"_cell_angle_{angle} 80" for angle in ("alpha", "beta", "gamma")]
            columns = ["type_symbol", "fract_x", "fract_y", "fract_z"]
            columns = [f"_atom_site_{column}" for column in columns]
            sites = [f"C {x:.6f} {y:.6f} {z:.6f}" for x, y, z in fractions(seed + 1, count)]
            text = "\n".join(["data_C", *sizes, "loop_", *columns, *sites, ""])
            energy = -154 + int(integers(seed + 3, (1,), 1000)[0]) / 1000
            lines.append(f'{number},C-{number},"{text}",{energy}\n')
        (folder / f"{name}.csv").write_text("".join(lines))


def write_pairs(folder: Path) -> None:
    """English, a tab, German; some English sides have two German ones."""
    folder.mkdir(parents=True)
    lines = []
    for i in range(PAIRS):
        english = sentence(2 * (i - 1 if i % 10 == 9 else i), "en")
        lines.append(f"{english}\t{sentence(2 * i, 'de')}\n")
    (folder / "deu.txt").write_text("".join(lines))


def write_clicks(folder: Path) -> None:
    """Random counts and categories, some of them missing; a few counts are negative."""
    folder.mkdir(parents=True)
    counts, categories = integers(8, (CLICKS, 13), 64) - 2, integers(9, (CLICKS, 26), 50)
    lines = []
    for row, names in zip(counts.tolist(), categories.tolist(), strict=True):
        # A click is likelier where the first count is large, so that there is something to learn.
        label = int(row[0] > 45)
        cells = [*(str(x) if x < 50 else "" for x in row)]
        cells += [f"{0x9E3779B1 * x % 2**32:08x}" if x else "" for x in names]
        lines.append("\t".join([str(label), *cells]) + "\n")
    (folder / "train.txt").write_text("".join(lines))


def write_ratings(folder: Path) -> None:
    """Random films with random stars, in halves."""
    folder.mkdir(parents=True)
    lines = ["userId,movieId,rating,timestamp\n"]
    for user in range(1, RATERS + 1):
        # A step without a common divisor with FILMS, so that no film comes twice.
        start, step = integers(user, (2,), FILMS)
        films = sorted(1 + int(start + i * (10 * (step // 10) + 3)) % FILMS for i in range(30))
        stars = (1 + integers(1000 + user, (30,), 10)) / 2
        rated = zip(films, stars, strict=True)
        lines += [f"{user},{film},{given},{1000 * user}\n" for film, given in rated]
    (folder / "ratings.csv").write_text("".join(lines))
