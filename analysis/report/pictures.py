"""A figure as SVG that can stand in a page beside others."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from analysis.report.markup import Raw, html
from runners.records import RecordsError

_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_ID = re.compile(r'\sid="([^"]*)"')
_PATH = re.compile(r'(\s(?:d|points|x|y)=")([^"]*)"')


class Picture(NamedTuple):
    """One drawn figure.

    Attributes:
        title: of its module.
        svg: the drawing; empty where there is none.
        width: in pixels at 96 dots an inch.
        problem: why there is none.
    """

    name: str
    title: str
    svg: str
    width: float
    problem: str


def picture(name: str, roots: Sequence[Path | str]) -> Picture:
    """Draw one figure; whatever goes wrong is said in its place."""
    from analysis import style
    from analysis.load import Records

    module = import_module(f"analysis.figures.{name}")
    title = getattr(module, "TITLE", None) or name
    records = Records(roots)
    try:
        figure = module.draw(records, module.table(records))
        buffer = io.StringIO()
        with style.context():
            figure.savefig(buffer, format="svg", metadata={"Date": None})
    except RecordsError as error:
        return Picture(name, title, "", 0.0, str(error))
    except Exception as error:  # one broken figure does not hold up the report
        return Picture(name, title, "", 0.0, f"{type(error).__name__}: {error}")
    width = 96 * figure.get_figwidth()
    return Picture(name, title, inline(buffer.getvalue(), name, title), width, "")


def inline(svg: str, prefix: str, title: str) -> Raw:
    """Make matplotlib's SVG part of a page: names of its own, a label, fewer digits.

    Args:
        prefix: put before the ids, which are the same in all of matplotlib's files.
        title: read out in place of the picture.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Its rule for `*` would hold for the whole page; the page's own says the same of pictures.
    svg = re.sub(r"<defs>\s*<style[^>]*>.*?</style>\s*</defs>", "", svg, count=1, flags=re.DOTALL)
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg))
    svg = _ID.sub(lambda m: f' id="{prefix}-{m[1]}"' if m[1] in used else "", svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}-", svg)
    svg = _PATH.sub(lambda m: f'{m[1]}{_short(m[2])}"', svg)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r">\s+<", "><", svg)
    head = f'<svg role="img" aria-label="{html(title)}"'
    opening = svg[: svg.index(">") + 1]
    own = re.sub(r'\s(width|height|version|xmlns)="[^"]*"', "", opening)
    return Raw(own.replace("<svg", head, 1) + svg[len(opening) :].strip())


def _short(coordinates: str) -> str:
    """A hundredth of a point is less than any printer shows."""
    return _NUMBER.sub(
        lambda m: f"{float(m[0]):.2f}".rstrip("0").rstrip("."), " ".join(coordinates.split())
    )
