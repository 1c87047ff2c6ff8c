"""Checkpoints: everything a run needs to go on bit for bit. Loaded without unpickling code."""

from __future__ import annotations

import pickle
import random
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from runners.records import write_atomically

FILE = "checkpoint.pt"


class CheckpointError(Exception):
    """A checkpoint that cannot be read."""


def seed_rng(seed: int) -> None:
    """Seed the global generators: Python's, NumPy's and torch's."""
    import numpy as np

    random.seed(seed)
    np.random.seed(seed % 2**32)  # NumPy takes 32 bits
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


def rng_state() -> dict[str, Any]:
    """State of the global generators, as tensors and plain numbers."""
    import numpy as np

    algorithm, keys, position, has_gauss, gauss = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": [algorithm, torch.from_numpy(keys.copy()), position, has_gauss, gauss],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def restore_rng(state: dict[str, Any]) -> None:
    """Set the global generators to a state made by `rng_state`."""
    import numpy as np

    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))
    algorithm, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((algorithm, keys.numpy(), position, has_gauss, gauss))
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])


def save(run_dir: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint; the one before stays intact until the new one is complete.

    Raises:
        OSError: if it cannot be written.
    """

    def write(path: Path) -> None:
        # torch.save covers a full disk with a RuntimeError of its own; given a file object it keeps
        # the operating system's error as that one's context.
        with path.open("wb") as file:
            try:
                torch.save(state, file)
            except RuntimeError as error:
                if isinstance(error.__context__, OSError):
                    raise OSError(*error.__context__.args, str(run_dir / FILE)) from error
                raise

    write_atomically(run_dir / FILE, write)


def load(run_dir: Path) -> dict[str, Any] | None:
    """Read a run's checkpoint; None if it has none.

    Raises:
        CheckpointError: if the file is damaged or holds anything but tensors and plain values.
    """
    path = run_dir / FILE
    if not path.exists():
        return None
    try:
        return torch.load(path, weights_only=True, map_location="cpu")
    except (RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path} cannot be read ({first}); delete it to start again"
        ) from None


def remove(run_dir: Path) -> None:
    """Delete a run's checkpoint, if it has one."""
    (run_dir / FILE).unlink(missing_ok=True)


class Timer:
    """Says when a checkpoint is due.

    By steps where that is set. Otherwise by time: at least `seconds` after the one before, and
    at least twenty times as long as it took to write, so that large windows cost at most 5 %.
    """

    def __init__(self, seconds: float, steps: int | None):
        self.seconds = seconds
        self.steps = steps
        self._last = perf_counter()
        self._cost = 0.0

    def due(self, step: int) -> bool:
        if self.steps:
            return step % self.steps == 0
        return perf_counter() - self._last >= max(self.seconds, 20 * self._cost)

    def written(self, cost: float) -> None:
        """Note that a checkpoint took `cost` seconds to write."""
        self._cost = cost
        self._last = perf_counter()
