"""HTML from plain values; every text is escaped here and nowhere else."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, NamedTuple


class Raw(str):
    """Text that is HTML already."""


class Cell(NamedTuple):
    """A cell with what it is sorted by, where that is not its text."""

    content: Any
    key: Any


def html(value: Any) -> Raw:
    """A value as HTML: escaped, unless it is `Raw`."""
    if isinstance(value, Raw):
        return value
    return Raw("" if value is None else escape(str(value)))


def tag(name: str, content: Any = "", **attributes: Any) -> Raw:
    """One element. `class_` stands for `class` and `data_x` for `data-x`; None leaves one out.

    A value of True gives an attribute without a value.
    """
    parts = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        parts.append(key if value is True else f'{key}="{escape(str(value))}"')
    return Raw(f"<{' '.join(parts)}>{html(content)}</{name}>")


def join(parts: Iterable[Any], between: str = "\n") -> Raw:
    """Elements one after the other; empty ones are left out."""
    return Raw(between.join(html(part) for part in parts if part not in (None, "")))


def table(header: Sequence[str], rows: Sequence[Sequence[Any]], numeric: Sequence[int] = ()) -> Raw:
    """A table that scrolls in itself where the page is narrow.

    Args:
        numeric: the columns that are aligned to the right.
    """
    if not rows:
        return Raw("")

    def line(name: str, cells: Sequence[Any]) -> Raw:
        made = [tag(name, c, class_="n" if i in numeric else None) for i, c in enumerate(cells)]
        return tag("tr", join(made, ""))

    head = tag("thead", line("th", header))
    body = tag("tbody", join((line("td", row) for row in rows), "\n"))
    return tag("div", tag("table", join([head, body])), class_="scroll", tabindex="0")


def details(summary: Any, content: Any, **attributes: Any) -> Raw:
    """A part that opens on demand; empty without content."""
    if not content:
        return Raw("")
    return tag("details", join([tag("summary", summary), content]), **attributes)


def code(text: str) -> Raw:
    """A command or a name as it is typed."""
    return tag("code", text)


def number(value: Any, digits: int = 4) -> str:
    """A number for reading: a dash where there is none, words where it is not finite."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float) and math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.{digits}g}".replace("-", "−") if isinstance(value, float) else str(value)


def seconds(value: float | None) -> str:
    """A time in the unit that suits it."""
    if value is None or not math.isfinite(value):
        return "–"
    for limit, factor, unit in ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms"), (120.0, 1.0, "s")):
        if value < limit:
            return f"{value * factor:.3g} {unit}"
    return f"{value / 60:.3g} min" if value < 7200 else f"{value / 3600:.3g} h"


def size(num_bytes: float | None) -> str:
    """A number of bytes in the unit that suits it."""
    if num_bytes is None or not math.isfinite(num_bytes):
        return "–"
    for unit in ("B", "KiB", "MiB"):
        if num_bytes < 1024:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.3g} GiB"


def share(value: float | None) -> str:
    """A share in per cent."""
    return "–" if value is None or not math.isfinite(value) else f"{100 * value:.0f} %"
