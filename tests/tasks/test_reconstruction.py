"""Losses of a reconstruction: their formulas, bounds and best constant outputs."""

import math

import pytest
import torch
from torch import nn

from tasks.reconstruction import LOSSES


def images(count=6, num_pixels=9):
    """Random images, with pixels of 0 and 1, one of them empty."""
    pixels = torch.rand(count, num_pixels, dtype=torch.float64)
    pixels[:, 0], pixels[:, 1] = 0, 1
    pixels[0] = 0
    return pixels


PERFECT = {  # outputs that reproduce the pixels; the logarithm of 0 is far down
    "softmax_ce": lambda pixels: pixels.log().clamp(min=-1000),
    "bce_sum": lambda pixels: pixels.logit().clamp(-1000, 1000),
    "mse": lambda pixels: pixels,
    "half_squared_error": lambda pixels: pixels,
}


def slowly(name, outputs, pixels):
    """The loss of one image, entry by entry."""
    z, x = outputs.tolist(), pixels.tolist()
    pairs = list(zip(z, x, strict=True))
    if name == "softmax_ce":
        log_sum = math.log(sum(math.exp(value) for value in z))
        return -sum(xj * (zj - log_sum) for zj, xj in pairs)
    if name == "bce_sum":
        p = [1 / (1 + math.exp(-value)) for value in z]
        return -sum(
            xj * math.log(pj) + (1 - xj) * math.log(1 - pj) for pj, xj in zip(p, x, strict=True)
        )
    total = sum((zj - xj) ** 2 for zj, xj in pairs)
    return total / len(z) if name == "mse" else total / 2


@pytest.mark.parametrize("name", LOSSES)
def test_the_losses_are_their_formulas(name):
    torch.manual_seed(0)
    pixels, outputs = images(), torch.randn(6, 9, dtype=torch.float64)
    found = LOSSES[name].per_image(outputs, pixels)
    expected = [slowly(name, z, x) for z, x in zip(outputs, pixels, strict=True)]
    torch.testing.assert_close(found, torch.tensor(expected).double())


def test_softmax_cross_entropy_is_torchs_own_with_pixels_as_targets():
    torch.manual_seed(0)
    pixels, outputs = images().float(), torch.randn(6, 9)
    found = LOSSES["softmax_ce"].per_image(outputs, pixels).mean()
    torch.testing.assert_close(found, nn.CrossEntropyLoss()(outputs, pixels))


@pytest.mark.parametrize("name", LOSSES)
def test_the_bound_is_reached_by_the_perfect_outputs_and_never_undercut(name):
    torch.manual_seed(1)
    pixels, loss = images(), LOSSES[name]
    bound = loss.bound(pixels)
    perfect = PERFECT[name](pixels)
    torch.testing.assert_close(loss.per_image(perfect, pixels), bound, rtol=1e-12, atol=1e-12)
    for scale in (1e-3, 0.1, 1.0, 30.0):
        for start in (perfect, torch.zeros_like(perfect)):
            outputs = start + scale * torch.randn_like(start)
            # Rounding of sums of order 10 to 1000.
            assert (loss.per_image(outputs, pixels) >= bound - 1e-12).all()


@pytest.mark.parametrize("name", LOSSES)
def test_the_best_constant_outputs_are_the_best(name):
    torch.manual_seed(2)
    pixels, loss = images(40), LOSSES[name]
    best = loss.constant(pixels.mean(0))
    least = loss.per_image(best.expand_as(pixels), pixels).mean()
    for _ in range(20):
        other = best + 0.1 * torch.randn_like(best)
        assert loss.per_image(other.expand_as(pixels), pixels).mean() > least
    assert least > loss.bound(pixels).mean()
