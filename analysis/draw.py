"""Draw figures from records: `python -m analysis.draw [NAME ...]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from runners.records import RecordsError


def figure_names() -> list[str]:
    """The names of all figures: the modules of `analysis.figures`, sorted."""
    from analysis import figures

    return sorted(module.name for module in iter_modules(figures.__path__))


def draw_figures(
    names: Sequence[str], roots: Sequence[Path | str] | None = None, out: Path | str = "figures"
) -> int:
    """Draw figures as PDF, PNG, SVG and CSV into `out`; one printed line a figure.

    Args:
        names: of figures; none means all.
        roots: where records are looked for, in this order; by default runs_dir, then `results`.
        out: folder of the files, made if missing.
    Returns:
        Exit status: 0 if all were drawn, 1 if records of some are missing, 2 if a name is unknown
        (nothing is drawn) or records cannot be read (the others are drawn).
    """
    known = figure_names()
    for name in names:
        if name not in known:
            begun = [other for other in known if other.startswith(name)]
            close = begun or get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            print(
                f"no figure is called {name}{hint} (figures: {', '.join(known)})", file=sys.stderr
            )
            return 2
    from analysis.load import MissingRecordsError, Records

    records, status = Records(roots), 0
    for name in names or known:
        try:
            print(f"{name}: {_draw(name, records, Path(out))}")
        except RecordsError as error:
            print(f"{name}: {error}", file=sys.stderr)
            status = max(status, 1 if isinstance(error, MissingRecordsError) else 2)
    return status


def _draw(name: str, records, out: Path) -> str:
    from analysis import style

    module = import_module(f"analysis.figures.{name}")
    data = module.table(records)
    figure = module.draw(records, data)
    out.mkdir(parents=True, exist_ok=True)
    style.save(figure, out, name)
    # Ten digits: far below the width of any line, and the same text on every machine.
    data.to_csv(out / f"{name}.csv", index=False, float_format="%.10g", na_rep="nan")
    return f"{out / name}.pdf, .png, .svg, .csv"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status of `draw_figures`."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.draw", description="Draw figures from records."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="figures to draw; default: all")
    parser.add_argument("--runs", metavar="DIR", help="your runs; default: $KAPPA_RUNS or runs")
    parser.add_argument("--results", metavar="DIR", help="shipped records; default: results")
    parser.add_argument("--out", metavar="DIR", default="figures", help="default: figures")
    chosen = parser.parse_args(arguments)
    from analysis.load import RESULTS, runs_root

    return draw_figures(
        chosen.names, [chosen.runs or runs_root(), chosen.results or RESULTS], chosen.out
    )


if __name__ == "__main__":
    sys.exit(main())
