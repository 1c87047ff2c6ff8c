"""Shapes as the code of KrADagrad's authors merges them, and blocks that cover a tensor once."""

import pytest
import torch

from optimizers.linalg.blocking import merge_shape, split_into_regions


@pytest.mark.parametrize(
    ("shape", "limit", "merged"),
    [
        ((16, 3, 3, 3), 128, (48, 9)),
        ((16, 16, 3, 3), 128, (16, 48, 3)),
        ((32, 32, 3, 3), 128, (32, 96, 3)),
        ((64, 64, 3, 3), 128, (64, 64, 9)),
        ((64, 64, 1, 1), 128, (64, 64)),
        ((1, 2, 512, 1, 2048, 1, 3, 4), 1024, (1024, 2048, 12)),
        ((1, 2, 768, 1, 2048), 1024, (2, 768, 2048)),
        ((10, 64), 1024, (640,)),
        ((1, 5000), 1024, (5000,)),
        ((), 8, (1,)),
        ((1, 1), 8, (1,)),
        ((3, 2), 1, (3, 2)),
    ],
)
def test_small_neighbours_are_multiplied(shape, limit, merged):
    assert merge_shape(shape, limit) == merged


def test_without_merging_only_ones_go():
    assert merge_shape((4, 1, 3, 2), 128, merge=False) == (4, 3, 2)
    assert merge_shape((1,), 128, merge=False) == (1,)


@pytest.mark.parametrize("shape", [(9,), (8, 4), (5, 9), (3, 4), (9, 3, 5), (5, 4, 9, 2)])
def test_regions_cover_a_tensor_once_block_by_block(shape):
    tensor = torch.arange(torch.Size(shape).numel()).view(shape)
    regions = split_into_regions(shape, 4)
    assert len(regions) <= 2 ** len(shape)
    parts = [region.view(tensor) for region in regions]
    everything = torch.cat([part.reshape(-1) for part in parts])
    assert torch.equal(everything.sort().values, tensor.view(-1))
    for region, part in zip(regions, parts, strict=True):
        assert part.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr()
        stacked = part.reshape(region.num_blocks, *region.sizes)
        assert all(size <= 4 for size in region.sizes)
        assert torch.equal(region.stacked(stacked), part)
        pairs = zip(region.starts, region.sizes, strict=True)
        first = tensor[tuple(slice(s, s + n) for s, n in pairs)]
        assert torch.equal(stacked[0], first)


def test_blocks_of_a_region_are_counted_along_the_last_dimension_first():
    tensor = torch.arange(8 * 12).view(8, 12)
    (region,) = split_into_regions((8, 12), 4)
    assert region.counts == (2, 3)
    view = region.view(tensor)
    for i in range(2):
        for j in range(3):
            block = tensor[4 * i : 4 * i + 4, 4 * j : 4 * j + 4]
            assert torch.equal(view[i, j], block)


def test_an_empty_tensor_has_no_region():
    assert split_into_regions((0, 3), 4) == []
