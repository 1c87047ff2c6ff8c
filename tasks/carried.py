"""State that a recurrent model carries from batch to batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tasks.base import Batch


class CarriedState:
    """The state between consecutive batches of an epoch, detached (truncated back-propagation).

    An epoch begins without a state. A batch that is given again (a closure called twice) starts
    from the same state again; the next batch starts where this one ended.

    Args:
        names: of a state's tensors, for checkpoints.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.reset()

    def enter(self, batch: Batch) -> tuple[Tensor, ...] | None:
        """The state that a batch starts from; None for zeros."""
        position = (batch.epoch, batch.index)
        if position != self._position:
            self._entering = self._leaving if batch.index > 0 else None
            self._position = position
        return self._entering

    def leave(self, state: Sequence[Tensor]) -> None:
        """Keep the state after the batch that was entered last."""
        self._leaving = tuple(tensor.detach() for tensor in state)

    def reset(self) -> None:
        """Forget everything: the next batch starts from zeros."""
        self._position: tuple[int, int] | None = None
        self._entering: tuple[Tensor, ...] | None = None
        self._leaving: tuple[Tensor, ...] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Position of the last batch, and the state before and after it where there is one."""
        saved: dict[str, Any] = {}
        if self._position is not None:
            saved["epoch"], saved["index"] = self._position
        for end, state in (("entering", self._entering), ("leaving", self._leaving)):
            if state is not None:
                saved.update(
                    {f"{end}_{name}": t for name, t in zip(self.names, state, strict=True)}
                )
        return saved

    def load_state_dict(self, saved: dict[str, Any], device: torch.device) -> None:
        """Restore what `state_dict` returned, on the device of the text."""
        self.reset()
        if "epoch" in saved:
            self._position = (saved["epoch"], saved["index"])
        self._entering = self._restored(saved, "entering", device)
        self._leaving = self._restored(saved, "leaving", device)

    def _restored(
        self, saved: dict[str, Any], end: str, device: torch.device
    ) -> tuple[Tensor, ...] | None:
        if f"{end}_{self.names[0]}" not in saved:
            return None
        return tuple(saved[f"{end}_{name}"].to(device) for name in self.names)
