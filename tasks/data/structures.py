"""Molecules and crystals in memory, and their prepared layout as plain arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tasks.data.arrays import load_array
from tasks.data.store import DataError

# Of atomic numbers 1 to 99: those that SchNet's table of elements has rows for.
_TABLE = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se "
    "Br Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb "
    "Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm "
    "Bk Cf Es"
)
SYMBOLS = tuple(_TABLE.split())
_NUMBERS = {symbol: number for number, symbol in enumerate(SYMBOLS, start=1)}
FILES = ("numbers.npy", "positions.npy", "counts.npy", "energies.npy")
CELLS = "cells.npy"


@dataclass(frozen=True)
class Structure:
    """A molecule, or the atoms in a crystal's unit cell.

    Args:
        numbers: atomic numbers, (n,), uint8.
        positions: in angstrom, (n, 3), float64.
        energy: in eV: of the whole molecule, or per atom, as the set says.
        cell: the lattice's vectors in its rows, in angstrom, (3, 3); None for a molecule.
    """

    numbers: np.ndarray
    positions: np.ndarray
    energy: float
    cell: np.ndarray | None = None


def atomic_number(symbol: str, where: str) -> int:
    """Atomic number of an element.

    Args:
        where: file and line, for the message.
    Raises:
        DataError: if there is no such element up to Es.
    """
    if symbol not in _NUMBERS:
        raise DataError(f"{where}: must name an element, H to {SYMBOLS[-1]}, got {symbol[:20]!r}")
    return _NUMBERS[symbol]


def numbers_in(fields: Sequence[str], where: str) -> list[float]:
    """Finite numbers that stand in a file; Mathematica's *^ is read as e.

    Raises:
        DataError: if one is none.
    """
    try:
        values = [float(field.replace("*^", "e")) for field in fields]
    except ValueError:
        values = [float("nan")]
    if not np.isfinite(values).all():
        raise DataError(f"{where}: must hold numbers, got {' '.join(fields)[:60]!r}")
    return values


def molecule(symbols: Sequence[tuple[int, list[float]]], energy: float, where: str) -> Structure:
    """Make a molecule of atoms, (atomic number, position).

    Args:
        where: file and line of the number of atoms, for the message.
    Raises:
        DataError: if it has fewer than two atoms, which have no distance.
    """
    if len(symbols) < 2:
        raise DataError(f"{where}: must be a molecule of at least 2 atoms, got {len(symbols)}")
    numbers = np.array([number for number, _ in symbols], dtype=np.uint8)
    return Structure(numbers, np.array([position for _, position in symbols]), energy)


def save_structures(structures: Sequence[Structure], folder: Path) -> None:
    """Write structures as arrays: those of `FILES`, and `CELLS` where they are crystals."""
    numbers, positions, counts, energies = FILES
    np.save(folder / numbers, np.concatenate([s.numbers for s in structures]))
    np.save(folder / positions, np.concatenate([s.positions for s in structures]))
    np.save(folder / counts, np.array([len(s.numbers) for s in structures], dtype=np.int32))
    np.save(folder / energies, np.array([s.energy for s in structures], dtype=np.float64))
    if structures[0].cell is not None:
        np.save(folder / CELLS, np.stack([s.cell for s in structures]))


def load_structures(folder: Path, crystals: bool) -> list[Structure]:
    """Read what `save_structures` wrote.

    Raises:
        DataError: if a file is missing or damaged, or their lengths do not match.
    """
    kinds = ((np.uint8, ()), (np.float64, (3,)), (np.int32, ()), (np.float64, ()))
    numbers, positions, counts, energies = (
        load_array(folder / file, *kind) for file, kind in zip(FILES, kinds, strict=True)
    )
    cells = load_array(folder / CELLS, np.float64, (3, 3)) if crystals else [None] * len(counts)
    total = int(counts.sum())
    for what, found, wanted in (
        (FILES[0], len(numbers), total),
        (FILES[1], len(positions), total),
        (FILES[3], len(energies), len(counts)),
        (CELLS, len(cells), len(counts)),
    ):
        if found != wanted:
            raise DataError(f"{folder / what} must have {wanted} rows, got {found}")
    ends = np.cumsum(counts)[:-1]
    parts = zip(np.split(numbers, ends), np.split(positions, ends), energies, cells, strict=True)
    return [Structure(n, p, float(energy), cell) for n, p, energy, cell in parts]
