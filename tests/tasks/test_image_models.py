"""The image networks against plainly written ones: convolutions as products of matrices."""

import pytest
import torch
from torch.nn import functional as F

from tasks.models.resnet_cifar import ResNetCIFAR
from tasks.models.tanh_cnn import TanhCNN

# Sums of at most 600 products, in another order, in float64.
CLOSE = {"rtol": 1e-11, "atol": 1e-12}


def convolve(x, weight, bias=None, stride=1):
    """A 3 x 3 convolution, padded by one pixel: each patch, as a row, times the weights."""
    height, width = ((side - 1) // stride + 1 for side in x.shape[2:])
    patches = F.unfold(x, 3, padding=1, stride=stride)
    out = weight.flatten(1) @ patches
    if bias is not None:
        out = out + bias[:, None]
    return out.unflatten(2, (height, width))


def normalize(x, state, prefix):
    """BatchNorm in evaluation, where it is there."""
    if f"{prefix}.norm.weight" not in state:
        return x
    names = ("weight", "bias", "running_mean", "running_var")
    scale, shift, mean, var = (state[f"{prefix}.norm.{n}"][:, None, None] for n in names)
    return (x - mean) / (var + 1e-5).sqrt() * scale + shift


def plain_resnet(state, x, num_blocks):
    """He et al. 2016, section 4.2, shortcut A, from a dictionary of tensors."""
    x = normalize(convolve(x, state["features.stem.conv.weight"]), state, "features.stem").relu()
    for stage in (1, 2, 3):
        for block in range(num_blocks):
            prefix = f"features.stage{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            inner = convolve(x, state[f"{prefix}.first.conv.weight"], stride=stride)
            inner = normalize(inner, state, f"{prefix}.first").relu()
            inner = convolve(inner, state[f"{prefix}.second.conv.weight"])
            inner = normalize(inner, state, f"{prefix}.second")
            if stride == 2:
                smaller = x[:, :, ::2, ::2]
                empty = torch.zeros_like(smaller[:, : smaller.shape[1] // 2])
                x = torch.cat([empty, smaller, empty], 1)
            x = (inner + x).relu()
    return x.flatten(2).mean(2) @ state["readout.weight"].T + state["readout.bias"]


@pytest.mark.parametrize(
    ("depth", "norm", "width"),
    [(8, "none", 16), (8, "batch", 4), (32, "none", 4), (20, "batch", 2)],
)
def test_the_residual_network_is_the_plain_one(depth, norm, width):
    model = ResNetCIFAR(depth, 10, norm, width).double()
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    model(images)  # moves the running statistics away from 0 and 1, where there are any
    model.eval()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    expected = plain_resnet(state, images, (depth - 2) // 6)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(model(images), expected, **CLOSE)


def test_the_gradient_is_that_of_the_plain_network():
    model = ResNetCIFAR(8, 10, width=4).double()
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    labels = torch.tensor([1, 2, 3, 4])
    F.cross_entropy(model(images), labels).backward()
    state = {n: p.detach().clone().requires_grad_() for n, p in model.named_parameters()}
    F.cross_entropy(plain_resnet(state, images, 1), labels).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, state[name].grad, **CLOSE)


def plain_cnn(state, x, num_groups, convs_per_group):
    for group in range(1, num_groups + 1):
        for index in range(1, convs_per_group + 1):
            prefix = f"features.conv{group}_{index}"
            x = convolve(x, state[f"{prefix}.weight"], state[f"{prefix}.bias"]).tanh()
        height, width = (side // 2 for side in x.shape[2:])
        x = x[:, :, : 2 * height, : 2 * width]
        x = x.unflatten(3, (width, 2)).unflatten(2, (height, 2)).amax((3, 5))
    return x.flatten(1) @ state["readout.weight"].T + state["readout.bias"]


@pytest.mark.parametrize(
    ("image_shape", "width", "convs_per_group"),
    [((1, 28, 28), 3, 1), ((3, 32, 32), 3, 1), ((1, 28, 28), 6, 4), ((3, 32, 32), 6, 4)],
)
def test_the_cnn_is_the_plain_one(image_shape, width, convs_per_group):
    model = TanhCNN(image_shape, width, 4, convs_per_group, 10).double()
    images = torch.randn(4, *image_shape, dtype=torch.float64)
    expected = plain_cnn(model.state_dict(), images, 4, convs_per_group)
    assert expected.std() > 1e-3
    torch.testing.assert_close(model(images), expected, **CLOSE)


@pytest.mark.parametrize("width", [0, -1])
def test_a_width_below_one_is_refused(width):
    with pytest.raises(ValueError, match=f"width must be >= 1, got {width}"):
        ResNetCIFAR(8, 10, width=width)
