"""Neighbour lists: who is how far from whom within a cutoff, in molecules and in crystals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree


@dataclass(frozen=True)
class Neighbours:
    """Neighbours of each of n atoms, up to K; an atom with fewer has `count` of them in front.

    Args:
        index: of the neighbour, (n, K), int64; the atom itself where there is none.
        distances: in angstrom, (n, K), float64; `far` where there is none.
        offsets: what the neighbour's image is displaced by from where the neighbour is, (n, K, 3);
            where there is none, by `far`.
        counts: neighbours of each atom, (n,).
    """

    index: np.ndarray
    distances: np.ndarray
    offsets: np.ndarray
    counts: np.ndarray


def find_neighbours(
    positions: np.ndarray, cell: np.ndarray | None, cutoff: float, far: float
) -> Neighbours:
    """List all neighbours below the cutoff, in a crystal all periodic images that are, too.

    An atom's own images are its neighbours; its neighbours come by index, then by image.

    Args:
        positions: in angstrom, (n, 3).
        cell: the lattice's vectors in its rows, (3, 3); None for a molecule.
        far: what stands for the distance where there is no neighbour; > cutoff.
    """
    home, images, owners, shifts = _images(positions, cell, cutoff)
    pairs = cKDTree(home).sparse_distance_matrix(cKDTree(images), cutoff, output_type="ndarray")
    atoms, seen, distances = pairs["i"], pairs["j"], pairs["v"]
    # Nobody is his own neighbour, and a neighbour at the cutoff counts nothing.
    is_self = (owners[seen] == atoms) & ~shifts[seen].any(1)
    kept = np.flatnonzero(~is_self & (distances < cutoff))
    kept = kept[np.lexsort((seen[kept], owners[seen[kept]], atoms[kept]))]
    atoms, seen, distances = atoms[kept], seen[kept], distances[kept]
    vectors = images[seen] - home[atoms]
    offsets = vectors - (positions[owners[seen]] - positions[atoms])
    return _padded(len(positions), atoms, owners[seen], distances, offsets, far)


def _images(
    positions: np.ndarray, cell: np.ndarray | None, cutoff: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Atoms, wrapped into the cell; all images that may be near one, their atoms and cells."""
    count = len(positions)
    if cell is None:
        return positions, positions, np.arange(count), np.zeros((count, 3), dtype=np.int64)
    fractional = positions @ np.linalg.inv(cell)
    home = (fractional - np.floor(fractional)) @ cell
    # Between two lattice planes lies 1 / |row of the reciprocal lattice|; atoms of one cell are
    # less than one plane apart.
    heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    most = np.floor(cutoff / heights).astype(int) + 1
    shifts = np.stack(
        np.meshgrid(*(np.arange(-m, m + 1) for m in most), indexing="ij"), axis=-1
    ).reshape(-1, 3)
    images = (home[:, None] + shifts @ cell).reshape(-1, 3)
    owners = np.repeat(np.arange(count), len(shifts))
    shifts = np.tile(shifts, (count, 1))
    near = (images > home.min(0) - cutoff).all(1) & (images < home.max(0) + cutoff).all(1)
    return home, images[near], owners[near], shifts[near]


def _padded(
    count: int,
    atoms: np.ndarray,
    index: np.ndarray,
    distances: np.ndarray,
    offsets: np.ndarray,
    far: float,
) -> Neighbours:
    """Rows of equal length from a list that is sorted by atoms."""
    counts = np.bincount(atoms, minlength=count)
    width = max(1, counts.max())
    column = np.arange(len(atoms)) - np.repeat(np.cumsum(counts) - counts, counts)
    padded = Neighbours(
        np.repeat(np.arange(count)[:, None], width, axis=1),
        np.full((count, width), far),
        np.tile([far, 0.0, 0.0], (count, width, 1)),
        counts,
    )
    padded.index[atoms, column] = index
    padded.distances[atoms, column] = distances
    padded.offsets[atoms, column] = offsets
    return padded
