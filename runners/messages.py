"""A user's mistake in one line: what was typed, what is allowed, and what comes close."""

from __future__ import annotations

import contextlib
import difflib
import itertools
import re
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import hydra
from omegaconf import OmegaConf


def key_paths(config: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Every key of a nested mapping, dotted."""
    paths = []
    for key, value in config.items():
        path = f"{prefix}{key}"
        paths.append(path)
        if isinstance(value, Mapping):
            paths += key_paths(value, f"{path}.")
    return paths


def close(name: str, options: Iterable[str]) -> list[str]:
    """The options nearest to `name`, best first."""
    return difflib.get_close_matches(name, sorted(set(options)), n=3, cutoff=0.55)


def explain(error: BaseException, known_keys: Iterable[str]) -> str:
    """One line for an error of Hydra or OmegaConf."""
    text = str(error)
    unknown = re.search(r"Could not override '([^']+)'", text)
    if unknown:
        return unknown_key(unknown[1].split("@")[0], known_keys)
    missing = re.search(
        r"Could not find '([^']+)'(?:.*?Available options[^:]*:\n(.*))?", text, re.S
    )
    if missing:
        group, _, name = missing[1].rpartition("/")
        lines = (missing[2] or "").splitlines()
        options = [x.strip() for x in itertools.takewhile(lambda x: x.startswith("\t"), lines)]
        near = close(name, options)
        hint = f"; close matches: {', '.join(near)}" if near else ""
        return f"unknown {group} '{name}'{hint}; available: {', '.join(options) or 'none'}"
    key = re.search(r"Key '([^']+)' is not in struct\s+full_key: (\S+)", text)
    if key:
        return unknown_key(key[2], known_keys)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "; ".join(lines[:2]) or type(error).__name__


def unknown_key(key: str, known_keys: Iterable[str]) -> str:
    """The line for an option that does not exist."""
    near = close(key, set(known_keys) - {key})
    hint = f"; close matches: {', '.join(near)}" if near else "; see python run.py --help"
    return f"unknown option '{key}'{hint}"


def first_line(error: BaseException) -> str:
    """The first line of an error's text; its type where it has none."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].strip() if lines else type(error).__name__


def cause(error: BaseException) -> str:
    """The line for what an error of `instantiate` hides, a package that is missing above all."""
    hidden = error.__cause__ or error
    missing = re.search(r"No module named '([\w.]+)'", str(hidden))
    if missing:
        return not_installed(missing[1].split(".")[0])
    return first_line(hidden)


def not_installed(package: str) -> str:
    """The line for a package that is missing, with the extra of ours that brings it."""
    wanted = re.sub(r"[-_.]+", "-", package).lower()
    try:
        requirements = metadata.requires("kappa-bench") or []
    except metadata.PackageNotFoundError:  # run from a checkout that was never installed
        requirements = []
    for requirement in requirements:
        name = re.match(r"[\w.-]+", requirement)[0]
        extra = re.search(r"extra == ['\"](\w+)['\"]", requirement)
        if extra and re.sub(r"[-_.]+", "-", name).lower() == wanted:
            return f"{package} is not installed; get it with: pip install -e '.[{extra[1]}]'"
    return f"{package} is not installed"


def known_keys(conf: Path, typed: list[str]) -> list[str]:
    """Every key of the configuration that the command line's groups compose, as far as they do."""
    groups = [path.name for path in conf.iterdir() if path.is_dir()]
    chosen = [a for a in typed if a.split("=")[0] in groups and "," not in a]
    for overrides in (chosen, []):
        with (
            contextlib.suppress(Exception),
            hydra.initialize_config_dir(str(conf), version_base="1.3"),
        ):
            cfg = hydra.compose("config", overrides)
            return groups + key_paths(OmegaConf.to_container(cfg))
    return groups
