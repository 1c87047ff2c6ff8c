"""Neighbour lists: known lattices, and a sum over images that nobody can get wrong."""

import itertools

import numpy as np
import pytest

from tasks.data.neighbours import find_neighbours
from tests.tasks.toy_structures import crystal, molecule

FAR = 1e4


def by_hand(structure, cutoff, most):
    """{(atom, neighbour, distance)} of all images up to `most` cells away, sorted."""
    shifts = np.zeros((1, 3))
    if structure.cell is not None:
        shifts = np.array(list(itertools.product(range(-most, most + 1), repeat=3)))
        shifts = shifts @ structure.cell
    found = []
    for i, j in itertools.product(range(len(structure.numbers)), repeat=2):
        vectors = structure.positions[j] + shifts - structure.positions[i]
        distances = np.linalg.norm(vectors, axis=1)
        # Only an atom itself is nowhere else.
        found += [(i, j, d) for d in distances if d < cutoff and (i != j or d > 1e-9)]
    return sorted(found)


def listed(neighbours):
    found = []
    for i, count in enumerate(neighbours.counts):
        row = zip(neighbours.index[i, :count], neighbours.distances[i, :count], strict=True)
        found += [(i, j, distance) for j, distance in row]
    return sorted(found)


FLAT = ((6.0, 0.0, 0.0), (5.5, 1.8, 0.0), (0.4, -0.3, 2.0))  # planes much closer than its vectors


@pytest.mark.parametrize(
    "structure",
    [molecule(9), molecule(2), crystal(1), crystal(2), crystal(5), crystal(4, cell=FLAT)],
    ids=["9", "2", "crystal of 1", "of 2", "of 5", "flat cell"],
)
@pytest.mark.parametrize("cutoff", [2.0, 4.5])
def test_all_images_below_the_cutoff_are_listed_once(structure, cutoff):
    expected = by_hand(structure, cutoff, most=12)
    found = listed(find_neighbours(structure.positions, structure.cell, cutoff, FAR))
    assert [pair[:2] for pair in found] == [pair[:2] for pair in expected]
    distances = [pair[2] for pair in expected]
    assert [pair[2] for pair in found] == pytest.approx(distances, rel=1e-12)


def test_a_cubic_lattice_has_its_shells():
    found = find_neighbours(np.zeros((1, 3)), 2.0 * np.eye(3), 3.5, FAR)
    assert found.counts.tolist() == [6 + 12 + 8]
    shells, sizes = np.unique(found.distances.round(9), return_counts=True)
    assert shells.tolist() == pytest.approx([2, 2 * 2**0.5, 2 * 3**0.5])
    assert sizes.tolist() == [6, 12, 8]
    # A neighbour at the cutoff counts nothing.
    assert find_neighbours(np.zeros((1, 3)), 2.0 * np.eye(3), 2.0, FAR).counts.tolist() == [0]


def test_diamond_has_its_shells():
    cell = 3.567 / 2 * (np.ones((3, 3)) - np.eye(3))
    found = find_neighbours(np.array([[0, 0, 0], [0.25, 0.25, 0.25]]) @ cell * 1.0, cell, 2.6, FAR)
    assert found.counts.tolist() == [4 + 12, 4 + 12]
    assert np.sort(found.distances[0])[:5] == pytest.approx([1.5446] * 4 + [2.5223], abs=1e-4)


def test_rows_are_filled_up_with_what_is_far():
    positions = np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0], [9, 0, 0.0]])
    found = find_neighbours(positions, None, 1.5, FAR)
    assert found.index.tolist() == [[1, 0], [0, 2], [1, 2], [3, 3]]
    assert found.distances.tolist() == [[1, FAR], [1, 1], [1, FAR], [FAR, FAR]]
    assert found.counts.tolist() == [1, 2, 1, 0]
    assert found.offsets[0].tolist() == [[0, 0, 0], [FAR, 0, 0]]
    # Not even one neighbour anywhere: a row is one wide all the same.
    assert find_neighbours(positions[[0, 3]], None, 1.5, FAR).distances.tolist() == [[FAR], [FAR]]


def test_offsets_lead_to_the_images():
    structure = crystal(4, seed=3)
    found = find_neighbours(structure.positions, structure.cell, 4.0, FAR)
    cells = np.linalg.inv(structure.cell)
    for i, count in enumerate(found.counts):
        offsets = found.offsets[i, :count]
        whole = offsets @ cells
        assert np.abs(whole - whole.round()).max() < 1e-9
        vectors = structure.positions[found.index[i, :count]] + offsets - structure.positions[i]
        distances = np.linalg.norm(vectors, axis=1)
        assert distances.tolist() == pytest.approx(found.distances[i, :count].tolist(), rel=1e-9)
