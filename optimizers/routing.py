"""Several optimizers behind the contract of one, each with its own share of the parameters."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from optimizers.base import require
from optimizers.capture.record import RecordsSamples
from optimizers.telemetry import ReportsSpectra, Spectrum


class Routed(torch.optim.Optimizer):
    """Optimizers that step together: what a group rule with a `cls` of its own makes.

    `param_groups` are the members' own dicts, the first member's first, so that a scheduler acts
    on all of them. `state` is a view: keys of a member that are no parameters are prefixed by its
    number ("1.window"), and what is written into the view itself is lost. `state_dict` has the
    usual form; each member restores its share by its own rules, so exactly where it does so alone.

    Args:
        members: two or more optimizers without a parameter in common.
    Raises:
        ValueError: if there are fewer, if two share a parameter, or if a member needs a closure:
            its search would see the moves of the others.
    """

    def __init__(self, members: Sequence[torch.optim.Optimizer]) -> None:
        members = tuple(members)
        require(len(members) >= 2, "members", "two optimizers or more", len(members))
        for member in members:
            alone = getattr(member, "needs_closure", False)
            name = type(member).__name__
            require(not alone, "a routed optimizer", "one that needs no closure", name)
        count = Counter(id(p) for m in members for g in m.param_groups for p in g["params"])
        most = max(count.values())
        require(most == 1, "a parameter", "in one optimizer only", f"one in {most}")
        # Not the base's __init__: it would make groups and state beside those of the members.
        super().__setstate__({"members": members, "defaults": dict(members[0].defaults)})

    def __getstate__(self) -> dict[str, Any]:
        return {"members": self.members, "defaults": self.defaults}

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for member in self.members for group in member.param_groups]

    @property
    def state(self) -> defaultdict[Any, Any]:
        view: defaultdict[Any, Any] = defaultdict(dict)
        for index, member in enumerate(self.members):
            for key, value in member.state.items():
                view[key if isinstance(key, Tensor) else f"{index}.{key}"] = value
        return view

    @property
    def num_fallbacks(self) -> int | None:
        """Those of all members that count theirs; None if none does."""
        counts = [getattr(member, "num_fallbacks", None) for member in self.members]
        known = [count for count in counts if count is not None]
        return sum(known) if known else None

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Step all members on the gradients that one call of the closure leaves."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for member in self.members:
            member.step()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        for member in self.members:
            member.zero_grad(set_to_none)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Give parameters to the first member; for another one, call it on `members[i]`."""
        self.members[0].add_param_group(param_group)

    def state_dict(self) -> dict[str, Any]:
        for hook in self._optimizer_state_dict_pre_hooks.values():
            hook(self)
        whole: dict[str, Any] = {"state": {}, "param_groups": []}
        start = 0
        for index, member in enumerate(self.members):
            saved = dict(member.state_dict())
            groups, state = saved.pop("param_groups"), saved.pop("state")
            for key, value in state.items():
                whole["state"][start + key if isinstance(key, int) else f"{index}.{key}"] = value
            for group in groups:
                whole["param_groups"].append(
                    {**group, "params": [start + key for key in group["params"]]}
                )
            whole.update({f"{index}.{key}": value for key, value in saved.items()})
            start += _num_parameters(groups)
        for hook in self._optimizer_state_dict_post_hooks.values():
            changed = hook(self, whole)
            whole = whole if changed is None else changed
        return whole

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore every member.

        Raises:
            ValueError: if the number of parameter groups differs, or a member refuses its share.
        """
        whole = dict(state_dict)
        for hook in self._optimizer_load_state_dict_pre_hooks.values():
            changed = hook(self, whole)
            whole = whole if changed is None else changed
        groups, own = list(whole.pop("param_groups")), len(self.param_groups)
        require(len(groups) == own, "the saved state's parameter groups", str(own), len(groups))
        state, start = whole.pop("state"), 0
        for index, member in enumerate(self.members):
            taken = groups[: len(member.param_groups)]
            groups = groups[len(taken) :]
            end = start + _num_parameters(taken)
            share: dict[str, Any] = _prefixed(whole, f"{index}.")
            share["param_groups"] = [
                {**group, "params": [key - start for key in group["params"]]} for group in taken
            ]
            share["state"] = _prefixed(state, f"{index}.")
            for key, value in state.items():
                if isinstance(key, int) and start <= key < end:
                    share["state"][key - start] = value
            member.load_state_dict(share)
            start = end
        for hook in self._optimizer_load_state_dict_post_hooks.values():
            hook(self)

    def spectra(self) -> list[Spectrum]:
        """All members' spectra; a name that two members use is prefixed by the member's number."""
        found = [
            (index, spectrum)
            for index, member in enumerate(self.members)
            if isinstance(member, ReportsSpectra)
            for spectrum in member.spectra()
        ]
        count = Counter(spectrum.name for _, spectrum in found)
        return [
            replace(s, name=f"{index}.{s.name}") if count[s.name] > 1 else s for index, s in found
        ]


class RoutedWithSamples(Routed):
    """The same where members refresh their curvature from per-sample information."""

    def wants_samples(self) -> bool:
        """Whether the coming step of any member refreshes its curvature."""
        return any(member.wants_samples() for member in self._recording())

    @contextlib.contextmanager
    def record(self, num_samples: int, batch_dim: int, weights: Tensor) -> Iterator[None]:
        """Let every member that wants samples record those of the pass inside."""
        with contextlib.ExitStack() as stack:
            for member in self._recording():
                if member.wants_samples():
                    stack.enter_context(member.record(num_samples, batch_dim, weights))
            yield

    def _recording(self) -> list[Any]:
        return [member for member in self.members if isinstance(member, RecordsSamples)]


def route(members: Sequence[torch.optim.Optimizer]) -> torch.optim.Optimizer:
    """Join optimizers into one; a single one stays what it is."""
    if len(members) == 1:
        return members[0]
    recording = any(isinstance(member, RecordsSamples) for member in members)
    return (RoutedWithSamples if recording else Routed)(members)


def members_of(optimizer: torch.optim.Optimizer) -> tuple[torch.optim.Optimizer, ...]:
    """The members of a `Routed`, or the optimizer itself."""
    return getattr(optimizer, "members", (optimizer,))


def _num_parameters(groups: Sequence[dict[str, Any]]) -> int:
    return sum(len(group["params"]) for group in groups)


def _prefixed(items: dict[Any, Any], prefix: str) -> dict[Any, Any]:
    """The items whose key is text with this prefix, without the prefix."""
    return {
        key.removeprefix(prefix): value
        for key, value in items.items()
        if isinstance(key, str) and key.startswith(prefix)
    }
