"""Residual networks of two branches that are mixed at random (Shake-Shake)."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.checks import check_at_least, check_depth

STEM_CHANNELS = 16
BLOCKS_PER_DEPTH = 6  # a block is two convolutions deep, and there are three stages


class ShakeShake(nn.Module):
    """ResNet "depth 2 x width d" with Shake-Shake-Image [Gastaldi 2017 and its published code].

    A 3 x 3 convolution to 16 channels with BatchNorm, three stages of (depth - 2)/6 blocks with
    width, 2 width and 4 width channels, the second and third at half the resolution of the one
    before, a ReLU, the mean over positions and a linear read-out. Convolutions have no bias and
    start from N(0, 2/(k^2 channels out)), k x k being the kernel; the read-out starts from torch's
    own weights, U(+-1/sqrt(channels in)), and a bias of 0.

    The coefficients of a pass in training mode come from the global generator of the images'
    device: two numbers a block and image.

    Args:
        depth: layers with weights along one branch, 6 k + 2.
        width: channels of the first stage.
        num_classes: width of the read-out.
    Raises:
        ValueError: for a depth or a width that there is not.
    """

    def __init__(self, depth: int, width: int, num_classes: int) -> None:
        super().__init__()
        check_depth(depth, BLOCKS_PER_DEPTH)
        if not isinstance(width, int) or width < 2 or width % 2:
            raise ValueError(f"width must be even and >= 2, got {width}")
        check_at_least("num_classes", num_classes, 1)
        layers: list[tuple[str, nn.Module]] = [
            ("stem", nn.Conv2d(3, STEM_CHANNELS, 3, padding=1, bias=False)),
            ("stem_norm", nn.BatchNorm2d(STEM_CHANNELS)),
        ]
        channels = STEM_CHANNELS
        for stage in range(3):
            blocks = []
            for index in range((depth - 2) // BLOCKS_PER_DEPTH):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(_Block(channels, width * 2**stage, stride))
                channels = width * 2**stage
            layers.append((f"stage{stage + 1}", nn.Sequential(*blocks)))
        layers += [
            ("relu", nn.ReLU()),
            ("pool", nn.AdaptiveAvgPool2d(1)),
            ("flatten", nn.Flatten()),
        ]
        self.features = nn.Sequential(OrderedDict(layers))
        self.readout = nn.Linear(channels, num_classes)
        for module in self.features.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.readout.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Logits: (batch, 3, height, width) -> (batch, num_classes)."""
        return self.readout(self.features(images))


class Shake(nn.Module):
    """Mix two branches with coefficients of their own in each direction, one an image.

    forward    alpha x_1 + (1 - alpha) x_2      alpha ~ U(0, 1), or 0.5 in evaluation
    backward   beta grad, (1 - beta) grad       beta ~ U(0, 1), drawn apart from alpha
    """

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Mix two tensors (batch, channels, height, width)."""
        if not self.training:
            return torch.lerp(first, second, 0.5)
        # Drawn in float32 whatever the precision, so that all precisions see the same numbers.
        size = (2, len(first), 1, 1, 1)
        coefficients = torch.rand(size, dtype=torch.float32, device=first.device)
        return _Mix.apply(first, second, *coefficients.to(first.dtype))


class _Mix(torch.autograd.Function):
    """A mean weighted with alpha whose gradient is that of one weighted with beta."""

    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        ctx.save_for_backward(beta)
        return torch.lerp(second, first, alpha)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (beta,) = ctx.saved_tensors
        return beta * grad, (1 - beta) * grad, None, None


class _Block(nn.Module):
    """shortcut(x) + mix of two branches ReLU, conv, norm, ReLU, conv, norm of x."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = _branch(channels, width, stride)
        self.second = _branch(channels, width, stride)
        self.shake = Shake()
        self.shortcut = (
            nn.Identity() if channels == width else _WideningShortcut(channels, width, stride)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.shake(self.first(x), self.second(x))


class _WideningShortcut(nn.Module):
    """More channels, from two sets of pixels: every stride-th, and their upper left neighbours.

    Half of the channels are a 1 x 1 convolution of either set. Neighbours outside the image are
    zeros. Behind a ReLU, before BatchNorm.
    """

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.straight = nn.Conv2d(channels, width // 2, 1, bias=False)
        self.shifted = nn.Conv2d(channels, width // 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        neighbours = F.pad(x, (1, -1, 1, -1))
        stride = self.stride
        halves = (
            self.straight(x[:, :, ::stride, ::stride]),
            self.shifted(neighbours[:, :, ::stride, ::stride]),
        )
        return self.norm(torch.cat(halves, dim=1))


def _branch(channels: int, width: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            relu1=nn.ReLU(),
            conv1=nn.Conv2d(channels, width, 3, stride, padding=1, bias=False),
            norm1=nn.BatchNorm2d(width),
            relu2=nn.ReLU(),
            conv2=nn.Conv2d(width, width, 3, padding=1, bias=False),
            norm2=nn.BatchNorm2d(width),
        )
    )
