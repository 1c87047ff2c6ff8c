"""Tables of a million rows: no matrix of rows by rows, and few rows' gradients."""

import pytest
import torch
from hydra.utils import instantiate
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from optimizers import build
from optimizers.layerwise.ng_plus_curvature import MAX_SIZE
from optimizers.ng_plus_authors_online import MAX_ROWS
from optimizers.telemetry import state_bytes
from runners.train import wants_samples
from tests.optimizers.table import NAMES, config_of, package_of

ROWS, DIM = 1_000_000, 16
TABLE = 4 * ROWS * DIM  # bytes
START = 0.01  # each value; the table then has norm 40, inside the ball of ng_plus_online
SGD = {"_target_": "hydra.utils.get_class", "path": "torch.optim.SGD"}


class Clicks(nn.Module):
    """A table and a read-out."""

    def __init__(self, rows=ROWS, sparse=False):
        super().__init__()
        self.table = nn.Embedding(rows, DIM, sparse=sparse, _weight=torch.full((rows, DIM), START))
        self.readout = nn.Linear(DIM, 3)

    def forward(self, indices):
        return self.readout(self.table(indices)[:, 0])


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that any operation gives."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        found = [x.numel() for x in tree_leaves(result) if isinstance(x, torch.Tensor)]
        self.elements = max([self.elements, *found])
        return result


def made(name, model, **changes):
    return instantiate(config_of(name), **changes)(model)


def step(model, optimizer, num_samples=8):
    """One step on samples that look up rows from end to end of the table."""
    indices = torch.linspace(0, len(model.table.weight) - 1, num_samples).long()[:, None]
    model.zero_grad()

    def backward():
        model(indices).square().mean(1).mean().backward()

    if wants_samples(optimizer):
        weights = torch.full((num_samples,), 1 / num_samples)
        with optimizer.record(num_samples, 0, weights):
            backward()
    else:
        backward()
    optimizer.step()


# Bytes of state beside as many vectors of the table's size: momentum, or sums of squares.
OF_THE_TABLE = {
    "adagrad_bma": 1,
    "adam": 2,
    "kfac": 1,
    "ng_plus": 1,
    "ng_plus_authors": 1,
    "ng_plus_block": 1,
    "ng_plus_low_rank": 1,
    "ng_plus_minibatch": 1,
    "ng_plus_momentum": 1,
    "ng_plus_online": 0,
    "ng_plus_sketched": 1,
}


AT_ONCE = {"adagrad_bma": 4}  # vectors that are one tensor
REACH_ALL = {"adagrad_bma"}  # a block's correction moves rows without a gradient


@pytest.mark.parametrize("name", OF_THE_TABLE)
def test_a_table_of_a_million_rows_has_no_matrix_of_its_rows(name):
    model = Clicks()
    optimizer = made(name, model)
    with Largest() as largest:
        step(model, optimizer)
    # Nothing beyond the size of the table, or of all parameters, was made, not even for a moment.
    assert ROWS * DIM <= largest.elements <= AT_ONCE.get(name, 1) * (ROWS * DIM + 51)
    # Two matrices of 16, and what the read-out has.
    assert state_bytes(optimizer) <= OF_THE_TABLE[name] * TABLE + 50_000
    assert not torch.equal(model.table.weight[0], torch.full((DIM,), START))
    if name not in REACH_ALL:
        assert torch.equal(model.table.weight[1], torch.full((DIM,), START))


def test_ng_plus_takes_the_small_side_of_a_table():
    model = Clicks()
    optimizer = made("ng_plus", model)
    step(model, optimizer)
    (spectrum,) = [s for s in optimizer.spectra() if s.name == "table.weight"]
    assert len(spectrum.eigenvalues) == DIM
    factor = optimizer.state[f"group 0, {ROWS} x {DIM}, float32"]["factor"]
    assert factor.shape == (1, 1, DIM, DIM)


