"""Fully connected autoencoders."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from tasks.checks import check_integers


class Autoencoder(nn.Module):
    """An MLP to a narrow code and back through the mirrored widths.

    ReLU between layers; the code and the output are linear. Layers keep torch's own start.

    Args:
        widths: of the input, the hidden layers and the code, in this order; the decoder
            mirrors them.

    Raises:
        ValueError: for fewer than two widths, or one below 1.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        check_integers("widths", widths, "be two or more integers >= 1", least=2)
        self.encoder = _mlp(widths)
        self.decoder = _mlp(widths[::-1])

    def forward(self, inputs: Tensor) -> Tensor:
        """Reconstructions: (batch, widths[0]) -> (batch, widths[0])."""
        return self.decoder(self.encoder(inputs))


def _mlp(widths: Sequence[int]) -> nn.Sequential:
    """Linear layers from each width to the next, with a ReLU after all but the last."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for index, (inputs, outputs) in enumerate(pairwise(widths), start=1):
        if index > 1:
            layers[f"relu{index - 1}"] = nn.ReLU()
        layers[f"linear{index}"] = nn.Linear(inputs, outputs)
    return nn.Sequential(layers)
