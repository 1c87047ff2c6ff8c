"""Residual networks for 32 x 32 images, with or without batch normalisation."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional as F

from tasks.checks import check_at_least, check_choice, check_depth

BLOCKS_PER_DEPTH = 6  # a block has two convolutions, and there are three stages
NORMS = ("none", "batch")


class ResNetCIFAR(nn.Module):
    """ResNet-n of three stages without parameters in its shortcuts [He et al. 2016, section 4.2].

    A 3 x 3 convolution to `width` channels, three stages of (depth - 2)/6 blocks with 1, 2 and 4
    times as many, the second and third at half the resolution of the one before, the mean over
    positions and a linear read-out. Convolutions have no bias. Convolutions start from Xavier's
    normal, the read-out from Xavier's uniform distribution, its bias from zero.

    Args:
        depth: layers with weights, 6 k + 2.
        num_classes: width of the read-out.
        norm: what follows each convolution: "none", or "batch" for BatchNorm.
        width: channels of the first stage.

    Raises:
        ValueError: for a depth or a norm that there is not, or a size below 1.
    """

    def __init__(self, depth: int, num_classes: int, norm: str = "none", width: int = 16) -> None:
        super().__init__()
        check_depth(depth, BLOCKS_PER_DEPTH)
        check_choice("norm", norm, NORMS)
        check_at_least("width", width, 1)
        check_at_least("num_classes", num_classes, 1)
        num_blocks = (depth - 2) // BLOCKS_PER_DEPTH
        layers: list[tuple[str, nn.Module]] = [
            ("stem", _convolution(3, width, 1, norm)),
            ("stem_relu", nn.ReLU()),
        ]
        channels = width
        for stage in (1, 2, 3):
            blocks = []
            for index in range(num_blocks):
                stride = 2 if stage > 1 and index == 0 else 1
                wanted = width * 2 ** (stage - 1)
                blocks.append(_Block(channels, wanted, stride, norm))
                channels = wanted
            layers.append((f"stage{stage}", nn.Sequential(*blocks)))
        layers += [("pool", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten())]
        self.features = nn.Sequential(OrderedDict(layers))
        self.readout = nn.Linear(channels, num_classes)
        for module in self.features.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_normal_(module.weight)
        nn.init.xavier_uniform_(self.readout.weight)
        nn.init.zeros_(self.readout.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Logits: (batch, 3, height, width) -> (batch, num_classes)."""
        return self.readout(self.features(images))


class _Block(nn.Module):
    """relu(convolutions(x) + shortcut(x)); the shortcut drops pixels and adds empty channels."""

    def __init__(self, channels: int, width: int, stride: int, norm: str) -> None:
        super().__init__()
        self.stride = stride
        self.added_channels = width - channels
        self.first = _convolution(channels, width, stride, norm)
        self.second = _convolution(width, width, 1, norm)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.second(F.relu(self.first(x)))
        if self.stride > 1:
            x = x[:, :, :: self.stride, :: self.stride]
        if self.added_channels:
            before = self.added_channels // 2
            x = F.pad(x, (0, 0, 0, 0, before, self.added_channels - before))
        return F.relu(branch + x)


def _convolution(channels: int, width: int, stride: int, norm: str) -> nn.Sequential:
    """A 3 x 3 convolution that keeps the resolution at stride 1, and its normalisation."""
    layers = OrderedDict(conv=nn.Conv2d(channels, width, 3, stride, padding=1, bias=False))
    if norm == "batch":
        layers["norm"] = nn.BatchNorm2d(width)
    return nn.Sequential(layers)
