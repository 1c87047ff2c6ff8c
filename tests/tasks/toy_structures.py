"""Molecules and crystals of random atoms, as SchNet takes them, in float64."""

import functools

import numpy as np
import torch

from tasks.data.neighbours import find_neighbours
from tasks.data.structures import Structure
from tasks.models.schnet import FAR, SchNet

CUTOFF = 4.0


def schnet(seed=0, **changes):
    """A small SchNet in float64, its biases away from 0."""
    options = {"num_features": 6, "num_interactions": 2, "num_gaussians": 5, "cutoff": CUTOFF}
    torch.manual_seed(seed)
    model = SchNet(**{**options, **changes}).double()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.normal_(std=0.3)
    return model


def places(count, seed, side=4.0):
    """Atoms in a cube, none of them close to another."""
    generator = np.random.default_rng(seed)
    found = []
    while len(found) < count:
        place = generator.uniform(0, side, 3)
        if all(np.linalg.norm(place - other) > 0.9 for other in found):
            found.append(place)
    return np.array(found)


def molecule(count, seed=0):
    numbers = np.random.default_rng(seed).choice([1, 6, 7, 8, 9], count).astype(np.uint8)
    return Structure(numbers, places(count, seed), float(seed))


def crystal(count, seed=0, cell=((3.1, 0.2, 0.0), (0.9, 3.4, 0.3), (-0.7, 0.4, 4.2))):
    """Atoms in an oblique cell, some of them written in other cells than the first."""
    generator = np.random.default_rng(seed)
    cell = np.array(cell)
    corners = generator.permutation(8)[:count]
    fractions = np.stack(np.unravel_index(corners, (2, 2, 2)), axis=1) / 2
    fractions = fractions + generator.uniform(0, 0.2, (count, 3)) + generator.integers(-2, 3, 3)
    numbers = generator.choice([6, 14, 31], count).astype(np.uint8)
    return Structure(numbers, fractions @ cell, float(seed), cell)


def given(structure, cutoff=CUTOFF, width=None):
    """What the model takes of one structure: numbers, neighbours, distances; a batch of one.

    Args:
        width: neighbours of an atom that there is room for.
    """
    found = find_neighbours(structure.positions, structure.cell, cutoff, FAR)
    more = (width or found.index.shape[1]) - found.index.shape[1]
    numbers = torch.as_tensor(structure.numbers).long()
    index = np.pad(found.index, ((0, 0), (0, more)))
    distances = np.pad(found.distances, ((0, 0), (0, more)), constant_values=FAR)
    return numbers[None], torch.as_tensor(index)[None], torch.as_tensor(distances)[None]


def energy(model, structure, **options):
    with torch.no_grad():
        return model(*given(structure, **options)).item()


@functools.cache
def rotation(seed=3):
    """A random rotation, (3, 3)."""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q))
