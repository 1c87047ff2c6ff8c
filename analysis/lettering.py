"""How wide text is on paper, and text broken into lines that fit."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

POINTS_PER_INCH = 72
_LINE = 1.2  # distance of lines, in sizes of the font


@cache
def width_of(text: str, size: float, weight: str = "normal") -> float:
    """Width in inches of one line in the default font.

    Args:
        size: of the font, in points.
        weight: "normal" or "bold".
    """
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(family="DejaVu Sans", size=size, weight=weight)
    is_math = text.count("$") > 1
    width, _, _ = text_to_path.get_text_width_height_descent(text, font, is_math)
    return width / POINTS_PER_INCH


def wrapped(text: str, width: float, size: float, weight: str = "normal") -> str:
    """Break text at its spaces into lines of at most `width` inches; a longer word is kept.

    Hinting may widen text on a screen by 2 %: ask for a little less than there is.
    """
    space = width_of("n n", size, weight) - 2 * width_of("n", size, weight)
    lines: list[list[str]] = []
    filled = 0.0
    for word in text.split():
        own = width_of(word, size, weight)
        if lines and filled + space + own <= width:
            lines[-1].append(word)
            filled += space + own
        else:
            lines.append([word])
            filled = own
    return "\n".join(map(" ".join, lines))


def height_of(text: str, size: float) -> float:
    """Height in inches of text with all its lines; 0 for none."""
    return (text.count("\n") + 1) * _LINE * size / POINTS_PER_INCH if text else 0.0


def longest(texts: Iterable[str], size: float, weight: str = "normal") -> float:
    """Width in inches of the widest line of some texts; 0 for none."""
    lines = [line for text in texts for line in text.split("\n")]
    return max((width_of(line, size, weight) for line in lines), default=0.0)
