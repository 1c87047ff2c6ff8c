"""The page put together: what is drawn in several processes, and written in one."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from pathlib import Path
from string import Template
from typing import Any

from analysis.report.markup import Raw, details, html, join, tag

HERE = Path(__file__).resolve().parent
# Figures wider than a column of a page scroll in themselves on a telephone.
NARROW = 400


def page(
    pictures: Sequence[Any],
    blocks: dict[str, Raw],
    users: dict[str, list[str]],
    ledger: Raw,
    standing: Raw,
    about: str,
) -> str:
    """The whole page.

    Args:
        pictures: of the figures, in order; see `pictures.Picture`.
        blocks: experiment or measurement -> its part of the page.
        users: figure -> its experiments and measurements.
        ledger, standing: those sections.
        about: one line on what the page was made from.
    """
    shown: set[str] = set()
    sections = [_section(p, blocks, users.get(p.name, []), shown) for p in pictures]
    rest = [blocks[name] for name in blocks if name not in shown]
    content = [
        tag("h2", "The ledger", id="ledger-of-claims"),
        tag("p", LEDGER_NOTE),
        ledger,
        tag("h2", "Figures", id="figures"),
        *sections,
        tag("h2", "All tasks together", id="all-tasks"),
        standing,
    ]
    if rest:
        content += [tag("h2", "Further experiments", id="further"), *rest]
    links = [("ledger-of-claims", "ledger"), ("all-tasks", "all tasks together")]
    figures = [(f"fig-{p.name}", p.title) for p in pictures]
    contents = join([_links(links), details(f"{len(figures)} figures", _links(figures), open=True)])
    return Template((HERE / "page.html").read_text()).substitute(
        style=(HERE / "page.css").read_text(),
        script=(HERE / "page.js").read_text(),
        about=html(about),
        contents=contents,
        content=join(content),
    )


LEDGER_NOTE = (
    "Every claim of the four papers, judged by rules from the records: reproduced, where the whole "
    "95 % interval lies on the side that the paper claims; partly, where its mean does or some "
    "parts hold; not reproduced; or not tested, with the reason. No verdict is typed by hand. "
    "Where a stand-in or a smaller scale is named, a verdict speaks of that version."
)


def _links(targets: Sequence[tuple[str, str]]) -> Raw:
    listed = (tag("li", tag("a", text, href=f"#{anchor}")) for anchor, text in targets)
    return tag("ul", join(listed))


def _section(picture: Any, blocks: dict[str, Raw], names: Sequence[str], shown: set[str]) -> Raw:
    parts: list[Any] = [tag("h3", picture.title, id=f"fig-{picture.name}")]
    if picture.problem:
        parts.append(tag("p", picture.problem, class_="gap"))
    else:
        narrow = ' class="narrow"' if picture.width <= NARROW else ""
        style = f' style="width:{picture.width:.0f}px"'
        svg = Raw(picture.svg.replace("<svg", f"<svg{narrow}{style}", 1))
        parts.append(tag("div", svg, class_="picture", tabindex="0"))
    for name in names:
        if name in shown:
            link = tag("a", name, href=f"#exp-{name}")
            parts.append(tag("p", join([link, " is described above."], "")))
        else:
            shown.add(name)
            parts.append(blocks[name])
    return tag("section", join(parts))


# ---------------------------------------------------------------- gathering


def users_of(figures: Sequence[str]) -> dict[str, list[str]]:
    """Figure -> the experiments and measurements that it is drawn from."""
    found = {}
    for name in figures:
        module = import_module(f"analysis.figures.{name}")
        found[name] = [
            *getattr(module, "EXPERIMENTS", ()),
            *getattr(module, "MEASUREMENTS", ()),
        ]
    return found


def gather(
    users: dict[str, list[str]], roots: Sequence[Path], workers: int, done: Callable[[str], None]
) -> tuple[list[Any], dict[str, Raw], list[Any]]:
    """Draw the figures and describe their sources, in several processes.

    Args:
        users: of `users_of`.
        done: is told of each figure and source that is ready.
    Returns:
        Pictures, source -> block, and the races of all experiments.
    """
    sources = list(dict.fromkeys(name for names in users.values() for name in names))
    jobs = [("figure", name) for name in users] + [("source", name) for name in sources]
    pictures, blocks, races = [], {}, []
    for (kind, name), made in zip(jobs, _made(jobs, roots, workers), strict=True):
        if kind == "figure":
            pictures.append(made)
        else:
            blocks[name] = Raw(made[0])
            races += made[1]
        done(name)
    return pictures, blocks, races


def _made(jobs: Sequence[tuple[str, str]], roots: Sequence[Path], workers: int) -> Iterator[Any]:
    arguments = [(kind, name, [str(root) for root in roots]) for kind, name in jobs]
    if workers == 1:
        yield from (make(one) for one in arguments)
        return
    spawn = multiprocessing.get_context("spawn")  # a fork would copy whatever threads there are
    with ProcessPoolExecutor(workers, mp_context=spawn) as pool:
        yield from pool.map(make, arguments)


def make(job: tuple[str, str, Sequence[str]]) -> Any:
    """One figure's picture, or one source's block and races, in whatever process this is."""
    kind, name, roots = job
    if kind == "figure":
        from analysis.report.pictures import picture

        return picture(name, roots)
    from analysis.load import Records
    from analysis.report.blocks import PLANS, block, measurement
    from analysis.report.evidence import race
    from runners.records import RecordsError

    records = Records(roots)
    if not (PLANS / f"{name}.yaml").is_file():
        return str(measurement(records, name)), []
    made = block(records, name)
    try:
        experiment = records.experiment(name)
        races = [race(experiment, case) for case in experiment.cases()]
    except RecordsError:
        races = []
    return str(made), [one for one in races if one is not None]
