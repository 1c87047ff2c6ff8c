"""Energies from positions: standardisation, splits, batches, loss, facts, what a sample is."""

import numpy as np
import pytest
import torch

import tasks.atomistic
from tasks.atomistic import AtomisticEnergy
from tasks.base import Target
from tasks.data import carbon24, qm9, qm9_3000
from tasks.data.graphs import Graph, Standard, stacked
from tasks.data.structures import Structure
from tasks.models.schnet import FAR, SchNet
from tests.tasks.toy_structures import crystal, given, molecule

SIZES = {"num_features": 6, "num_interactions": 2, "num_gaussians": 5}


def model_of(cutoff, mean):
    return SchNet(**SIZES, cutoff=cutoff, mean=mean)


def make(**changes):
    options = {
        "seed": 0,
        "data": "qm9_3000",
        "data_dir": "unused",
        "target": Target("loss", "valid", "min", 0.1),
        "max_steps": 3,
        "batch_size": 4,
        "evaluate_at": 1,
        "eval_splits": ["valid"],
        "model": model_of,
        "cutoff": 4.0,
        "num_train": 10,
        "num_valid": 5,
        "eval_batch_size": 2,
    }
    return AtomisticEnergy(**{**options, **changes})


def energetic(structures, free):
    """The same with energies: of free atoms, of binding and of what cannot be told."""
    generator = np.random.default_rng(0)
    found = []
    for s in structures:
        noise = generator.normal()
        energy = sum(free.get(int(z), 0.0) - 3.0 for z in s.numbers) + noise if free else noise
        found.append(Structure(s.numbers, s.positions, energy, s.cell))
    return found


MOLECULES = energetic([molecule(2 + i % 6, seed=i) for i in range(19)], qm9.REFERENCES)
CRYSTALS = energetic([crystal(1 + i % 5, seed=i) for i in range(19)], {})


@pytest.fixture(autouse=True)
def sets(monkeypatch, tmp_path):
    monkeypatch.setattr(qm9_3000, "read", lambda folder: MOLECULES)
    monkeypatch.setattr(carbon24, "read", lambda folder: CRYSTALS)
    monkeypatch.setattr(tasks.atomistic, "require", lambda name, data_dir, files: tmp_path)


def ready(**changes):
    task = make(**changes)
    task.setup("cpu", torch.float64)
    return task, task.build_model().double()


# ---------------------------------------------------------------- energies


def test_molecules_are_standardised_per_atom():
    h, o = qm9.REFERENCES[1], qm9.REFERENCES[8]
    train = [
        Structure(np.array([1, 1], dtype=np.uint8), np.zeros((2, 3)), 2 * h - 4.0),
        Structure(np.array([8, 1, 1], dtype=np.uint8), np.zeros((3, 3)), o + 2 * h - 9.0),
    ]
    standard = Standard.of(train, qm9.REFERENCES, per_atom=False)
    # Relative to free atoms -2 and -3 per atom.
    assert (standard.mean, standard.deviation) == pytest.approx((-2.5, 0.5))
    assert standard.relative(train).tolist() == pytest.approx([-4.0, -9.0])
    assert [standard.residual(s) for s in train] == pytest.approx([1.0, -1.5])


def test_crystals_are_standardised_as_they_are():
    train = [
        Structure(np.full(n, 6, dtype=np.uint8), np.zeros((n, 3)), energy, np.eye(3))
        for n, energy in ((2, -1.0), (5, -2.0))
    ]
    standard = Standard.of(train, {}, per_atom=True)
    assert (standard.mean, standard.deviation) == pytest.approx((-1.5, 0.5))
    assert [standard.residual(s) for s in train] == pytest.approx([0.5, -0.5])
    same = Standard.of(train[:1], {}, per_atom=True)
    assert (same.mean, same.deviation) == (-1.0, 1.0)


@pytest.mark.parametrize("data", ["qm9_3000", "carbon24"])
def test_the_loss_is_the_mean_squared_error_in_ev(data):
    task, model = ready(data=data, batch_size=100)
    structures = MOLECULES if data == "qm9_3000" else CRYSTALS
    (batch,) = task.batches(0)
    chosen = torch.randperm(10, generator=tasks.atomistic.seeded(0, 0)).tolist()
    train = [structures[i] for i in task._split(structures)["train"]]
    errors = []
    with torch.no_grad():
        for structure in (train[i] for i in chosen):
            shares = model.shares(*given(structure)).numpy()[0]
            shares = task.standard.mean + task.standard.deviation * shares
            free = [qm9.REFERENCES.get(int(z), 0) for z in structure.numbers]
            predicted = shares.mean() if data == "carbon24" else (shares + free).sum()
            errors.append(predicted - structure.energy)
    # Energies of order 1e3 eV.
    assert task.loss(model, batch).item() == pytest.approx(np.square(errors).mean(), rel=1e-9)


# ---------------------------------------------------------------- splits and batches


def test_the_splits_are_the_same_for_all_seeds():
    splits = make(seed=0)._split(MOLECULES)
    assert splits == make(seed=1)._split(MOLECULES)
    assert [len(indices) for indices in splits.values()] == [10, 5, 4]
    assert sorted(i for indices in splits.values() for i in indices) == list(range(19))


