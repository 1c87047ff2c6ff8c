"""SchNet: its size, a case by hand, symmetries, forces, periodic images, padding."""

import math

import numpy as np
import pytest
import torch

from tasks.data.neighbours import find_neighbours
from tasks.data.structures import Structure
from tasks.models.schnet import FAR, SchNet, cosine_cutoff, pair_distances, shifted_softplus
from tests.tasks.toy_structures import (
    CUTOFF,
    crystal,
    energy,
    given,
    molecule,
    rotation,
    schnet,
)

# Sums of about a hundred terms of order 1 in float64, whose order differs.
SAME = {"rel": 1e-12, "abs": 1e-12}


def test_the_size_by_hand():
    model = SchNet(128, 6, 50, 10.0)
    interaction = (50 * 128 + 128) + (128 * 128 + 128) + 128 * 128 + 2 * (128 * 128 + 128)
    expected = 100 * 128 + 6 * interaction + (128 * 64 + 64) + (64 + 1)
    # What torch_geometric's SchNet has at these sizes, too.
    assert sum(p.numel() for p in model.parameters()) == expected == 455_809


def test_two_atoms_by_hand():
    """One interaction of two features and two Gaussians, all weights 0.1 to 0.5."""
    model = SchNet(2, 1, 2, 2.0).double()
    values = {
        "embedding.weight": 0.0,
        "interactions.0.filter_inner.weight": 0.1,
        "interactions.0.filter_inner.bias": 0.2,
        "interactions.0.filter_outer.weight": 0.3,
        "interactions.0.filter_outer.bias": 0.1,
        "interactions.0.features.weight": 0.4,
        "interactions.0.output.weight": 0.5,
        "interactions.0.output.bias": 0.3,
        "interactions.0.dense.weight": 0.2,
        "interactions.0.dense.bias": 0.1,
        "inner.weight": 0.3,
        "inner.bias": 0.2,
        "outer.weight": 0.5,
        "outer.bias": 0.4,
    }
    parameters = dict(model.named_parameters())
    assert sorted(parameters) == sorted(values)
    with torch.no_grad():
        for name, value in values.items():
            parameters[name].fill_(value)
        model.embedding.weight[1] = 1.0
        model.embedding.weight[8] = -0.5
    # H and O at a distance of 0.5: Gaussians at 0 and 2, of width 2; the cutoff is at 2.
    basis = math.exp(-(0.5**2) / 8) + math.exp(-(1.5**2) / 8)
    filters = 2 * 0.3 * ssp(0.1 * basis + 0.2) + 0.1
    weight = 0.5 * (1 + math.cos(math.pi / 4))
    shares = []
    for own, other in ((1.0, -0.5), (-0.5, 1.0)):
        summed = 2 * 0.4 * other * filters * weight
        x = own + 2 * 0.2 * ssp(2 * 0.5 * summed + 0.3) + 0.1
        shares.append(0.5 * ssp(2 * 0.3 * x + 0.2) + 0.4)
    numbers = torch.tensor([[1, 8]])
    inputs = (numbers, torch.tensor([[[1], [0]]]), torch.tensor([[[0.5], [0.5]]]).double())
    assert model.shares(*inputs)[0].tolist() == pytest.approx(shares, **SAME)
    assert model(*inputs).item() == pytest.approx(sum(shares), **SAME)
    model.mean = True
    assert model(*inputs).item() == pytest.approx(sum(shares) / 2, **SAME)


def ssp(x):
    return math.log(0.5 + 0.5 * math.exp(x))


def test_the_functions_at_their_ends():
    x = torch.tensor([-50.0, 0.0, 1.0, 50.0], dtype=torch.float64)
    expected = [ssp(value) for value in x.tolist()]
    assert shifted_softplus(x).tolist() == pytest.approx(expected, **SAME)
    assert shifted_softplus(torch.zeros(1)).item() == 0
    weights = cosine_cutoff(torch.tensor([0.0, 2.0, 4.0, 4.1, FAR]), 4.0).tolist()
    # Round-off of float32.
    assert weights == pytest.approx([1, 0.5, 0, 0, 0], abs=1e-7)
    assert weights[2:] == [0, 0, 0]


