"""The Materials Project [Jain et al. 2013]: crystals and their formation energies.

Its interface asks for a key of each user, and its content grows, so that there is no file with a
checksum: the user brings what a query has given.
"""

from __future__ import annotations

from pathlib import Path

from tasks.data.formats.materials_json import ENERGY, read_materials
from tasks.data.store import DataError
from tasks.data.structures import CELLS, Structure, load_structures, save_structures
from tasks.data.structures import FILES as MOLECULE_FILES

BRING = (
    f"save the documents of a query, with structure and {ENERGY}, as a JSON array or as one "
    "document a line"
)
FILES = (*MOLECULE_FILES, CELLS)
PER_ATOM = True
CRYSTALS = True
REFERENCES: dict[int, float] = {}  # formation energies are relative to the elements already


def prepare(folder: Path, originals: Path | None = None) -> None:
    """Write the crystals as arrays (`save_structures`), in the files' order.

    Args:
        originals: a JSON file, packed by gzip or not, or a folder of some, which are read in the
            order of their names.
    Raises:
        DataError: if none is given, or a document is malformed; names its line.
    """
    if originals is None:
        raise DataError(f"the Materials Project cannot be fetched: {BRING}")
    files = [originals] if originals.is_file() else sorted(_found(originals))
    structures = [structure for file in files for structure in read_materials(file)]
    if not structures:
        raise DataError(f"{originals} must hold crystals in .json, .jsonl or .json.gz, got none")
    save_structures(structures, folder)


def read(folder: Path) -> list[Structure]:
    """Read the prepared crystals; energies are those of formation, in eV per atom.

    Raises:
        DataError: if a file is missing or damaged.
    """
    return load_structures(folder, crystals=True)


def _found(folder: Path) -> list[Path]:
    return [path for ending in ("json", "jsonl", "json.gz") for path in folder.glob(f"*.{ending}")]
