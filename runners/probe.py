"""Probes: measurements on any optimizer's run that never change its numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from optimizers.linalg.window import LowRankWindow
from runners.records import RecordWriter, spectrum_row


class GradientWindow:
    """Keeps the last r gradients and records the spectrum of their Gram matrix G^T G.

    The same quantity for every optimizer, so that curvature can be compared across methods (GGT
    paper, section 3.4, records it for GGT alone). Costs one pass over r x d numbers a step, outside
    the training clock. Gradients are taken as the loss gives them, before clipping.

    Args:
        window: r, gradients kept; >= 1.
        every: steps between recorded spectra; >= 1.
    Raises:
        ValueError: if either is below 1.
    """

    NAME = "gradient_window"

    def __init__(self, window: int = 100, every: int = 10):
        for name, value in (("window", window), ("every", every)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"probe.{name} must be an integer >= 1, got {value!r}")
        self.size, self.every = window, every
        self.window: LowRankWindow | None = None
        self.skipped = 0

    def attach(self, parameters: list[Tensor]) -> None:
        """Make the window for a model's parameters, in float32 on their device."""
        dim = sum(p.numel() for p in parameters)
        self.window = LowRankWindow.create(
            self.size, dim, dtype=torch.float32, device=parameters[0].device
        )

    def observe(self, parameters: list[Tensor], step: int, writer: RecordWriter) -> None:
        """Take the gradients of a step, and record their spectrum when it is due.

        A gradient that is not finite is left out and counted among the fallbacks.
        """
        gradient = torch.cat(
            [(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in parameters]
        ).float()
        if torch.isfinite(gradient @ gradient):
            self.window.push(gradient)
        else:
            self.skipped += 1
        if step % self.every == 0 and self.window.num_filled:
            eigenvalues = self.window.eigenvalues().tolist()
            resolution = self.window.resolution * eigenvalues[-1]
            row = spectrum_row(
                step, self.NAME, "gram", eigenvalues, resolution, float("nan"), self.skipped
            )
            writer.add("spectra", row)

    def state_dict(self) -> dict[str, Any]:
        return {"window": self.window.state, "skipped": self.skipped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        device = self.window.state["rows"].device
        saved = {k: v.clone() if isinstance(v, Tensor) else v for k, v in state["window"].items()}
        saved["rows"] = saved["rows"].to(device)
        self.window = LowRankWindow(saved)
        self.skipped = state["skipped"]