STRUCTURES = {"molecule": molecule(7), "crystal": crystal(4), "single": crystal(1)}


@pytest.mark.parametrize("kind", STRUCTURES)
def test_energies_do_not_change_with_the_point_of_view(kind):
    structure, model = STRUCTURES[kind], schnet()
    expected = energy(model, structure)
    assert abs(expected) > 1e-3
    q, shift = rotation(), np.array([1.7, -0.4, 11.3])
    order = np.random.default_rng(0).permutation(len(structure.numbers))
    cell = structure.cell
    for numbers, positions, vectors in (
        (structure.numbers, structure.positions @ q.T, None if cell is None else cell @ q.T),
        (structure.numbers, structure.positions + shift, cell),
        (structure.numbers[order], structure.positions[order], cell),
    ):
        moved = Structure(numbers, positions, 0.0, vectors)
        # Round-off of positions of order 10 in a model whose slopes are of order 1.
        assert energy(model, moved) == pytest.approx(expected, rel=1e-10, abs=1e-10)


def test_energies_do_change_with_what_counts():
    model, structure = schnet(), STRUCTURES["molecule"]
    expected = energy(model, structure)
    closer = Structure(structure.numbers, 0.98 * structure.positions, 0.0)
    other = Structure(structure.numbers[::-1].copy(), structure.positions, 0.0)
    for changed in (closer, other):
        assert abs(energy(model, changed) - expected) > 1e-4


@pytest.mark.parametrize("kind", STRUCTURES)
def test_forces_are_finite_differences(kind):
    structure, model = STRUCTURES[kind], schnet()
    found = find_neighbours(structure.positions, structure.cell, CUTOFF, FAR)
    numbers, neighbours, distances = given(structure)
    offsets = torch.as_tensor(found.offsets)[None]
    positions = torch.as_tensor(structure.positions)[None].requires_grad_()
    again = pair_distances(positions, neighbours, offsets)
    near = distances < FAR
    # Positions far from the cell, of order 10, against those wrapped into it.
    torch.testing.assert_close(again[near], distances[near], rtol=1e-12, atol=1e-12)
    assert (again[~near] >= CUTOFF).all()
    (gradient,) = torch.autograd.grad(model(numbers, neighbours, again).sum(), positions)
    step = 1e-5
    for atom in range(len(structure.numbers)):
        for axis in range(3):
            energies = []
            for sign in (1, -1):
                moved = structure.positions.copy()
                moved[atom, axis] += sign * step
                # With lists of their own: neighbours that come and go at the cutoff add nothing.
                energies.append(
                    energy(model, Structure(structure.numbers, moved, 0.0, structure.cell))
                )
            difference = (energies[0] - energies[1]) / (2 * step)
            # The differences' error: third derivatives times step^2, and 1e-16 / step of round-off;
            # at the cutoff the second derivative jumps.
            expected = gradient[0, atom, axis].item()
            assert difference == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_a_crystal_of_two_atoms_is_its_images():
    """An atom of the crystal has the share that it has deep inside a large piece of it."""
    structure, model = crystal(2, seed=5), schnet()
    # Two interactions carry what is within two cutoffs; half a cell more on each side.
    reach = 2 * CUTOFF + 5
    most = range(-9, 10)
    shifts = np.array([(i, j, k) for i in most for j in most for k in most]) @ structure.cell
    positions = (structure.positions + shifts[:, None]).reshape(-1, 3)
    numbers = np.tile(structure.numbers, len(shifts))
    centre = structure.positions.mean(0)
    near = np.linalg.norm(positions - centre, axis=1) < reach
    # The piece does not reach the ends of the shifts.
    assert np.abs(np.round((positions[near] - centre) @ np.linalg.inv(structure.cell))).max() < 9
    piece = Structure(numbers[near], positions[near], 0.0)
    distance = np.linalg.norm(piece.positions[:, None] - structure.positions, axis=2)
    own = distance.argmin(0)
    assert distance.min(0).max() < 1e-9
    shares = model.shares(*given(piece))[0]
    expected = model.shares(*given(structure))[0]
    # Sums of some hundred terms.
    torch.testing.assert_close(shares[own], expected, rtol=1e-10, atol=1e-10)
    assert len(piece.numbers) > 200


