"""Random crops and mirror images: against a slow loop over images, and their distribution."""

import pytest
import torch

from tasks.data.augmentation import Views, apply_views, draw_views
from tasks.data.images import Normalization
from tasks.seeding import seeded


def noise(*shape, seed=0):
    return torch.randint(256, shape, dtype=torch.uint8, generator=seeded(seed))


def one_by_one(images, pad, views, fill=(0, 0, 0)):
    """What `apply_views` computes, image by image and in the words of its docstring."""
    _, height, width, channels = images.shape
    seen = []
    for image, top, left, mirrored in zip(images, *views, strict=True):
        padded = torch.empty(height + 2 * pad, width + 2 * pad, channels, dtype=images.dtype)
        padded[:] = torch.tensor(fill[:channels], dtype=images.dtype)
        padded[pad : pad + height, pad : pad + width] = image
        crop = padded[top : top + height, left : left + width]
        seen.append(crop.flip(1) if mirrored else crop)
    return torch.stack(seen)


@pytest.mark.parametrize("shape", [(32, 32, 3), (7, 5, 1), (1, 4, 2)])
@pytest.mark.parametrize(("pad", "flip"), [(4, True), (0, True), (3, False), (0, False)])
def test_a_batch_is_what_a_loop_over_its_images_gives(shape, pad, flip):
    images = noise(200, *shape)
    before = images.clone()
    views = draw_views(200, pad, flip, seeded(1))
    found = apply_views(images, pad, views)
    assert torch.equal(found, one_by_one(images, pad, views))
    assert torch.equal(images, before)
    assert found.is_contiguous() and found.dtype == torch.uint8


@pytest.mark.parametrize("pad", [0, 3])
def test_the_padding_may_have_a_colour(pad):
    images, fill = noise(50, 6, 5, 3), (125, 7, 255)
    views = draw_views(50, pad, True, seeded(1))
    found = apply_views(images, pad, views, torch.tensor(fill, dtype=torch.uint8))
    assert torch.equal(found, one_by_one(images, pad, views, fill))


def test_the_colour_of_zero_after_the_normalisation():
    mean, std = (0.4914, 0.4824, 0.4467), (0.2471, 0.2435, 0.2616)
    normalization = Normalization.of(mean, std, "cpu", torch.float32, True)
    assert normalization.zero().tolist() == [125, 123, 114]
    seen = normalization(normalization.zero().view(1, 1, 1, 3))
    # Half a byte at most.
    assert seen.abs().max() < 0.5 / 255 / min(std)


def test_the_views_by_hand():
    image = torch.tensor([[1, 2, 3], [4, 5, 6]], dtype=torch.uint8)[None, :, :, None]

    def seen(top, left, mirrored):
        views = Views(torch.tensor([top]), torch.tensor([left]), torch.tensor([mirrored]))
        return apply_views(image, 1, views)[0, :, :, 0].tolist()

    assert seen(1, 1, False) == [[1, 2, 3], [4, 5, 6]]
    assert seen(1, 1, True) == [[3, 2, 1], [6, 5, 4]]
    assert seen(0, 0, False) == [[0, 0, 0], [0, 1, 2]]
    assert seen(0, 0, True) == [[0, 0, 0], [2, 1, 0]]
    assert seen(2, 2, False) == [[5, 6, 0], [0, 0, 0]]


def test_corners_cover_the_padding_and_sides_are_exchanged_half_of_the_time():
    count = 90_000
    tops, lefts, mirrored = draw_views(count, 4, True, seeded(2))
    places = torch.bincount(9 * tops + lefts, minlength=81)
    assert len(places) == 81
    # chi-squared of 80 degrees of freedom: mean 80, deviation 12.6.
    expected = count / 81
    assert ((places - expected) ** 2 / expected).sum().item() < 80 + 5 * 12.6
    assert mirrored.dtype == torch.bool
    assert mirrored.double().mean().item() == pytest.approx(0.5, abs=5 * 0.5 / count**0.5)
    # Whether an image is mirrored says nothing about its corner: deviation of a mean of 0 to 8.
    gap = tops[mirrored].double().mean() - tops[~mirrored].double().mean()
    assert abs(gap.item()) < 5 * 2.6 * 2 / count**0.5


def test_without_padding_and_mirror_images_nothing_is_moved():
    tops, lefts, mirrored = draw_views(50, 0, False, seeded(3))
    assert not tops.any() and not lefts.any() and not mirrored.any()
    assert not draw_views(50, 4, False, seeded(3)).mirrored.any()


def test_views_follow_from_the_generator_alone():
    first = draw_views(64, 4, True, seeded(0, 1, 2))
    torch.manual_seed(5)
    state = torch.get_rng_state()
    again = draw_views(64, 4, True, seeded(0, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    for key in ((0, 1, 3), (0, 2, 2), (1, 1, 2)):
        other = draw_views(64, 4, True, seeded(*key))
        assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))
