"""Documents of the Materials Project: pymatgen's structures and their properties as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tasks.data.archives import gunzipped
from tasks.data.store import DataError
from tasks.data.structures import Structure, atomic_number

ENERGY = "formation_energy_per_atom"
_WHITE = " \t\r\n"


def read_materials(path: Path) -> Iterator[Structure]:
    """Yield the crystals of a file: a JSON array of documents, or one document a line.

    A document has `structure`, as pymatgen's `as_dict` writes it, and `formation_energy_per_atom`
    in eV; its other fields are not read.

    Args:
        path: packed by gzip or not.
    Raises:
        DataError: if it is no such file; names the line that the document begins at.
    """
    for number, document in documents(path):
        yield structure_of(document, f"{path}, line {number}")


def documents(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield the documents of a file, each with the line it begins at.

    Raises:
        DataError: if it cannot be read or is no JSON; names the line.
    """
    try:
        text = gunzipped(path).decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} must be UTF-8, got {error.reason}") from error
    decoder = json.JSONDecoder()
    marks = _WHITE + ("[]," if text.lstrip(_WHITE).startswith("[") else "")
    at, line = 0, 1
    while True:
        start = at
        while at < len(text) and text[at] in marks:
            at += 1
        line += text.count("\n", start, at)
        if at == len(text):
            return
        try:
            document, end = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{path}, line {error.lineno}: must be JSON, got {error.msg}"
            ) from error
        yield line, document
        line += text.count("\n", at, end)
        at = end


def structure_of(document: Any, where: str) -> Structure:
    """Make the crystal of a document.

    Raises:
        DataError: if it lacks something, or a site is disordered.
    """
    try:
        energy = float(document[ENERGY])
        cell = np.array(document["structure"]["lattice"]["matrix"], dtype=np.float64)
        sites = document["structure"]["sites"]
        species = [site["species"] for site in sites]
        fractions = np.array([site["abc"] for site in sites], dtype=np.float64)
        symbols = [[(kind["element"], float(kind["occu"])) for kind in kinds] for kinds in species]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        what = f"{type(error).__name__}: {error}"
        raise DataError(
            f"{where}: must be a document with {ENERGY} and a structure with its lattice's matrix "
            f"and its sites' species and abc, got {what[:60]}"
        ) from error
    if cell.shape != (3, 3) or fractions.shape != (len(sites), 3) or not sites:
        raise DataError(f"{where}: must have a matrix of 3 x 3 and three coordinates a site")
    if not (np.isfinite(fractions).all() and np.isfinite(energy) and _volume(cell) > 0):
        raise DataError(f"{where}: must have a cell with a volume and finite numbers")
    if any(len(kinds) != 1 or kinds[0][1] != 1 for kinds in symbols):
        raise DataError(f"{where}: must have one whole atom at each site")
    numbers = [atomic_number(str(kinds[0][0]), where) for kinds in symbols]
    return Structure(np.array(numbers, dtype=np.uint8), fractions @ cell, energy, cell)


def _volume(cell: np.ndarray) -> float:
    return abs(np.linalg.det(cell)) if np.isfinite(cell).all() else 0.0