def test_an_energy_per_atom_does_not_depend_on_the_cell():
    structure, model = crystal(3, seed=2), schnet(mean=True)
    cell = structure.cell
    doubled = Structure(
        np.tile(structure.numbers, 2),
        np.concatenate([structure.positions, structure.positions + cell[1]]),
        0.0,
        np.array([cell[0], 2 * cell[1], cell[2] + cell[0]]),
    )
    assert energy(model, doubled) == pytest.approx(energy(model, structure), rel=1e-10)


def padded_batch(fill=(0, FAR)):
    """Three molecules of 7, 2 and 4 atoms; what stands for no neighbour is `fill`."""
    parts = [given(molecule(count, seed=count)) for count in (7, 2, 4)]
    numbers = torch.zeros(3, 7, dtype=torch.int64)
    neighbours = torch.full((3, 7, 6), fill[0])
    distances = torch.full((3, 7, 6), float(fill[1]), dtype=torch.float64)
    for row, (z, index, d) in enumerate(parts):
        n, k = index.shape[1:]
        numbers[row, :n], neighbours[row, :n, :k], distances[row, :n, :k] = z[0], index[0], d[0]
    return parts, (numbers, neighbours, distances)


def gradients(model, inputs):
    model.zero_grad()
    energies = model(*inputs)
    energies.square().sum().backward()
    return energies.detach(), [p.grad.clone() for p in model.parameters()]


def test_padding_adds_nothing():
    model = schnet()
    parts, batch = padded_batch()
    energies, together = gradients(model, batch)
    # Whatever stands in the padding, bit for bit.
    for fill in ((5, FAR), (3, 2 * FAR)):
        again = gradients(model, padded_batch(fill)[1])
        assert torch.equal(again[0], energies)
        assert all(torch.equal(a, b) for a, b in zip(again[1], together, strict=True))
    assert (model.shares(*batch)[batch[0] == 0] == 0).all()
    # The same as each alone, but for the order of sums.
    alone = [gradients(model, part) for part in parts]
    torch.testing.assert_close(torch.cat([e for e, _ in alone]), energies, rtol=1e-12, atol=1e-12)
    summed = [sum(terms) for terms in zip(*(g for _, g in alone), strict=True)]
    torch.testing.assert_close(summed, together, rtol=1e-11, atol=1e-11)
    assert (together[0][0] == 0).all()  # of the embedding's row of padding


def test_per_sample_gradients_are_those_of_the_structures_alone():
    from optimizers.capture.record import find_layers, record_calls

    model = schnet()
    parts, batch = padded_batch()
    layers = find_layers(model, list(model.parameters()))
    # The embedding, five linear layers an interaction, two of the read-out.
    assert len(layers) == 1 + 2 * 5 + 2
    with record_calls(layers, 3, 0, torch.ones(3, dtype=torch.float64)) as recording:
        gradients(model, batch)
    for layer in layers:
        chunks = recording.samples(layer, dtype=torch.float64)
        samples = torch.cat([chunk.gradients() for chunk in chunks])
        for row, part in enumerate(parts):
            gradients(model, part)
            expected = torch.cat([p.grad.reshape(len(p), -1) for p in layer.parameters], dim=1)
            torch.testing.assert_close(samples[row], expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((1, 2, 5, 4.0), "num_features must be >= 2, got 1"),
        ((4, 0, 5, 4.0), "num_interactions must be >= 1, got 0"),
        ((4, 2, 1, 4.0), "num_gaussians must be >= 2, got 1"),
        ((4, 2, 5, 0.0), "cutoff must be > 0 and < 5000, got 0"),
        ((4, 2, 5, FAR), "cutoff must be > 0 and < 5000, got 10000"),
    ],
)
def test_sizes_that_cannot_be_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        SchNet(*sizes)
