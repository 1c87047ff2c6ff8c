"""What run.py makes of a configuration: everything that one run needs, built but not begun."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from runners import identity
from runners.settings import Place, Settings
from runners.train import NUMERICS_VERSION


@dataclass
class Job:
    """One run to be made.

    Attributes:
        task, schedule, probe, tracker: built, but nothing loaded or started yet.
        make_optimizer: model -> optimizer.
        optimizer_version: the optimizer's `numerics_version`.
        member_versions: those of further optimizers that group rules name, by rule.
        config: the resolved configuration that can change numbers.
        describe_groups: (optimizer, model) -> the parameter groups as plain data.
        quiet: one of many jobs: no preflight, and a bar only where one is asked for.
    """

    task: Any
    make_optimizer: Callable[[torch.nn.Module], torch.optim.Optimizer]
    optimizer_version: int
    schedule: Any
    probe: Any
    tracker: Any
    settings: Settings
    place: Place
    config: dict[str, Any]
    describe_groups: Callable[[torch.optim.Optimizer, torch.nn.Module], list[dict]]
    quiet: bool = False
    member_versions: Mapping[str, int] = field(default_factory=dict)

    @property
    def numerics_versions(self) -> dict[str, int]:
        return {
            "runner": NUMERICS_VERSION,
            "task": self.task.numerics_version,
            "optimizer": self.optimizer_version,
            **self.member_versions,
        }

    @property
    def run_id(self) -> str:
        return identity.run_id(self.config, self.task.data_hash(), self.numerics_versions)