def test_a_split_that_leaves_nothing_is_refused():
    task = make(num_train=14, num_valid=5)
    message = r"num_train \+ num_valid must be < 19, the structures of qm9_3000, got 14 \+ 5"
    with pytest.raises(ValueError, match=message):
        task.setup("cpu", torch.float32)


def test_an_epoch_has_every_structure_once():
    task, _ = ready()
    assert task.steps_per_epoch == 3
    batches = list(task.batches(0))
    assert [batch.num_samples for batch in batches] == [4, 4, 2]
    residuals = torch.cat([batch.targets for batch in batches])
    other = torch.cat([batch.targets for batch in task.batches(1)])
    assert not torch.equal(residuals, other)
    assert torch.equal(residuals.sort().values, other.sort().values)
    assert len(residuals.unique()) == 10


def test_batches_are_padded_to_their_largest():
    standard = Standard(np.zeros(100), per_atom=False)
    small, large = (Graph.of(molecule(n, seed=n), 9.0, standard, torch.float32) for n in (2, 5))
    numbers, neighbours, distances, residuals = stacked([small, large], torch.float32)
    assert numbers.shape == (2, 5) and neighbours.shape == distances.shape == (2, 5, 4)
    assert (numbers[0, 2:] == 0).all() and (numbers[1] > 0).all()
    assert (distances[0, 2:] == FAR).all() and (distances[0, :2, 1:] == FAR).all()
    assert torch.equal(distances[1], large.distances)
    assert torch.equal(neighbours[1], large.neighbours.long())
    assert residuals.tolist() == [2.0, 5.0]
    assert stacked([small], torch.float32)[1].shape == (1, 2, 1)


def test_lists_are_made_once(monkeypatch):
    task, model = ready()
    monkeypatch.setattr(tasks.data.graphs, "find_neighbours", None)
    for epoch in range(2):
        for batch in task.batches(epoch):
            task.backward(model, batch)
    task.evaluate(model, "valid")


# ---------------------------------------------------------------- evaluation


@pytest.mark.parametrize("data", ["qm9_3000", "carbon24"])
def test_metrics_do_not_depend_on_the_batches(data):
    task, model = ready(data=data, eval_splits=["train", "valid", "test"])
    other, _ = ready(data=data, eval_splits=["train", "valid", "test"], eval_batch_size=100)
    for split in task.splits:
        found = task.evaluate(model, split)
        assert found == pytest.approx(other.evaluate(model, split), rel=1e-12)
        assert 0 < found["mae"] ** 2 <= found["loss"]
    (batch,) = ready(data=data, batch_size=100)[0].batches(0)
    assert task.evaluate(model, "train")["loss"] == pytest.approx(
        task.loss(model, batch).item(), rel=1e-12
    )


def test_a_number_of_structures_is_evaluated():
    task, model = ready(num_eval=1)
    errors = task.evaluate(model, "valid")
    assert errors["loss"] == pytest.approx(errors["mae"] ** 2, rel=1e-12)


@pytest.mark.parametrize("metric", ["loss", "mae"])
def test_facts_by_hand(metric):
    task, _ = ready(target=Target(metric, "valid", "min", 0.1))
    splits = task._split(MOLECULES)
    train, valid = ([MOLECULES[i] for i in splits[name]] for name in ("train", "valid"))
    relative = {
        name: np.array([s.energy - sum(qm9.REFERENCES[int(z)] for z in s.numbers) for s in part])
        for name, part in (("train", train), ("valid", valid))
    }
    errors = relative["valid"] - relative["train"].mean()
    expected = np.square(errors).mean() if metric == "loss" else np.abs(errors).mean()
    facts = task.facts()
    assert facts["trivial"] == pytest.approx(expected, rel=1e-9)
    # Each atom of any kind adds -3: the composition tells all but the noise.
    assert facts["composition"] < 0.5 * facts["trivial"]


def test_the_composition_says_nothing_of_one_element():
    structures = [Structure(np.full(3, 6), s.positions, s.energy, s.cell) for s in CRYSTALS]
    task, _ = ready(data="carbon24")
    task._structures = {"train": structures[:10], "valid": structures[10:]}
    facts = task.facts()
    assert facts["composition"] == pytest.approx(facts["trivial"], rel=1e-9)


# ---------------------------------------------------------------- samples


def test_a_sample_is_a_structure():
    task, model = ready()
    batch = next(task.batches(0))
    with task.curvature_pass(batch) as info:
        errors = task._errors(model, batch.inputs, batch.targets)
    assert (info.num_samples, info.batch_dim) == (4, 0)
    loss = (info.weights * errors.square()).sum()
    torch.testing.assert_close(loss, task.loss(model, batch))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_train": 0}, "num_train must be >= 1, got 0"),
        ({"num_eval": 0}, "num_eval must be >= 1, got 0"),
        ({"cutoff": 0}, "cutoff must be > 0, got 0"),
        ({"model": None}, "model must have a _target_ that makes it, got None"),
        ({"data": "mnist"}, "data must be one of qm9, qm9_3000, matproj, carbon24, got mnist"),
    ],
)
def test_bad_options_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)
