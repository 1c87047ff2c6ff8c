"""DLRM: the interaction, a forward pass by hand, initial values, parameters, samples."""

import copy
import math

import pytest
import torch
from torch import nn

from optimizers import NGPlus
from tasks.models.dlrm import DLRM

# Rows of the tables of the full log, as the reference code counts them.
KAGGLE = [
    1460, 583, 10_131_227, 2_202_608, 305, 24, 12_517, 633, 3, 93_145, 5683, 8_351_593, 3194, 27,
    14_992, 5_461_306, 10, 5652, 2173, 4, 7_046_547, 18, 15, 286_181, 105, 142_572,
]  # fmt: skip


def small(**changes):
    options = {"num_integers": 2, "dim": 3, "bottom": [4], "top": [5]}
    return DLRM(table_rows=[6, 7], **options | changes)


def test_the_interaction_of_two_fields_is_their_dot_product():
    model = small()
    vectors = torch.randn(4, 3, 3, dtype=torch.float64)
    a, b, c = vectors.unbind(1)
    expected = torch.stack([(b * a).sum(1), (c * a).sum(1), (c * b).sum(1)], dim=1)
    # Sums of three products, in another order.
    torch.testing.assert_close(model.interactions(vectors), expected, rtol=1e-14, atol=1e-14)


def test_each_field_meets_each_other_once():
    rows = [2] * 26
    pairs = DLRM(rows, num_integers=13).pairs.T.tolist()
    assert len(pairs) == len({frozenset(pair) for pair in pairs}) == 27 * 26 // 2
    assert all(i > j for i, j in pairs)
    assert DLRM(rows, num_integers=13).top[0].in_features == 16 + 351


def test_a_forward_pass_by_hand():
    model = DLRM([2, 2], num_integers=1, dim=2, bottom=[], top=[])
    with torch.no_grad():
        model.bottom[0].weight.copy_(torch.tensor([[1.0], [-1.0]]))
        model.bottom[0].bias.copy_(torch.tensor([0.5, 1.0]))
        model.tables[0].weight.copy_(torch.tensor([[9.0, 9.0], [1.0, 2.0]]))
        model.tables[1].weight.copy_(torch.tensor([[3.0, -1.0], [9.0, 9.0]]))
        model.top[0].weight.copy_(torch.tensor([[1.0, 10.0, 100.0, 1000.0, 10000.0]]))
        model.top[0].bias.copy_(torch.tensor([7.0]))
    # Count 2: relu(2.5, -1) = (2.5, 0). With (1, 2): 2.5; with (3, -1): 7.5; both: 3 - 2 = 1.
    logit = model(torch.tensor([[2.0]]), torch.tensor([[1, 0]]))
    assert logit.tolist() == [2.5 + 0.0 + 250.0 + 7500.0 + 10000.0 + 7.0]


def test_initial_values_have_the_reference_codes_variances():
    torch.manual_seed(0)
    model = DLRM([10_000, 100], num_integers=13)
    for table, rows in zip(model.tables, (10_000, 100), strict=True):
        bound = 1 / math.sqrt(rows)
        assert table.weight.abs().max() <= bound
        # 1,600 uniform values: their standard deviation is known to 1.1 %; 4 times that.
        assert table.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.045)
    linear = [m for m in model.modules() if isinstance(m, nn.Linear)]
    for layer in linear[:-1]:
        n, m = layer.in_features, layer.out_features
        # The smallest has 1,024 weights: 4 times 2.2 %.
        assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / (m + n)), rel=0.09)
        # At least 16 biases: 4 times 18 %.
        assert layer.bias.std().item() == pytest.approx(math.sqrt(1 / m), rel=0.72)


def test_parameters_of_the_reference_model():
    with torch.device("meta"):
        model = DLRM(KAGGLE, num_integers=13)
    perceptrons = (
        13 * 512 + 512 + 512 * 256 + 256 + 256 * 64 + 64 + 64 * 16 + 16
        + (16 + 27 * 26 // 2) * 512 + 512 + 512 * 256 + 256 + 256 + 1
    )  # fmt: skip
    assert sum(KAGGLE) == 33_762_577
    assert sum(p.numel() for p in model.parameters()) == 16 * sum(KAGGLE) + perceptrons
    assert 16 * sum(KAGGLE) + perceptrons == 540_677_217


def test_the_rows_looked_up_are_the_gradients_rows():
    model = small(sparse=True)
    model(torch.rand(2, 2), torch.tensor([[5, 0], [5, 3]])).sum().backward()
    grads = [table.weight.grad.coalesce() for table in model.tables]
    assert [grad.indices().tolist() for grad in grads] == [[[5]], [[0, 3]]]


def test_samples_are_recorded_of_every_layer():
    """NG+'s statistics are those of gradients taken one row at a time."""
    model = small().double()
    alone = copy.deepcopy(model)
    integers = torch.rand(4, 2, dtype=torch.float64)
    categories = torch.tensor([[0, 1], [2, 1], [0, 6], [5, 1]])
    optimizer = NGPlus(model.parameters(), model=model, statistics_dtype="float64")
    assert optimizer.describe()["plain"] == []
    with optimizer.record(4, 0, torch.full((4,), 0.25, dtype=torch.float64)):
        model(integers, categories).square().mean().backward()
    optimizer.step()
    spectra = {spectrum.name: spectrum.eigenvalues for spectrum in optimizer.spectra()}
    gradients = {name: [] for name in spectra}
    for i in range(4):
        alone.zero_grad()
        alone(integers[i : i + 1], categories[i : i + 1]).square().sum().backward()
        for name, found in gradients.items():
            module = alone.get_submodule(name.removesuffix(".weight"))
            own = [p.grad.view(len(p.grad), -1) for p in module.parameters()]
            found.append(torch.cat(own, dim=1))
    for name, found in gradients.items():
        G = torch.stack(found)
        gram = G @ G.mT if G.shape[1] <= G.shape[2] else G.mT @ G
        expected = torch.linalg.eigvalsh(gram.mean(0))
        # Round-off of the largest eigenvalue.
        atol = 1e-12 * float(expected[-1])
        torch.testing.assert_close(spectra[name], expected, rtol=1e-9, atol=atol)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"table_rows": [6, 0]}, "table_rows must be a list of integers >= 1, got [6, 0]"),
        ({"bottom": 4}, "bottom must be a list of widths >= 1, got 4"),
        ({"top": [0]}, "top must be a list of widths >= 1, got [0]"),
        ({"dim": 0}, "dim must be >= 1, got 0"),
        ({"sparse": 1}, "sparse must be true or false, got 1"),
    ],
)
def test_bad_sizes_are_named(changes, message):
    options = {"table_rows": [6, 7], "num_integers": 2} | changes
    with pytest.raises(ValueError) as error:
        DLRM(**options)
    assert str(error.value) == message
