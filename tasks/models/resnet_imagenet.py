"""ResNet-50 v1.5 as torchvision has it, and narrower or shallower networks of the same form."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from tasks.checks import check_integers, check_sizes
from tasks.models.torchvision_ops import import_torchvision

STANDARD_WIDTH = 64


class ResNetImageNet(nn.Module):
    """A residual network of bottlenecks [He et al. 2015], the stride in the 3 x 3 convolution.

    A 7 x 7 convolution to `width` channels at half the resolution, BatchNorm, ReLU and a 3 x 3
    max-pooling that halves it again; four stages of torchvision's `Bottleneck` with 4, 8, 16 and
    32 times `width` channels, each but the first halving the resolution; the mean over positions
    and a linear read-out. Parameters have torchvision's names, and with width 64 and blocks
    3, 4, 6, 3 the model is `torchvision.models.resnet50(zero_init_residual=True)`, initial values
    included: convolutions from N(0, 2/(k^2 channels out)), k x k being the kernel, the last norm
    of each block from weights 0, so that a block starts as its shortcut.

    Args:
        num_classes: width of the read-out.
        width: channels of the stem, 64 in ResNet-50.
        num_blocks: in each of the four stages, 3, 4, 6, 3 in ResNet-50.
    Raises:
        ValueError: for a size that there is not.
    """

    def __init__(
        self,
        num_classes: int,
        width: int = STANDARD_WIDTH,
        num_blocks: Sequence[int] = (3, 4, 6, 3),
    ) -> None:
        super().__init__()
        check_sizes({"num_classes": num_classes, "width": width})
        wanted = "be four integers >= 1"
        check_integers("num_blocks", num_blocks, wanted, least=4, most=4)
        bottleneck = import_torchvision().models.resnet.Bottleneck
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        channels = width
        for stage, count in enumerate(num_blocks):
            inner, stride = width * 2**stage, 1 if stage == 0 else 2
            blocks = _stage(bottleneck, channels, inner, count, stride)
            setattr(self, f"layer{stage + 1}", blocks)
            channels = inner * bottleneck.expansion
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, bottleneck):
                nn.init.zeros_(module.bn3.weight)

    def forward(self, images: Tensor) -> Tensor:
        """Logits: (batch, 3, height, width) -> (batch, num_classes)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


def _stage(
    bottleneck: type[nn.Module], channels: int, inner: int, count: int, stride: int
) -> nn.Sequential:
    """Blocks of 4 `inner` channels; the first takes `channels` and has a 1 x 1 shortcut."""
    outer = inner * bottleneck.expansion
    shortcut = nn.Sequential(
        nn.Conv2d(channels, outer, 1, stride, bias=False), nn.BatchNorm2d(outer)
    )
    blocks = [bottleneck(channels, inner, stride, shortcut)]
    blocks += [bottleneck(outer, inner) for _ in range(1, count)]
    return nn.Sequential(*blocks)
