"""Partitions of the models of the AdaGrad-BMA paper, and the flat vector by length of blocks."""

import pytest
import torch
from torch import nn

from optimizers.common.partition import PARTITIONS, layout, num_blocks


def cnn(in_channels, width, num_convs, features):
    shapes, channels = [], in_channels
    for _ in range(num_convs):
        shapes += [(width, channels, 3, 3), (width,)]
        channels = width
    return [*shapes, (10, features), (10,)]


# Parameters: tables 1 to 3; blocks of the small model on MNIST: figure 4 (b) to (d).
SMALL = {"mnist": (cnn(1, 3, 4, 3), 322), "cifar10": (cnn(3, 3, 4, 12), 466)}
LARGE = {"mnist": (cnn(1, 32, 16, 32), 139_370), "cifar10": (cnn(3, 32, 16, 128), 140_906)}


@pytest.mark.parametrize(("shapes", "count"), [*SMALL.values(), *LARGE.values()])
def test_the_models_have_the_parameters_of_table_3(shapes, count):
    assert sum(torch.Size(shape).numel() for shape in shapes) == count


@pytest.mark.parametrize(
    ("partition", "count"), [("layer", 10), ("unit", 27), ("group", 45), ("element", 322)]
)
def test_the_small_model_has_the_blocks_of_figure_4(partition, count):
    assert sum(num_blocks(shape, partition) for shape in SMALL["mnist"][0]) == count


def test_blocks_of_each_shape():
    expected = {
        (): (1, 1, 1, 1),
        (1,): (1, 1, 1, 1),
        (4,): (1, 1, 1, 4),
        (4, 3): (1, 4, 4, 12),
        (4, 3, 2): (1, 4, 12, 24),
        (4, 3, 2, 2): (1, 4, 12, 48),
        (0, 3): (0, 0, 0, 0),
        (0,): (0, 0, 0, 0),
    }
    for shape, counts in expected.items():
        assert tuple(num_blocks(shape, partition) for partition in PARTITIONS) == counts


@pytest.mark.parametrize("partition", PARTITIONS)
def test_sums_and_additions_are_those_of_each_block_alone(partition):
    shapes = [(3, 2), (), (6,), (0, 2), (2, 3, 2), (2, 2, 2, 2), (1,)]
    blocks = layout(tuple(torch.Size(shape) for shape in shapes), partition)
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    vector = torch.zeros(sum(tensor.numel() for tensor in tensors), dtype=torch.float64)
    blocks.gather(tensors, vector)
    views = blocks.scatter(vector, tensors)
    assert all(torch.equal(a, b) for a, b in zip(views, tensors, strict=True))
    sums = blocks.block_sums(torch.stack([vector, 2 * vector]))
    torch.testing.assert_close(sums[1], 2 * sums[0])
    assert sums.shape == (2, blocks.num_blocks)
    assert float(blocks.sizes.sum()) == len(vector)
    # A number added to each block comes back, times the block's size, in the block's sum.
    numbers = torch.arange(1.0, blocks.num_blocks + 1, dtype=torch.float64)
    blocks.add_to_blocks(vector, numbers)
    after = blocks.block_sums(vector)
    torch.testing.assert_close(after, sums[0] + numbers * blocks.sizes)
    # Each tensor's blocks are its slices: what was added is constant on them and nowhere shared.
    added = torch.cat(
        [
            (view - tensor).reshape(num_blocks(tensor.shape, partition), -1).mean(1)
            for view, tensor in zip(views, tensors, strict=True)
            if tensor.numel()
        ]
    )
    torch.testing.assert_close(added.sort().values, numbers)


def test_a_missing_gradient_counts_as_zeros():
    shapes = (torch.Size((2, 2)), torch.Size((3,)))
    vector = torch.full((7,), 5.0)
    blocks = layout(shapes, "layer")
    blocks.gather([None, torch.ones(3)], vector)
    assert torch.equal(blocks.block_sums(vector).sort().values, torch.tensor([0.0, 3.0]))


def test_layouts_do_not_depend_on_the_module():
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Linear(3, 10))
    blocks = layout(tuple(parameter.shape for parameter in model.parameters()), "layer")
    assert blocks.runs == ((1, 3), (1, 10), (1, 27), (1, 30))
