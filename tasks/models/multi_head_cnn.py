"""A convolutional network with a read-out for each task of a stream."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from tasks.checks import check_sizes

NUM_CONVS = 3
RESOLUTION = 32 // 2**NUM_CONVS


class MultiHeadCNN(nn.Module):
    """Three 3 x 3 convolutions of stride 2, two linear layers, a linear head for each task.

    ReLU after all but the heads, biases everywhere, for images of 32 x 32 pixels: KrADagrad's
    network for Split CIFAR-100 is the one of Avalanche's baselines, with 160 channels and 320
    hidden units. The first layers start from He's normal values and biases 0, as La-MAML's code
    sets them; heads, which that code makes later, keep torch's own start. All are there from the
    start here.

    Args:
        width: channels of every convolution.
        hidden: units of both linear layers.
        num_tasks: heads.
        num_classes: outputs of a head.
    Raises:
        ValueError: for sizes below 1.
    """

    def __init__(self, width: int, hidden: int, num_tasks: int, num_classes: int) -> None:
        super().__init__()
        check_sizes(
            {"width": width, "hidden": hidden, "num_tasks": num_tasks, "num_classes": num_classes}
        )
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        channels = 3
        for index in range(1, NUM_CONVS + 1):
            layers[f"conv{index}"] = nn.Conv2d(channels, width, 3, stride=2, padding=1)
            layers[f"relu{index}"] = nn.ReLU()
            channels = width
        layers["flatten"] = nn.Flatten()
        inputs = width * RESOLUTION**2
        for index in (1, 2):
            layers[f"linear{index}"] = nn.Linear(inputs, hidden)
            layers[f"relu{NUM_CONVS + index}"] = nn.ReLU()
            inputs = hidden
        self.features = nn.Sequential(layers)
        self.heads = nn.ModuleList(nn.Linear(hidden, num_classes) for _ in range(num_tasks))
        for layer in self.features:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor, tasks: Tensor) -> Tensor:
        """Logits of each image's own task.

        Args:
            images: shape (batch, 3, 32, 32).
            tasks: of each image, (batch,), int64.
        Returns:
            Shape (batch, num_classes).
        """
        features = self.features(images)
        weight = torch.stack([head.weight for head in self.heads])[tasks]
        bias = torch.stack([head.bias for head in self.heads])[tasks]
        return torch.baddbmm(bias[:, :, None], weight, features[:, :, None]).squeeze(2)
