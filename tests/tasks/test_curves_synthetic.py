"""The re-creation of CURVES: what is drawn, and that it is always the same."""

import pytest
import torch

from tasks.data import curves_synthetic
from tasks.data.curves_synthetic import curves, generate, ink, random_points
from tasks.reconstruction import LOSSES
from tasks.seeding import seeded


def test_the_points_increase_in_x_and_stay_inside():
    points = random_points(1000, seeded(1))
    x = points[:, :, 0]
    assert (x.diff(dim=1) >= 2 - 1e-12).all()
    assert points.min() >= 2 and points.max() <= 25
    # All of the square is used: the mean of y is the middle, with a deviation of 6.6 / sqrt(3000).
    assert points[:, :, 1].mean().item() == pytest.approx(13.5, abs=0.5)


def test_the_curve_passes_its_points_and_stays_inside():
    points = random_points(500, seeded(2))
    curve = curves(points)
    torch.testing.assert_close(curve[:, 0], points[:, 0].float())
    torch.testing.assert_close(curve[:, -1], points[:, 2].float())
    # The second lies between two drops of ink, of which no two are as far apart as 1.5 pixels.
    nearest = (curve - points[:, 1:2].float()).norm(dim=2).min(1).values
    assert nearest.max() < 0.75
    assert curve.min() > 0 and curve.max() < 27


def test_a_straight_stroke_has_its_profile():
    """Far from its ends a line is 1 - exp(-1.95 exp(-(distance / 0.6)^2 / 2)) bright."""
    line = torch.stack([torch.linspace(2, 25, 64), torch.full((64,), 13.0)], dim=1)
    image = ink(line.unsqueeze(0))[0]
    distance = torch.arange(28.0) - 13
    expected = 1 - torch.exp(-1.95 * torch.exp(-((distance / 0.6) ** 2) / 2))
    # Drops 0.37 apart make blots of deviation 0.6 even to 1e-20: float32 is left.
    torch.testing.assert_close(image[:, 13], expected, rtol=0, atol=1e-5)


def test_the_images_are_the_same_whatever_their_number():
    train, test = generate(150, 7)
    assert train.shape == (150, 784) and test.shape == (7, 784)
    assert train.min() >= 0 and train.max() <= 1
    torch.manual_seed(5)
    fewer, _ = generate(20, 1)
    # A product of matrices may round otherwise in a smaller batch of them.
    torch.testing.assert_close(fewer, train[:20], rtol=0, atol=1e-6)
    assert not torch.equal(train[:7], test)


def test_the_images_have_the_losses_that_are_documented():
    _, test = generate(1, 2000)
    entropy = LOSSES["softmax_ce"].bound(test.double()).mean().item()
    # Of all 10,000 it is 166.73; deviation of one image about 75, of 2000 1.7.
    assert entropy == pytest.approx(166.7, abs=5)
    assert curves_synthetic.VERSION == "curves_synthetic-1"
