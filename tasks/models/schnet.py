"""SchNet, as SchNetPack 0.3 defines it, on dense tensors padded to a batch's largest structure.

Written out here, as torch_geometric joins the atoms of all structures to one list: its layers have
no batch dimension, which methods that need each sample's own gradient ask for.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.checks import check_flag, check_number, check_sizes

NUM_ELEMENTS = 100  # rows of the embedding, as in SchNetPack: 0 is padding, 99 the last element
# Of a neighbour that only fills up a row: so far that no Gaussian of any cutoff reaches it.
FAR = 1e4

_LOG_2 = math.log(2)


class SchNet(nn.Module):
    """Tell a structure's energy from its elements and the distances of neighbours.

    With d_ij the distance of atom i and neighbour j, the basis e(d) of `Gaussians` and a cutoff
    C(d) that goes to 0 smoothly, each interaction is

        v_i = sum_j (W x_j) * filter(e(d_ij)) C(d_ij),   x_i <- x_i + dense(ssp(out(v_i)))

    with filter = Linear, ssp, Linear and ssp(x) = log(1/2 + e^x/2), the shifted softplus. A network
    of two layers then reads each atom's share off x_i [Schuett et al. 2017, 2018].

    As in SchNetPack linear layers start from Xavier's uniform distribution with zero biases, the
    table of elements from N(0, 1) with zeros for padding.

    Padding adds exactly nothing, neither to energies nor to gradients: a neighbour beyond the
    cutoff has the factor C = 0, and the shares of atoms 0 are left out.

    Args:
        num_features: width of the atoms' features and of the filters; >= 2.
        num_interactions: interactions, each with weights of its own.
        num_gaussians: of the basis; >= 2, the first at 0, the last at the cutoff.
        cutoff: distance in angstrom beyond which atoms do not see each other.
        mean: energy is the mean of the atoms' shares; else their sum.
    Raises:
        ValueError: on sizes below the least ones, or a cutoff that is not positive.
    """

    def __init__(
        self,
        num_features: int,
        num_interactions: int,
        num_gaussians: int,
        cutoff: float,
        mean: bool = False,
    ) -> None:
        super().__init__()
        check_sizes({"num_features": num_features, "num_interactions": num_interactions})
        check_sizes({"num_gaussians": num_gaussians})
        for name, value in {"num_features": num_features, "num_gaussians": num_gaussians}.items():
            if value < 2:
                raise ValueError(f"{name} must be >= 2, got {value}")
        check_number("cutoff", cutoff, above=0, below=FAR / 2)
        check_flag("mean", mean)
        self.cutoff = cutoff
        self.mean = mean
        self.embedding = nn.Embedding(NUM_ELEMENTS, num_features, padding_idx=0)
        self.gaussians = Gaussians(num_gaussians, cutoff)
        self.interactions = nn.ModuleList(
            _Interaction(num_features, num_gaussians) for _ in range(num_interactions)
        )
        self.inner = _linear(num_features, num_features // 2)
        self.outer = _linear(num_features // 2, 1)

    def forward(self, numbers: Tensor, neighbours: Tensor, distances: Tensor) -> Tensor:
        """Energies, (batch,): sums or means of the atoms' shares, which see `shares`."""
        shares = self.shares(numbers, neighbours, distances)
        energies = shares.sum(1)
        return energies / (numbers != 0).sum(1) if self.mean else energies

    def shares(self, numbers: Tensor, neighbours: Tensor, distances: Tensor) -> Tensor:
        """Shares (batch, N) of structures of up to N atoms with up to K neighbours each.

        Args:
            numbers: atomic numbers, (batch, N), int64; 0 for no atom, whose share is 0.
            neighbours: each atom's neighbours by their index below N, (batch, N, K), int64; any
                index where there is none.
            distances: to them, in angstrom, (batch, N, K); FAR where there is none.
        """
        x = self.embedding(numbers)
        basis = self.gaussians(distances)
        weights = cosine_cutoff(distances, self.cutoff)
        # Rows of all structures' atoms, one after another.
        first = torch.arange(len(numbers), device=numbers.device) * numbers.shape[1]
        rows = (neighbours + first[:, None, None]).flatten()
        for interaction in self.interactions:
            x = x + interaction(x, basis, weights, rows)
        shares = self.outer(shifted_softplus(self.inner(x))).squeeze(-1)
        return shares * (numbers != 0)


class Gaussians(nn.Module):
    """exp(-(d - mu_k)^2 / (2 w^2)), mu_k from 0 to the cutoff in steps of w: (...) -> (..., k)."""

    def __init__(self, num_gaussians: int, cutoff: float) -> None:
        super().__init__()
        self.width = cutoff / (num_gaussians - 1)
        centres = torch.linspace(0, cutoff, num_gaussians)
        self.register_buffer("centres", centres, persistent=False)

    def forward(self, distances: Tensor) -> Tensor:
        return torch.exp(-0.5 * ((distances[..., None] - self.centres) / self.width) ** 2)


class _Interaction(nn.Module):
    def __init__(self, num_features: int, num_gaussians: int) -> None:
        super().__init__()
        self.filter_inner = _linear(num_gaussians, num_features)
        self.filter_outer = _linear(num_features, num_features)
        self.features = _linear(num_features, num_features, bias=False)
        self.output = _linear(num_features, num_features)
        self.dense = _linear(num_features, num_features)

    def forward(self, x: Tensor, basis: Tensor, weights: Tensor, rows: Tensor) -> Tensor:
        """What is added to x (batch, N, F), from basis (batch, N, K, G), weights (batch, N, K)."""
        filters = self.filter_outer(shifted_softplus(self.filter_inner(basis)))
        seen = self.features(x).flatten(0, 1)[rows].view_as(filters)
        # One product multiplies by the cutoff and sums over the neighbours.
        summed = (weights.to(filters.dtype)[..., None, :] @ (seen * filters)).squeeze(-2)
        return self.dense(shifted_softplus(self.output(summed)))


def shifted_softplus(x: Tensor) -> Tensor:
    """log(1/2 + e^x/2), which is 0 at 0."""
    return F.softplus(x).sub_(_LOG_2)  # in place: the gradient needs x alone


def cosine_cutoff(distances: Tensor, cutoff: float) -> Tensor:
    """(1 + cos(pi d / cutoff)) / 2 below the cutoff, 0 from there on."""
    return 0.5 * (torch.cos(distances * (math.pi / cutoff)) + 1) * (distances < cutoff)


def pair_distances(positions: Tensor, neighbours: Tensor, offsets: Tensor) -> Tensor:
    """Distances that can be differentiated by the positions, for forces, (batch, N, K).

    Args:
        positions: in angstrom, (batch, N, 3).
        neighbours: (batch, N, K), int64.
        offsets: what a neighbour's image is displaced by, (batch, N, K, 3). Where there is no
            neighbour: the atom itself, displaced by FAR.
    """
    batch = torch.arange(len(positions), device=positions.device)[:, None, None]
    vectors = positions[batch, neighbours] + offsets - positions[:, :, None]
    return torch.linalg.vector_norm(vectors, dim=-1)


def _linear(num_inputs: int, num_outputs: int, bias: bool = True) -> nn.Linear:
    layer = nn.Linear(num_inputs, num_outputs, bias=bias)
    nn.init.xavier_uniform_(layer.weight)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer
