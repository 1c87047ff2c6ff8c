"""FACES cut anew from the Olivetti faces."""

import math

import pytest
import torch

from tasks.data import olivetti_patches
from tasks.data.olivetti_patches import cut, generate, normalise, smooth


def pictures(count=4):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 64, 64), generator=generator, dtype=torch.uint8)


def test_there_are_as_many_as_the_paper_says():
    assert 400 * olivetti_patches.PER_FACE == 165_600


def test_a_gradient_of_brightness_is_turned_and_scaled():
    """On a slope of 1 a pixel every patch is a slope, of 64 / 25 / scale at some angle."""
    slope = torch.arange(64.0).expand(1, 64, 64)
    patches = cut(slope, torch.arange(300)).view(-1, 25, 25)
    right, down = patches.diff(dim=2), patches.diff(dim=1)
    for steps in (right, down):
        # float32 at numbers of 64.
        assert (steps - steps[:, :1, :1]).abs().max() < 1e-4
    right, down = right[:, 0, 0], down[:, 0, 0]
    scales = 64 / 25 / (right**2 + down**2).sqrt()
    assert scales.min() >= 1.4 - 1e-3 and scales.max() <= 1.8 + 1e-3
    angles = torch.rad2deg(torch.atan2(down, right))
    assert angles.abs().max() <= 90 + 1e-3
    # 300 uniform draws leave no tenth of the range empty, nearly surely.
    assert (scales.histc(10, 1.4, 1.8) > 0).all() and (angles.histc(10, -90, 90) > 0).all()
    # The middle stays the middle.
    torch.testing.assert_close(patches[:, 12, 12], torch.full((300,), 31.5), rtol=0, atol=1e-4)


def test_patches_lie_within_the_picture():
    """A dark frame just inside the border is reached by no patch but at the very corners."""
    picture = torch.zeros(1, 64, 64)
    picture[:, 1:-1, 1:-1] = 1
    assert (cut(picture, torch.arange(400)) > 0.5).all()


def test_smoothing_keeps_brightness_and_takes_off_what_is_too_fine():
    flat = torch.full((1, 64, 64), 0.3)
    torch.testing.assert_close(smooth(flat), flat)
    board = ((torch.arange(64)[:, None] + torch.arange(64)) % 2).float().unsqueeze(0)
    inner = smooth(board)[0, 4:-4, 4:-4]
    # The finest pattern there is: a patch's pixels, 1.6 times as wide, cannot show it.
    assert (inner.max() - inner.min()).item() < 0.1
    # A wave of 16 pixels, 10 of a patch, stays: exp(-(2 pi 0.62 / 16)^2 / 2) = .97 of it.
    wave = torch.sin(2 * math.pi * torch.arange(64.0) / 16).expand(1, 64, 64)
    assert smooth(wave)[0, 32, 4:-4].max().item() == pytest.approx(0.97, abs=0.005)


def test_pixels_have_mean_0_and_the_set_variance_1():
    train, test = generate(pictures(), "random")
    whole = torch.cat([train, test]).double()
    assert whole.shape == (4 * 414, 625)
    # float32 sums of numbers of order 1.
    assert whole.mean(0).abs().max() < 1e-6
    assert whole.square().mean().item() == pytest.approx(1, abs=1e-6)


def test_a_patch_is_the_same_whatever_else_is_cut():
    faces = smooth(pictures().float() / 255)
    torch.manual_seed(3)
    some = cut(faces, torch.tensor([5, 900, 414]))
    whole = cut(faces, torch.arange(4 * 414))
    # Where a batch is cut decides which instructions round a sum.
    torch.testing.assert_close(some, whole[[5, 900, 414]], rtol=0, atol=1e-6)


def test_fewer_patches_are_the_first_of_each_split():
    train, test = generate(pictures(), "people", 30, 8)
    assert (len(train), len(test)) == (30, 8)
    # People come one after the other; all 30 are of the first face, the 8 of the last.
    faces = smooth(pictures().float() / 255)
    first = 4 * 414 - 4 * 414 * 10 // 40
    raw = torch.cat([cut(faces, torch.arange(30)), cut(faces, torch.arange(first, first + 8))])
    normalise(raw)
    torch.testing.assert_close(torch.cat([train, test]), raw, rtol=0, atol=1e-5)
