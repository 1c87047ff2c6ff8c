"""Models and partitions of the AdaGrad-BMA paper, counted on the project's own tasks."""

from __future__ import annotations

import torch
from torch import nn

from optimizers.common.partition import layout
from tasks.models.tanh_cnn import TanhCNN

IMAGES = {"mnist": (1, 28, 28), "cifar10": (3, 32, 32)}
SIZES = {"small": {"width": 3, "convs_per_group": 1}, "large": {"width": 32, "convs_per_group": 4}}
TABLE_3 = {"mnist": 139_370, "cifar10": 140_906}  # of the large model
PARTITIONS = ("layer", "unit", "group")


def tanh_cnn(size: str, data: str) -> TanhCNN:
    """The paper's small or large model for images of MNIST or CIFAR-10, on no device."""
    with torch.device("meta"):
        return TanhCNN(IMAGES[data], num_groups=4, num_classes=10, **SIZES[size])


def counts() -> list[dict[str, object]]:
    """Numbers of Tables 1-3 and section 4, one row each.

    case: "parameters", "layers" (with weights), "conv3x3", "maxpool2x2" and "blocks" of a
    partition; model: small or large; data: mnist or cifar10. Then the rows of `architectures`.
    """
    rows = []
    for size in SIZES:
        for data in IMAGES:
            model = tanh_cnn(size, data)
            modules = list(model.modules())
            shapes = tuple(parameter.shape for parameter in model.parameters())
            convs = [m for m in modules if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
            pools = [m for m in modules if isinstance(m, nn.MaxPool2d)]
            linears = [m for m in modules if isinstance(m, nn.Linear)]
            values = {
                "parameters": sum(shape.numel() for shape in shapes),
                "conv3x3": len(convs),
                "maxpool2x2": len(pools),
                "layers": len(convs) + len(linears),
                "twice_layers": 2 * (len(convs) + len(linears)),
            }
            labels = {"model": size, "data": data, "partition": None, "seed": 0}
            rows += [{**labels, "case": case, "value": value} for case, value in values.items()]
            rows += [
                {**labels, "case": "blocks", "partition": p, "value": layout(shapes, p).num_blocks}
                for p in PARTITIONS
            ]
    return rows + architectures()


def architectures() -> list[dict[str, object]]:
    """Parameters of plain CNNs of 32 channels by number of convolutions and of poolings.

    A row of case "architecture" for each of 1-29 convolutions and 0-5 poolings: the parameters on
    both sets, and in `fits` whether both are those of the paper's Table 3; of those that fit, value
    is the number of convolutions. Where the poolings lie does not change the counts.
    """
    rows = []
    for num_convs in range(1, 30):
        for num_pools in range(6):
            found = {}
            for data, (channels, side, _) in IMAGES.items():
                first = 9 * channels * 32 + 32
                rest = (num_convs - 1) * (9 * 32 * 32 + 32)
                for _ in range(num_pools):
                    side //= 2
                found[data] = first + rest + 32 * side * side * 10 + 10
            fits = found == {"mnist": 139_370, "cifar10": 140_906}
            fits = found == TABLE_3
            rows.append({
                "case": "architecture", "seed": len(rows), "num_convs": num_convs,
                "num_pools": num_pools, **found, "fits": fits, "value": num_convs if fits else None,
            })  # fmt: skip
    return rows


EXACT = {"bma_counts": counts}
