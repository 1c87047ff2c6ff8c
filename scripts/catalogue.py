"""What there is to be made: experiments with their costs, figures with what they are drawn from."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from runners.plan import make_plan

ROOT = Path(__file__).resolve().parent.parent
EXPERIMENTS = ROOT / "conf" / "experiment"
UNKNOWN = "unknown time"


@dataclass(frozen=True)
class Entry:
    """One experiment as its YAML tells of it.

    Attributes:
        cost: scale -> hours on two cores.
        shipped: whether its records are kept in results/; others are made where they are needed.
        scale: the scale it is made at unless another one is asked for.
        num_runs: trials and final runs together.
    """

    name: str
    cost: Mapping[str, float]
    shipped: bool
    scale: str
    num_runs: int

    def seconds(self, scale: str | None = None) -> float:
        """What it takes on two cores at a scale; inf where nobody has said it."""
        return 3600 * self.cost.get(scale or self.scale, math.inf)

    def command(self, scale: str | None = None, fresh: bool = False) -> str:
        """What makes it."""
        parts = ["python", *self.arguments(scale, fresh)]
        return " ".join(map(shlex.quote, parts))

    def arguments(self, scale: str | None = None, fresh: bool = False) -> list[str]:
        """The arguments of Python that make it."""
        more = [f"scale={scale}"] if scale else []
        return ["run.py", f"experiment={self.name}", *more, *(["force=true"] if fresh else [])]


@dataclass(frozen=True)
class NotMade:
    """A figure or table of a paper that nothing here draws.

    Attributes:
        title: the paper and its number.
        why: what is missing.
        brings: what would bring it, with what that costs.
    """

    title: str
    why: str
    brings: str

    def __str__(self) -> str:
        return f"{self.title} is not made: {self.why}; {self.brings}"


_APPENDIX = (
    "it lies in an appendix whose text was not to be had, so that what it shows is not known here",
    "the appendix would have to be found first",
)
# By the name that its module in analysis/figures would have. What is drawn together with another
# one, or for want of records not yet, does not belong here: that the figures say themselves.
NOT_MADE: Mapping[str, NotMade] = {
    "bma_table2": NotMade(
        "AdaGrad-BMA paper, Table 2", "it is drawn together with Table 1", "ask for bma_table1"
    ),
    "kradagrad_fig6": NotMade("KrADagrad paper, Fig. 6", *_APPENDIX),
    "kradagrad_fig7": NotMade("KrADagrad paper, Fig. 7", *_APPENDIX),
    "ngplus_table3": NotMade(
        "NG+ paper, Table 3", "it is drawn together with Table 2", "ask for ngplus_table2"
    ),
}


@cache
def experiment(name: str) -> Entry:
    """Read one experiment's YAML.

    Raises:
        FileNotFoundError: if there is no such experiment.
        ValueError: if it is not possible.
    """
    plain = yaml.safe_load((EXPERIMENTS / f"{name}.yaml").read_text())
    plan = make_plan(plain, None, {})
    return Entry(
        name=name,
        cost=plan.facts["cost"],
        shipped=plan.facts["shipped"],
        scale=plan.common.get("scale", "small"),
        num_runs=len(plan.trials()) + plan.num_finals(),
    )


def experiment_names() -> list[str]:
    """All experiments, sorted."""
    return sorted(path.stem for path in EXPERIMENTS.glob("*.yaml"))


def scale_of(index: Mapping[str, Any]) -> str:
    """The scale that a kept experiment was made at, from the command in its index."""
    typed = dict(item.partition("=")[::2] for item in shlex.split(index["command"])[2:])
    return typed.get("scale") or experiment(index["name"]).scale


def needs(figures: Iterable[str]) -> tuple[list[str], list[str]]:
    """The experiments and the measurements that figures are drawn from, each once."""
    experiments, measurements = {}, {}
    for name in figures:
        module = import_module(f"analysis.figures.{name}")
        experiments.update(dict.fromkeys(getattr(module, "EXPERIMENTS", ())))
        measurements.update(dict.fromkeys(getattr(module, "MEASUREMENTS", ())))
    return list(experiments), list(measurements)


def duration(seconds: float) -> str:
    """A time in words."""
    if not math.isfinite(seconds):
        return UNKNOWN
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"
