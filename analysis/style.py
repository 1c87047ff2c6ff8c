"""The one style of all figures: sizes for print, one look for each optimizer, captions.

Nothing happens at import: matplotlib's settings change only inside `context()`.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.looks import (
    ALIASES,
    BLACK,
    BLUE,
    BROWN,
    GREEN,
    LOOKS,
    OLIVE,
    ORANGE,
    PURPLE,
    SKY,
    SPARE_COLOURS,
    VERMILLION,
    WINE,
    Look,
    line,
    lines,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "ALIASES", "BLACK", "BLUE", "BROWN", "CAPTION_COLOR", "COLUMN_WIDTH", "GREEN", "LOOKS", "OLIVE",
    "ORANGE", "PAGE_WIDTH", "PURPLE", "SKY", "SPARE_COLOURS", "VERMILLION", "WINE", "Look",
    "context", "footnote", "head", "head_of", "legend_below",
    "line", "lines", "num_legend_rows", "save",
]  # fmt: skip

# Widths in inches of one and of two columns of a two-column page.
COLUMN_WIDTH, PAGE_WIDTH = 3.4, 7.0
CAPTION_COLOR = "0.45"

_SETTINGS = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.labelsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "legend.handlelength": 2.4,
    "legend.borderaxespad": 0.3,
    "axes.linewidth": 0.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "xtick.minor.width": 0.3,
    "ytick.minor.width": 0.3,
    "lines.linewidth": 1.2,
    "axes.axisbelow": True,
    "grid.color": "0.92",
    "grid.linewidth": 0.5,
    # Type 42: text in a PDF stays text that can be searched and edited.
    "pdf.fonttype": 42,
    # Without a salt, matplotlib names an SVG's parts at random.
    "svg.hashsalt": "kappa",
    "savefig.dpi": 200,
}


@contextmanager
def context() -> Iterator[None]:
    """Apply the settings of all figures inside a `with`: to draw and to save."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def legend_below(axes: Axes) -> None:
    """Put the legend under the axes, where it hides no curve."""
    handles, labels = axes.get_legend_handles_labels()
    grid = axes.get_subplotspec().get_gridspec()
    axes.legend(
        handles,
        labels,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.2),
        ncols=_num_columns(labels, axes.figure.get_figwidth() / grid.ncols, most=2),
        columnspacing=1.2,
    )


def head(figure: Figure, title: str, entries: Sequence[Mapping[str, Any]] = ()) -> None:
    """Put a title above all panels, and one legend under it, from looks (`looks.lines`)."""
    from matplotlib.lines import Line2D

    if not entries:
        figure.suptitle(title, fontsize=9)
        return
    handles = [Line2D([], [], **entry) for entry in entries]
    num_columns = _num_columns([h.get_label() for h in handles], figure.get_figwidth(), most=4)
    # The title is the legend's own: the layout would put a title of the figure on top of it.
    figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=num_columns,
        title=title,
        title_fontsize=9,
        columnspacing=1.2,
    )


def head_of(figure: Figure, title: str, axes: Axes) -> None:
    """Put a title above all panels, and one legend under it, from the curves of `axes`."""
    handles, labels = axes.get_legend_handles_labels()
    if not handles:
        figure.suptitle(title, fontsize=9)
        return
    num_columns = _num_columns(labels, figure.get_figwidth(), most=4)
    figure.legend(
        handles, labels, loc="outside upper center", ncols=num_columns, title=title,
        title_fontsize=9,
    )  # fmt: skip


def num_legend_rows(labels: Iterable[str], width: float) -> int:
    """Rows of the legend that `head` puts above a figure `width` inches wide."""
    labels = list(labels)
    return math.ceil(len(labels) / _num_columns(labels, width, most=4))


def _num_columns(labels: list[str], width: float, most: int) -> int:
    """Columns of a legend that fit into `width` inches: a wider one would crush the panels."""
    # At 8 pt a character takes about 0.06 inch; a sample of the line and its gaps 0.55 inch.
    longest = 0.06 * max(map(len, labels), default=0) + 0.55
    num_columns = max(1, min(most, int(width / longest)))
    num_rows = max(1, math.ceil(len(labels) / num_columns))
    return max(1, math.ceil(len(labels) / num_rows))


def footnote(figure: Figure, sentences: Iterable[str]) -> None:
    """Write small grey lines under the figure, wrapped to its width; the layout makes room."""
    # At 6 pt a character of the default font is about 0.046 inch wide.
    width = int(figure.get_figwidth() / 0.046)
    text = textwrap.fill(" ".join(sentences), width)
    figure.supxlabel(text, x=0.01, ha="left", fontsize=6, color=CAPTION_COLOR)


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write `name` as PDF, PNG and SVG into `folder`; the same figure gives the same bytes."""
    undated = {"pdf": {"CreationDate": None}, "png": {}, "svg": {"Date": None}}
    paths = [folder / f"{name}.{suffix}" for suffix in undated]
    with context():
        # Laid out once for all formats, which takes as long as drawing.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for path, (suffix, metadata) in zip(paths, undated.items(), strict=True):
            figure.savefig(path, format=suffix, metadata=metadata)
    return paths
