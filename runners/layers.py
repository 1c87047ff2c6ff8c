"""Which layers an optimizer preconditions, and which parameters it leaves to plain momentum."""

from __future__ import annotations

import torch

from optimizers.routing import members_of
from optimizers.telemetry import DescribesLayers

# Names said at the start of a run; the manifest has them all.
MOST_NAMES = 8


def require_layers(optimizer: torch.optim.Optimizer) -> None:
    """Refuse a model that has nothing for an optimizer of layers to precondition.

    Raises:
        ValueError: naming the optimizer, or the member of a routed one, and its kinds of layers.
    """
    for member in members_of(optimizer):
        if isinstance(member, DescribesLayers):
            plain = member.describe()
            if not plain.pop("preconditioned"):
                names = some(plain["plain"])
                raise ValueError(
                    f"the model must have {member.layer_kinds} for {type(member).__name__} to "
                    f"precondition, got parameters that would all have plain momentum: {names}"
                )


def describe_layers(optimizer: torch.optim.Optimizer) -> dict[str, list[str]] | None:
    """Names of the "preconditioned" layers and of parameters left "plain", of all members.

    None where no member works layer by layer.
    """
    found = [m.describe() for m in members_of(optimizer) if isinstance(m, DescribesLayers)]
    if not found:
        return None
    return {kind: [name for one in found for name in one[kind]] for kind in found[0]}


def layers_text(layers: dict[str, list[str]]) -> str:
    """What `describe_layers` gave, in a line a kind."""
    plain = f"\nplain momentum: {some(layers['plain'])}" if layers["plain"] else ""
    return f"preconditioned: {some(layers['preconditioned'])}{plain}"


def some(names: list[str]) -> str:
    """The first names and how many there are more."""
    left = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {left} more" if left > 0 else "")
