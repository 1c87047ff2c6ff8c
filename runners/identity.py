"""A run's identity: a hash of everything that can change its numbers, and of nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

# At any depth: places, and the processes that read a task's data.
NOT_IDENTITY_ANYWHERE = frozenset({"data_dir", "runs_dir", "num_workers"})
# Places, progress, thread count and bookkeeping. Everything that is not listed counts, so that a
# key added later cannot be forgotten.
NOT_IDENTITY = frozenset(
    {
        "runs_dir", "data_dir", "tracking", "progress", "num_threads", "timing", "force",
        "dry_run", "checkpoint", "sweep", "experiment", "budget", "trial",
    }
)  # fmt: skip


def identity_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The resolved configuration without what cannot change numbers."""

    def strip(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {k: strip(v) for k, v in value.items() if k not in NOT_IDENTITY_ANYWHERE}
        if isinstance(value, list | tuple):
            return [strip(item) for item in value]
        return value

    kept = {key: strip(value) for key, value in config.items() if key not in NOT_IDENTITY}
    kept["device"] = str(kept.get("device", "cpu")).split(":")[0]
    return kept


def run_id(config: Mapping[str, Any], data_hash: str, numerics_versions: Mapping[str, int]) -> str:
    """Twelve hexadecimal digits that name a run.

    Args:
        config: what `identity_config` returned, with the steps it resolves to.
        data_hash: content hash of the task's data set.
        numerics_versions: versions of optimizer, task and runner, raised when numbers change.
    """
    document = {
        "config": config,
        "data_hash": data_hash,
        "numerics_versions": dict(numerics_versions),
    }
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
