"""Penn Treebank with Mikolov's preprocessing, as characters: source, layout and encoding."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tasks.data.download import download, extract
from tasks.data.store import DataError

# The archive of the recurrent language model toolkit; its MD5 is the one quoted everywhere.
URL = "http://www.fit.vutbr.cz/~imikolov/rnnlm/simple-examples.tgz"
MD5 = "30177ea32e27c525793142b6bf2c8e2d"
MEMBERS = "simple-examples/data/ptb*.txt"

SPLITS = ("train", "valid", "test")
CHAR_FILES = tuple(f"ptb.char.{split}.txt" for split in SPLITS)

# Index in this string = number of the symbol. The end of a line, which ends a sentence, is 0;
# "_" stands for the blank. All of them occur in train and valid.
SYMBOLS = "\n#$&'*-./0123456789<>N\\_abcdefghijklmnopqrstuvwxyz"
NEWLINE = 0
_UNKNOWN = 255


def prepare(folder: Path, url: str = URL, md5: str = MD5) -> None:
    """Fetch the official archive and write the prepared files, unchanged, into the folder.

    Raises:
        DataError: if the archive cannot be had or is not the official one.
    """
    archive = folder / Path(url).name
    download(url, archive, md5)
    extract(archive, folder, MEMBERS)
    archive.unlink()


def read_symbols(path: Path) -> np.ndarray:
    """Read a prepared character file: symbols separated by blanks, one sentence a line.

    Returns:
        Numbers of the symbols (indices in SYMBOLS), shape (n,), uint8.
    Raises:
        DataError: if the file holds a byte that is no symbol.
    """
    raw = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    table = np.full(256, _UNKNOWN, dtype=np.uint8)
    table[np.frombuffer(SYMBOLS.encode(), dtype=np.uint8)] = np.arange(len(SYMBOLS))
    symbols = table[raw[raw != ord(" ")]]
    if (symbols == _UNKNOWN).any():
        raise DataError(f"{path} must hold the 49 symbols, blanks and newlines only")
    return symbols
