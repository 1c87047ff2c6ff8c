"""The one style of all figures: sizes for print, one look for each optimizer, captions.

Nothing happens at import: matplotlib's settings change only inside `context()`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis import lettering
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
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "ALIASES", "BLACK", "BLUE", "BROWN", "CAPTION_COLOR", "COLUMN_WIDTH", "GREEN", "LOOKS", "OLIVE",
    "ORANGE", "PAGE_WIDTH", "PURPLE", "SKY", "SPARE_COLOURS", "VERMILLION", "WINE", "Look",
    "context", "footnote", "footnote_height", "head", "head_height", "head_of", "head_with",
    "legend_below", "line", "lines", "save",
]  # fmt: skip

# Widths in inches of one and of two columns of a two-column page.
COLUMN_WIDTH, PAGE_WIDTH = 3.4, 7.0
CAPTION_COLOR = "0.45"
TITLE_SIZE, FOOTNOTE_SIZE = 9, 6  # points
MOST_LEGEND_COLUMNS = 5
_BETWEEN_COLUMNS = 1.2  # of a legend, in sizes of its font

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
        bbox_to_anchor=(0.5, -0.24),
        ncols=_num_columns(labels, axes.figure.get_figwidth() / grid.ncols, most=2),
        columnspacing=_BETWEEN_COLUMNS,
    )


def head(figure: Figure, title: str, entries: Sequence[Mapping[str, Any]] = ()) -> None:
    """Put a title above all panels, and one legend under it, from looks (`looks.lines`)."""
    from matplotlib.lines import Line2D

    head_with(figure, title, [Line2D([], [], **entry) for entry in entries])


def head_of(figure: Figure, title: str, axes: Axes) -> None:
    """Put a title above all panels, and one legend under it, from the curves of `axes`."""
    handles, labels = axes.get_legend_handles_labels()
    for handle, label in zip(handles, labels, strict=True):
        handle.set_label(label)
    head_with(figure, title, handles)


def head_with(figure: Figure, title: str, handles: Sequence[Artist]) -> None:
    """Put a title above all panels, and one legend under it; both are centred."""
    if not handles:
        figure.suptitle(title, fontsize=TITLE_SIZE)
        return
    labels = [str(handle.get_label()) for handle in handles]
    # The title is the legend's own: the layout would put a title of the figure on top of it.
    legend = figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=_num_columns(labels, figure.get_figwidth(), most=MOST_LEGEND_COLUMNS),
        title=title,
        title_fontsize=TITLE_SIZE,
        columnspacing=_BETWEEN_COLUMNS,
    )
    legend.get_title().set_multialignment("center")


def head_height(title: str, labels: Sequence[str], width: float) -> float:
    """Height in inches of what `head` puts above a figure `width` inches wide."""
    rows = math.ceil(len(labels) / _num_columns(labels, width, MOST_LEGEND_COLUMNS))
    # A row of the legend and the gap to the next one.
    return lettering.height_of(title, TITLE_SIZE) + 0.18 * rows + 0.08


def _num_columns(labels: Sequence[str], width: float, most: int) -> int:
    """Columns of a legend that fit into `width` inches: a wider one would crush the panels."""
    em = _SETTINGS["legend.fontsize"] / lettering.POINTS_PER_INCH
    sample = (_SETTINGS["legend.handlelength"] + 0.8) * em
    for num_columns in range(min(most, len(labels)), 1, -1):
        num_rows = math.ceil(len(labels) / num_columns)
        parts = [labels[i : i + num_rows] for i in range(0, len(labels), num_rows)]
        needed = sum(sample + lettering.longest(part, 8) for part in parts)
        needed += (len(parts) - 1) * _BETWEEN_COLUMNS * em + 2 * em
        if needed <= width:
            return len(parts)
    return 1


def footnote(figure: Figure, sentences: Iterable[str]) -> None:
    """Write small grey lines under the figure, wrapped to its width; the layout makes room."""
    text = _footnote_text(sentences, figure.get_figwidth())
    figure.supxlabel(text, x=0.01, ha="left", fontsize=FOOTNOTE_SIZE, color=CAPTION_COLOR)


def footnote_height(sentences: Iterable[str], width: float) -> float:
    """Height in inches of what `footnote` writes under a figure `width` inches wide."""
    return lettering.height_of(_footnote_text(sentences, width), FOOTNOTE_SIZE) + 0.06


def _footnote_text(sentences: Iterable[str], width: float) -> str:
    return lettering.wrapped(" ".join(sentences), 0.96 * width, FOOTNOTE_SIZE)


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
