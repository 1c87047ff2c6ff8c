"""Structures as SchNet takes them: neighbour lists, and energies standardised by a split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tasks.data.neighbours import find_neighbours
from tasks.data.structures import Structure
from tasks.models.schnet import FAR


@dataclass(frozen=True)
class Standard:
    """What a prediction is made of besides the model's shares.

    Args:
        references: energy in eV of each element's free atom, (100,).
        per_atom: energies are per atom, not of the whole structure.
        mean, deviation: of training energies relative to these, in eV per atom.
    """

    references: np.ndarray
    per_atom: bool
    mean: float = 0.0
    deviation: float = 1.0

    @classmethod
    def of(
        cls, train: Sequence[Structure], references: Mapping[int, float], per_atom: bool
    ) -> Standard:
        """Take mean and deviation from a training split; a deviation of 0 counts as 1."""
        table = np.zeros(100)
        table[list(references)] = list(references.values())
        relative = cls(table, per_atom).relative(train)
        if not per_atom:
            relative = relative / [len(structure.numbers) for structure in train]
        return cls(table, per_atom, float(relative.mean()), float(relative.std()) or 1.0)

    def relative(self, structures: Sequence[Structure]) -> np.ndarray:
        """Energies relative to free atoms, in eV, (n,)."""
        return np.array([s.energy - self._sum(self.references[s.numbers]) for s in structures])

    def residual(self, structure: Structure) -> float:
        """Energy that the mean leaves over: what deviation times the model's energy is to be."""
        means = np.full(len(structure.numbers), self.mean)
        return structure.energy - self._sum(self.references[structure.numbers] + means)

    def _sum(self, shares: np.ndarray) -> float:
        return float(shares.mean() if self.per_atom else shares.sum())


@dataclass(frozen=True)
class Graph:
    """A structure of n atoms with up to K neighbours each.

    Args:
        numbers: atomic numbers, (n,), uint8.
        neighbours: (n, K), int16.
        distances: in angstrom, (n, K); FAR where there is no neighbour.
        residual: see `Standard`.
    """

    numbers: Tensor
    neighbours: Tensor
    distances: Tensor
    residual: float

    @classmethod
    def of(
        cls, structure: Structure, cutoff: float, standard: Standard, dtype: torch.dtype
    ) -> Graph:
        """List the neighbours of a structure; distances in `dtype`."""
        found = find_neighbours(structure.positions, structure.cell, cutoff, FAR)
        return cls(
            torch.as_tensor(structure.numbers),
            torch.as_tensor(found.index.astype(np.int16)),
            torch.as_tensor(found.distances).to(dtype),
            standard.residual(structure),
        )


def stacked(graphs: Sequence[Graph], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pad graphs to the most atoms and the most neighbours among them.

    Returns:
        Atomic numbers (batch, N), int64, 0 for no atom; neighbours (batch, N, K), int64; distances
        (batch, N, K), FAR where there is none; residuals (batch,).
    """
    shapes = [graph.neighbours.shape for graph in graphs]
    size = len(graphs), max(n for n, _ in shapes), max(k for _, k in shapes)
    numbers = torch.zeros(size[:2], dtype=torch.int64)
    neighbours = torch.zeros(size, dtype=torch.int64)
    distances = torch.full(size, FAR, dtype=dtype)
    for row, (graph, (n, k)) in enumerate(zip(graphs, shapes, strict=True)):
        numbers[row, :n] = graph.numbers
        neighbours[row, :n, :k] = graph.neighbours
        distances[row, :n, :k] = graph.distances
    residuals = torch.tensor([graph.residual for graph in graphs], dtype=torch.float64)
    return numbers, neighbours, distances, residuals.to(dtype)
