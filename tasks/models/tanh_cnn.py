"""Plain convolutional networks of equal layers with tanh."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from tasks.checks import check_integers, check_sizes


class TanhCNN(nn.Module):
    """Groups of 3 x 3 convolutions with tanh, each group halving the image, and a read-out.

    Every convolution has `width` channels, keeps the resolution and has a bias; a 2 x 2
    max-pooling, which drops an odd last row and column, ends a group.

    Args:
        image_shape: (channels, height, width) of the images.
        width: channels of every convolution.
        num_groups: groups, hence poolings.
        convs_per_group: convolutions in a group.
        num_classes: width of the read-out.

    Raises:
        ValueError: for sizes below 1, or an image that the poolings leave nothing of.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        width: int,
        num_groups: int,
        convs_per_group: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        check_sizes(
            {
                "width": width,
                "num_groups": num_groups,
                "convs_per_group": convs_per_group,
                "num_classes": num_classes,
            }
        )
        wanted = "be three integers >= 1, channels, height and width"
        check_integers("image_shape", image_shape, wanted, least=3, most=3)
        channels, *resolution = image_shape
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for group in range(1, num_groups + 1):
            for index in range(1, convs_per_group + 1):
                layers[f"conv{group}_{index}"] = nn.Conv2d(channels, width, 3, padding=1)
                layers[f"tanh{group}_{index}"] = nn.Tanh()
                channels = width
            layers[f"pool{group}"] = nn.MaxPool2d(2)
            resolution = [side // 2 for side in resolution]
        if min(resolution) < 1:
            raise ValueError(
                f"num_groups must leave a pixel of {tuple(image_shape)}, got {num_groups}"
            )
        layers["flatten"] = nn.Flatten()
        self.features = nn.Sequential(layers)
        self.readout = nn.Linear(width * resolution[0] * resolution[1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits: (batch, *image_shape) -> (batch, num_classes)."""
        return self.readout(self.features(images))
