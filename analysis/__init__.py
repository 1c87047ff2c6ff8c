"""From records to figures. Reads runs only through `runners.records`.

`load_runs`, `load_steps`, `load_evals`, `load_spectra`: records as pandas data frames.
Importing this package costs nothing: pandas is imported when one of them is first asked for.
"""

from __future__ import annotations

from typing import Any

__all__ = ["load_evals", "load_runs", "load_spectra", "load_steps"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from analysis import load

        return getattr(load, name)
    raise AttributeError(f"module 'analysis' has no attribute {name!r}")
