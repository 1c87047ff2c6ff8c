"""Fully connected autoencoders."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from tasks.checks import check_integers
from tasks.models.mlp import mlp


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
        self.encoder = mlp(widths)
        self.decoder = mlp(widths[::-1])

    def forward(self, inputs: Tensor) -> Tensor:
        """Reconstructions: (batch, widths[0]) -> (batch, widths[0])."""
        return self.decoder(self.encoder(inputs))
