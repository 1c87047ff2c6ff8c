"""Time the steps of several optimizers in turns, and divide a step into its parts."""

from __future__ import annotations

import functools
import statistics
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from optimizers import state_bytes

Clock = Callable[[], float]
Parts = Mapping[str, Sequence[tuple[Any, str]]]

# What torch's debug mode says at each; turning it on warns too, in other words.
SYNCHRONISES = "called a synchronizing CUDA operation"
NUM_GRADIENTS = 4  # sets of random gradients, used over and over: making them is nobody's time


@dataclass(frozen=True)
class Contender:
    """An optimizer of the comparison.

    Attributes:
        name: what the table calls it.
        make: builds it over a list of parameters.
        parts: for "statistics" and "roots", the functions whose time it is, each a class or
            module and a name in it; what is left of a step is "application". Empty: not divided.
    """

    name: str
    make: Callable[[list[nn.Parameter]], torch.optim.Optimizer]
    parts: Parts = field(default_factory=dict)


@dataclass(frozen=True)
class Timing:
    """What was measured of one contender.

    Attributes:
        amortised: median over the rounds of the mean seconds a step.
        worst: median over the rounds of the slowest step's seconds.
        shares: part -> its share of the time of a round; empty where it was not divided.
        state_bytes: bytes of the state.
        syncs: host synchronisations a step; None off CUDA.
    """

    amortised: float
    worst: float
    shares: dict[str, float]
    state_bytes: int
    syncs: float | None


class Runner:
    """One contender with parameters and gradients of its own.

    Args:
        contender: what to run.
        model: the parameters are copies of its own.
        gradients: sets of gradients that the steps take in turns.
        clock: seconds from some origin.
    """

    def __init__(
        self,
        contender: Contender,
        model: nn.Module,
        gradients: Sequence[Sequence[Tensor]],
        clock: Clock,
    ) -> None:
        self.contender = contender
        self.clock = clock
        self.parameters = [
            nn.Parameter(parameter.detach().clone()) for parameter in model.parameters()
        ]
        self.gradients = gradients
        self.buffers = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.step_number = 0
        self.optimizer = contender.make(self.parameters)

    def give_gradients(self) -> None:
        """Put the next set in place: a copy, for some optimizers write into it or drop it."""
        chosen = self.gradients[self.step_number % len(self.gradients)]
        torch._foreach_copy_(self.buffers, list(chosen))
        for parameter, buffer in zip(self.parameters, self.buffers, strict=True):
            parameter.grad = buffer
        self.step_number += 1

    def step(self) -> float:
        """Seconds of one step; its gradients are in place before the clock starts."""
        self.give_gradients()
        synchronise(self.parameters[0].device)
        start = self.clock()
        self.optimizer.step()
        synchronise(self.parameters[0].device)
        return self.clock() - start


def time_in_turns(
    contenders: Sequence[Contender],
    model: nn.Module,
    *,
    period: int,
    num_warmup: int,
    num_rounds: int,
    clock: Clock = perf_counter,
    seed: int = 0,
) -> dict[str, Timing]:
    """Time the contenders, each for a period in its turn, over the same random gradients.

    Args:
        contenders: the optimizers.
        model: gives the shapes, the dtype and the device.
        period: steps in a turn: a period of the roots, so that every turn holds one refresh.
        num_warmup: steps before the clock starts; a multiple of `period`.
        num_rounds: turns of each contender.
        clock: seconds from some origin.
        seed: of the gradients.
    """
    gradients = random_gradients(model, seed)
    runners = [Runner(contender, model, gradients, clock) for contender in contenders]
    for runner in runners:
        for _ in range(num_warmup):
            runner.step()
    seconds: dict[str, list[list[float]]] = {runner.contender.name: [] for runner in runners}
    for _ in range(num_rounds):
        for runner in runners:
            seconds[runner.contender.name].append([runner.step() for _ in range(period)])
    return {
        runner.contender.name: Timing(
            amortised=statistics.median(map(statistics.fmean, seconds[runner.contender.name])),
            worst=statistics.median(map(max, seconds[runner.contender.name])),
            shares=shares(runner, period),
            state_bytes=bytes_of(runner.optimizer),
            syncs=host_syncs(runner, period),
        )
        for runner in runners
    }


def random_gradients(model: nn.Module, seed: int) -> list[list[Tensor]]:
    """Sets of standard normal gradients of the parameters' shapes, made on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    return [
        [
            torch.randn(parameter.shape, generator=generator).to(parameter)
            for parameter in model.parameters()
        ]
        for _ in range(NUM_GRADIENTS)
    ]


def shares(runner: Runner, period: int) -> dict[str, float]:
    """Share of each part in one more period of steps; the parts' methods are wrapped for it."""
    parts = runner.contender.parts
    if not parts:
        return {}
    spent = dict.fromkeys(parts, 0.0)
    device = runner.parameters[0].device
    with timed_parts(parts, spent, device, runner.clock):
        total = sum(runner.step() for _ in range(period))
    found = {part: seconds / total for part, seconds in spent.items()}
    return {**found, "application": 1.0 - sum(found.values())}


@contextmanager
def timed_parts(
    parts: Parts, spent: dict[str, float], device: torch.device, clock: Clock
) -> Iterator[None]:
    """Add the time inside the parts' methods to `spent`; the methods must not call each other."""
    with ExitStack() as stack:
        for part, methods in parts.items():
            for owner, name in methods:
                timed = _timed(getattr(owner, name), part, spent, device, clock)
                stack.enter_context(mock.patch.object(owner, name, timed))
        yield


def _timed(
    method: Callable[..., Any],
    part: str,
    spent: dict[str, float],
    device: torch.device,
    clock: Clock,
) -> Callable[..., Any]:
    @functools.wraps(method)
    def timed(*args: Any, **kwargs: Any) -> Any:
        synchronise(device)
        start = clock()
        try:
            return method(*args, **kwargs)
        finally:
            synchronise(device)
            spent[part] += clock() - start

    return timed


def host_syncs(runner: Runner, period: int) -> float | None:
    """Host synchronisations a step over one more period, as torch's debug mode counts them."""
    if runner.parameters[0].device.type != "cuda":
        return None
    before = torch.cuda.get_sync_debug_mode()
    count = 0
    for _ in range(period):
        runner.give_gradients()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            runner.optimizer.step()
            torch.cuda.set_sync_debug_mode(before)
        count += sum(SYNCHRONISES in str(warning.message) for warning in caught)
    return count / period


def bytes_of(optimizer: torch.optim.Optimizer) -> int:
    """`state_bytes`, for optimizers too that keep objects with tensors in their state."""
    storages = {}
    for tensor in _tensors(list(optimizer.state.values()), set()):
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
    return max(sum(storages.values()), state_bytes(optimizer))


def _tensors(value: Any, seen: set[int]) -> Iterator[Tensor]:
    """Tensors inside containers and objects, except parameters."""
    if isinstance(value, Tensor):
        if not isinstance(value, nn.Parameter):
            yield value
        return
    if id(value) in seen or isinstance(value, (str, bytes, int, float, bool, type(None), type)):
        return
    seen.add(id(value))
    if isinstance(value, Mapping):
        items = list(value.values())
    elif isinstance(value, (list, tuple, set)):
        items = list(value)
    else:
        items = list(getattr(value, "__dict__", {}).values())
    for item in items:
        yield from _tensors(item, seen)


def synchronise(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
