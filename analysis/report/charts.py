"""Small charts as SVG: lines over one or two axes, drawn here so that a page may hold hundreds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from analysis import looks
from analysis.report.markup import Raw, html, join, tag

WIDTH, HEIGHT = 330, 210
LEFT, RIGHT, TOP, BOTTOM = 58, 10, 12, 38
# More than a decade: values that span more are read better on a logarithmic axis.
WIDE = 15.0


@dataclass(frozen=True)
class Line:
    """One curve: its name, its points, and how it is drawn; not finite values leave gaps."""

    label: str
    xs: Sequence[float]
    ys: Sequence[float]
    color: str = "#000"
    dash: str = ""
    mark: tuple[float, float] | None = None
    most: float = math.inf


def label(method: str) -> str:
    """A method's name as figures have it."""
    return str(looks.line(method)["label"])


def line_of(
    method: str, xs: Sequence[float], ys: Sequence[float], mark: tuple[float, float] | None = None
) -> Line:
    """A method's curve, in the colour and the dashes that it has in every figure."""
    look = looks.line(method)
    style = look["linestyle"]
    dash = "" if isinstance(style, str) else " ".join(f"{1.2 * part:g}" for part in style[1])
    return Line(label(method), list(xs), list(ys), str(look["color"]), dash, mark)


@dataclass(frozen=True)
class Axis:
    """A linear or logarithmic map from values to a coordinate."""

    low: float
    high: float
    log: bool
    start: float
    end: float

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            value, low, high = math.log10(value), math.log10(low), math.log10(high)
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def shows(self, value: float) -> bool:
        return math.isfinite(value) and (value > 0 or not self.log)

    def ticks(self) -> list[float]:
        """Between two and seven round values inside the axis."""
        if self.log:
            first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
            if last - first >= 1:
                step = max(1, math.ceil((last - first) / 5))
                return [10.0**power for power in range(first, last + 1, step)]
        span = self.high - self.low
        step = 10 ** math.floor(math.log10(span / 3))
        step = next(step * m for m in (1, 2, 5, 10) if span / (step * m) <= 6)
        first = math.ceil(self.low / step)
        return [k * step for k in range(first, math.floor(self.high / step + 1e-9) + 1)]


def axis(values: Sequence[float], start: float, end: float, log: bool | None = None) -> Axis:
    """An axis that holds all finite values with a small margin."""
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=1.0)
    if log is None:
        log = low > 0 and high > WIDE * low
    if log:
        ratio = max(high / low, 1.01) ** 0.04
        return Axis(low / ratio, high * ratio, True, start, end)
    margin = 0.04 * (high - low) or 0.5 * abs(high) or 0.5
    return Axis(low - margin, high + margin, False, start, end)


def chart(
    lines: Sequence[Line],
    xlabel: str,
    ylabel: str,
    title: str = "",
    log_x: bool | None = None,
    log_y: bool | None = None,
    most: float = math.inf,
) -> Raw:
    """Draw curves with their legend below; empty where no curve has a finite value.

    Args:
        log_x, log_y: whether an axis is logarithmic; None: where its values span a lot.
        most: the end of the upward axis; what is larger, or infinite, lies on it as a hollow dot.
            Without it infinite values leave gaps.

    A mark is a larger dot on its curve: the point that was chosen.
    """
    lines = [replace(line, ys=[min(y, most) for y in line.ys], most=most) for line in lines]
    points = [(x, y) for line in lines for x, y in zip(line.xs, line.ys, strict=True)]
    points = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    if not points:
        return Raw("")
    across = axis([x for x, _ in points], LEFT, WIDTH - RIGHT, log_x)
    up = axis([y for _, y in points], HEIGHT - BOTTOM, TOP, log_y)
    parts = [*_frame(across, up, xlabel, ylabel), *(_curve(line, across, up) for line in lines)]
    svg = tag(
        "svg", join(parts, ""), viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=title,
        class_="chart",
    )  # fmt: skip
    keys = [tag("span", join([_sample(line), html(line.label)], " ")) for line in lines]
    caption = tag("figcaption", title) if title else ""
    return tag("figure", join([caption, svg, tag("div", join(keys, " "), class_="keys")]))


def _frame(across: Axis, up: Axis, xlabel: str, ylabel: str) -> list[Raw]:
    left, right, bottom, top = LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM, TOP
    parts = []
    for value in across.ticks():
        x = f"{across(value):.1f}"
        parts.append(tag("path", d=f"M{x} {top}V{bottom}", class_="grid"))
        parts.append(_text(_plain(value), x, bottom + 13, "middle"))
    for value in up.ticks():
        y = up(value)
        parts.append(tag("path", d=f"M{left} {y:.1f}H{right}", class_="grid"))
        parts.append(_text(_plain(value), left - 4, f"{y + 3:.1f}", "end"))
    parts.append(tag("path", d=f"M{left} {top}V{bottom}H{right}", class_="axis"))
    parts.append(_text(xlabel, (left + right) / 2, HEIGHT - 6, "middle"))
    middle = (top + bottom) / 2
    turned = f"rotate(-90 11 {middle})"
    parts.append(tag("text", ylabel, x=11, y=middle, text_anchor="middle", transform=turned))
    return parts


def _text(text: str, x: Any, y: Any, anchor: str) -> Raw:
    return tag("text", text, x=x, y=y, text_anchor=anchor)


def _plain(value: float) -> str:
    if value == 0:
        return "0"
    if abs(value) >= 1e5 or abs(value) < 1e-3:
        return f"{value:.0e}".replace("e-0", "e−").replace("e-", "e−").replace("e+0", "e")
    return f"{value:g}".replace("-", "−")


def _curve(line: Line, across: Axis, up: Axis) -> Raw:
    path, dots, pen = [], [], "M"
    for x, y in zip(line.xs, line.ys, strict=True):
        if not (across.shows(x) and up.shows(y)):
            pen = "M"
            continue
        path.append(f"{pen}{across(x):.1f} {up(y):.1f}")
        pen = "L"
        if len(line.xs) <= 30:
            hollow = "hollow" if y >= line.most else None
            at = {"cx": f"{across(x):.1f}", "cy": f"{up(y):.1f}"}
            dots.append(tag("circle", **at, r=2.6 if hollow else 1.8, class_=hollow))
    style = f"stroke:{line.color};fill:{line.color}"
    curve = tag("path", d="".join(path), class_="line", stroke_dasharray=line.dash or None)
    if line.mark and across.shows(line.mark[0]) and up.shows(line.mark[1]):
        x, y = across(line.mark[0]), up(line.mark[1])
        dots.append(tag("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=4.5, class_="mark"))
    return tag("g", join([curve, *dots], ""), style=style)


def _sample(line: Line) -> Raw:
    style = f"stroke:{line.color}"
    path = tag("path", d="M0 5H24", class_="line", stroke_dasharray=line.dash or None, style=style)
    return tag("svg", path, viewBox="0 0 24 10", width=24, height=10, aria_hidden="true")
