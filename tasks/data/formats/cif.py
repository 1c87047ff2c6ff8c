"""CIF texts of crystals without symmetries but the translations, as pymatgen writes them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tasks.data.store import DataError
from tasks.data.structures import Structure, atomic_number, numbers_in

_LENGTHS = ("_cell_length_a", "_cell_length_b", "_cell_length_c")
_ANGLES = ("_cell_angle_alpha", "_cell_angle_beta", "_cell_angle_gamma")
_SITE = "_atom_site_"
_FRACTIONS = tuple(f"{_SITE}fract_{axis}" for axis in "xyz")


def parse_cif(lines: Sequence[str], energy: float, path: object, first: int) -> Structure:
    """Read a crystal: its cell, and the elements and fractional coordinates of its sites.

    Args:
        energy: of the crystal, which stands elsewhere.
        path, first: file that the text is from and the line it begins at, for messages.
    Raises:
        DataError: if something is missing or is no number; names the line.
    """
    cell: dict[str, float] = {}
    columns: list[str] = []
    atoms: list[tuple[int, list[float]]] = []
    in_symmetries = False
    for number, line in enumerate(lines, start=first):
        where = f"{path}, line {number}"
        fields = line.split()
        if not fields or fields[0].startswith(("#", "data_")):
            continue
        if fields[0] == "loop_":
            columns, in_symmetries = [], False
        elif fields[0].startswith("_"):
            if fields[0] in (*_LENGTHS, *_ANGLES):
                (cell[fields[0]],) = numbers_in(fields[1:2] or [""], where)
            in_symmetries = in_symmetries or fields[0].endswith("_as_xyz")
            columns.append(fields[0])
        elif in_symmetries:
            if "".join(fields[1:]).strip("'\"").replace(",", "") != "xyz":
                raise DataError(f"{where}: must have no symmetry but x, y, z, got {line[:40]!r}")
        elif columns and columns[-1].startswith(_SITE):
            atoms.append(_site(columns, fields, where))
    where = f"{path}, line {first}"
    missing = [name for name in (*_LENGTHS, *_ANGLES) if name not in cell]
    if missing:
        raise DataError(f"{where}: must be a CIF with {missing[0]}, which it does not have")
    if not atoms:
        raise DataError(f"{where}: must be a CIF with sites, got none")
    vectors = lattice([cell[name] for name in _LENGTHS], [cell[name] for name in _ANGLES], where)
    numbers = np.array([number for number, _ in atoms], dtype=np.uint8)
    return Structure(numbers, np.array([f for _, f in atoms]) @ vectors, energy, vectors)


def _site(columns: list[str], fields: list[str], where: str) -> tuple[int, list[float]]:
    site = dict(zip(columns, fields, strict=False))
    if len(fields) != len(columns) or not {f"{_SITE}type_symbol", *_FRACTIONS} <= set(site):
        raise DataError(
            f"{where}: must have a site's element and coordinates, {len(columns)} columns, got "
            f"{' '.join(fields)[:40]!r}"
        )
    if numbers_in([site.get(f"{_SITE}occupancy", "1")], where) != [1.0]:
        raise DataError(f"{where}: must be a site of occupancy 1, got {' '.join(fields)[:40]!r}")
    position = numbers_in([site[name] for name in _FRACTIONS], where)
    return atomic_number(site[f"{_SITE}type_symbol"], where), position


def lattice(lengths: Sequence[float], angles: Sequence[float], where: str) -> np.ndarray:
    """Vectors a along x, b in the plane of x and y, and c, in rows.

    Args:
        lengths: |a|, |b|, |c| in angstrom.
        angles: between b and c, a and c, a and b, in degrees.
        where: file and line, for the message.
    Raises:
        DataError: if there is no such cell, or it has no volume.
    """
    cos_alpha, cos_beta, cos_gamma = (math.cos(math.radians(angle)) for angle in angles)
    sin_gamma = math.sqrt(1 - cos_gamma**2)
    a, b, c = lengths
    y = (cos_alpha - cos_beta * cos_gamma) / sin_gamma if sin_gamma > 0 else 1.0
    height = 1 - cos_beta**2 - y**2
    if min(lengths) <= 0 or height <= 0:
        raise DataError(f"{where}: must be a cell with a volume, got {[*lengths, *angles]}")
    return np.array(
        [
            [a, 0, 0],
            [b * cos_gamma, b * sin_gamma, 0],
            [c * cos_beta, c * y, c * math.sqrt(height)],
        ]
    )
