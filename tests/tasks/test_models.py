"""The papers' networks: the parameter counts they state, and what the layers compute."""

import pytest
import torch
from torch import nn

from tasks.models.autoencoder import Autoencoder
from tasks.models.resnet_cifar import ResNetCIFAR
from tasks.models.tanh_cnn import TanhCNN


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("depth", "num_classes", "norm", "expected"),
    [
        (32, 10, "none", 461_882),
        (56, 100, "none", 854_804),
        # 31 normalised convolutions, two numbers a channel, more than without.
        (32, 10, "batch", 461_882 + 2 * (11 * 16 + 10 * 32 + 10 * 64)),
    ],
)
def test_the_residual_networks_have_the_stated_sizes(depth, num_classes, norm, expected):
    assert count(ResNetCIFAR(depth, num_classes, norm)) == expected


@pytest.mark.parametrize(
    ("widths", "expected"),
    [
        ((784, 1000, 500, 250, 30), 2_837_314),
        ((625, 2000, 1000, 500, 30), 7_537_655),
        ((784, 400, 200, 100, 50, 25, 6), 842_340),
    ],
)
def test_the_autoencoders_have_the_stated_sizes(widths, expected):
    model = Autoencoder(widths)
    assert count(model) == expected
    assert model(torch.zeros(2, widths[0])).shape == (2, widths[0])


@pytest.mark.parametrize(
    ("image_shape", "width", "convs_per_group", "expected", "num_tensors"),
    [
        ((1, 28, 28), 3, 1, 322, 10),
        ((3, 32, 32), 3, 1, 466, 10),
        ((1, 28, 28), 32, 4, 139_370, 34),
        ((3, 32, 32), 32, 4, 140_906, 34),
    ],
)
def test_the_plain_networks_have_the_stated_sizes(
    image_shape, width, convs_per_group, expected, num_tensors
):
    model = TanhCNN(image_shape, width, 4, convs_per_group, 10)
    assert count(model) == expected
    assert len(list(model.parameters())) == num_tensors
    assert model(torch.zeros(2, *image_shape)).shape == (2, 10)


def test_a_residual_network_starts_from_xaviers_distributions():
    model = ResNetCIFAR(32, 10)
    weight = model.features.stage3[1].first.conv.weight
    # The variance of 36,864 normal numbers is off by 0.7 % (one sigma).
    assert weight.var().item() == pytest.approx(2 / (9 * (64 + 64)), rel=0.03)
    bound = (6 / (64 + 10)) ** 0.5
    assert 0.95 * bound < model.readout.weight.abs().max().item() <= bound
    assert not model.readout.bias.any()


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_a_residual_network_without_its_branches_is_its_shortcuts(norm):
    """Pixels are dropped at each stride and empty channels added on both sides."""
    model = ResNetCIFAR(8, 10, norm).eval()
    for module in model.features.modules():
        if isinstance(module, nn.Conv2d) and module.in_channels > 3:
            nn.init.zeros_(module.weight)
    images = torch.randn(2, 3, 32, 32)
    stem = torch.relu(model.features.stem(images))
    found = model.features[:5](images)
    assert found.shape == (2, 64, 8, 8)
    # Eight empty channels before the 16 of the stem, then sixteen before those 32.
    torch.testing.assert_close(found[:, 24:40], stem[:, :, ::4, ::4])
    assert not found[:, :24].any()
    assert not found[:, 40:].any()


def test_the_code_and_the_output_of_an_autoencoder_are_linear():
    """A layer that ended in a ReLU could give no negative number."""
    model = Autoencoder((20, 16, 4))
    inputs = torch.randn(50, 20)
    assert (model.encoder(inputs) < 0).any()
    assert (model(inputs) < 0).any()
    kinds = [type(module) for module in [*model.encoder, *model.decoder]]
    assert kinds == [nn.Linear, nn.ReLU, nn.Linear] * 2


def test_gradients_reach_every_parameter():
    images = torch.randn(2, 3, 32, 32)
    for model in (ResNetCIFAR(8, 10, "batch"), TanhCNN((3, 32, 32), 3, 4, 1, 10)):
        nn.functional.cross_entropy(model(images), torch.tensor([1, 2])).backward()
        assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ResNetCIFAR(31, 10), r"depth must be 6 k \+ 2 with k >= 1, got 31"),
        (lambda: ResNetCIFAR(2, 10), r"depth must be 6 k \+ 2 with k >= 1, got 2"),
        (lambda: ResNetCIFAR(32, 10, "layer"), "norm must be one of none, batch, got layer"),
        (lambda: Autoencoder((5,)), r"widths must be two or more integers >= 1, got \[5\]"),
        (lambda: TanhCNN((1, 28, 28), 0, 4, 1, 10), "width must be >= 1, got 0"),
        (lambda: TanhCNN((1, 28, 28), 3, 5, 1, 10), r"leave a pixel of \(1, 28, 28\), got 5"),
    ],
)
def test_sizes_that_cannot_be_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