@pytest.mark.parametrize("name", ["kradagrad", "kradagrad_star", "shampoo"])
def test_blocks_of_rows_cost_as_much_as_there_are_rows(name):
    """128 numbers a row and factor, so that these too are linear in the rows, if eight fold."""
    bytes_of = {}
    for rows in (1280, 2560):
        model = Clicks(rows)
        optimizer = made(name, model)
        with Largest() as largest:
            step(model, optimizer)
        assert largest.elements == rows * 128
        bytes_of[rows] = state_bytes(optimizer)
    readout = 20_000
    assert bytes_of[2560] <= 2 * bytes_of[1280] <= bytes_of[2560] + readout


@pytest.mark.parametrize("name", ["kradagrad", "ng_plus", "ng_plus_authors_online", "shampoo"])
def test_a_rule_leaves_the_table_to_another_optimizer(name):
    model = Clicks(sparse=True)
    rule = {"modules": ["table"], "cls": SGD, "lr": 0.1}
    optimizer = made(name, model, groups=[rule])
    with Largest() as largest:
        step(model, optimizer)
    assert largest.elements == ROWS * DIM  # of the step itself, in place
    assert state_bytes(optimizer) < 20_000  # of the read-out
    assert not torch.equal(model.table.weight[0], torch.full((DIM,), START))


def test_what_must_have_rows_by_rows_is_refused_by_name():
    with pytest.raises(ValueError) as error:
        made("ng_plus_authors_online", Clicks())
    wanted = f"rows of table.weight must be <= {MAX_ROWS} (matrix of rows by rows), got {ROWS}"
    assert str(error.value) == wanted
    model = Clicks()
    optimizer = made("ng_plus", model, side="left")
    message = rf"side of a {ROWS} x {DIM} matrix must be in blocks of <= {MAX_SIZE}, got {ROWS}"
    with pytest.raises(ValueError, match=message):
        step(model, optimizer)


# ---------------------------------------------------------------- gradients of few rows

TAKE_SPARSE = {"adagrad", "sgd"}


@pytest.mark.parametrize("name", NAMES)
def test_who_takes_sparse_gradients(name):
    if package_of(name) not in ("torch", "optimizers"):
        pytest.importorskip(package_of(name))
    model = Clicks(rows=50, sparse=True)
    if name in TAKE_SPARSE:
        step(model, made(name, model))
        assert model.table.weight.grad.is_sparse
        return
    with pytest.raises(ValueError) as error:
        made(name, model)
    said = str(error.value)
    assert said.startswith("sparse must be false for ") and "\n" not in said
    assert said.endswith("got the sparse gradients of table.weight")


@pytest.mark.parametrize(
    "changes", [{"momentum": 0.9}, {"weight_decay": 0.1}], ids=["momentum", "weight_decay"]
)
def test_options_that_take_none_are_refused(changes):
    # Momentum would be kept as a list of rows that grows in every step.
    with pytest.raises(ValueError, match="sparse must be false for SGD"):
        made("sgd", Clicks(rows=50, sparse=True), **changes)


@pytest.mark.parametrize("name", sorted(TAKE_SPARSE))
def test_sparse_gradients_make_the_same_steps(name):
    results = []
    for sparse in (False, True):
        model = Clicks(rows=50, sparse=sparse)
        torch.manual_seed(1)
        nn.init.normal_(model.readout.weight)
        nn.init.zeros_(model.readout.bias)
        optimizer = made(name, model)
        for _ in range(3):
            step(model, optimizer)
        results.append([p.detach() for p in model.parameters()])
    for dense, sparse in zip(*results, strict=True):
        # The same products and sums; AdaGrad's eps stands beside the root in both.
        torch.testing.assert_close(sparse, dense, rtol=1e-6, atol=1e-7)


def test_the_model_may_be_a_table_itself():
    with pytest.raises(ValueError, match=r"got the sparse gradients of weight$"):
        build(nn.Embedding(4, 2, sparse=True), torch.optim.Adam)
