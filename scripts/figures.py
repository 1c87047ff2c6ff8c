"""Make what is missing and cheap, then draw figures: what `make figures` calls.

    python -m scripts.figures [--only NAME[,NAME]] [--fresh] [--scale small|paper] [--out DIR]

Figures are drawn from your runs and, where those lack an experiment, from the shipped ones in
results/. --fresh makes every experiment of the figures again, whatever it costs; what it had begun
goes on with `python run.py experiment=NAME`. --scale asks for records of that scale; a figure of
which there are none is drawn from what there is, and its caption names the scale.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import multiprocessing
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from analysis.draw import draw_figures, figure_names
from runners.environment import num_cores
from runners.progress import Tally
from scripts import catalogue, missing
from scripts.catalogue import ROOT
from scripts.missing import STOPPED, Work, roots_of


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0, 1 something failed, 2 a mistake, 130 stopped.

    A figure without any records because they would take long is left out, and no failure.
    """
    options = parse(argv)
    if options is None:
        return 2
    roots = roots_of(options.runs, options.results)
    work = missing.survey(*catalogue.needs(options.only), roots, options.scale, options.fresh)
    with Tally("runs", work.num_runs()) as tally:
        try:
            status = missing.make(work, tally, roots, options.scale, options.fresh)
            if status != STOPPED:
                tally.restart("figures", len(options.only))
                status = max(status, draw(options.only, work, tally, roots, options.out))
        except KeyboardInterrupt:
            status = STOPPED
        missing.report_left_out(work, tally)
        if status == STOPPED:
            begun = "python run.py experiment=NAME goes on with one that was begun"
            again = begun if options.fresh else "the same command goes on from here"
            tally.say(f"stopped; {again}")
    return status


def parse(argv: Sequence[str] | None) -> argparse.Namespace | None:
    """The options, `only` as a list of figures; None after saying that one is unknown."""
    scales = sorted(path.stem for path in (ROOT / "conf" / "scale").glob("*.yaml"))
    parser = argparse.ArgumentParser(
        prog="python -m scripts.figures", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--only", metavar="NAME[,NAME]", default="", help="figures; default: all")
    parser.add_argument("--fresh", action="store_true", help="make every experiment again")
    parser.add_argument("--scale", choices=scales, help="draw records of this scale")
    parser.add_argument("--out", metavar="DIR", default="figures", help="default: figures")
    parser.add_argument("--runs", type=Path, help="your runs; default: $KAPPA_RUNS or runs")
    parser.add_argument("--results", type=Path, help="shipped records; default: results")
    options = parser.parse_args(argv)
    known = figure_names()
    options.only = [name for name in options.only.split(",") if name] or known
    unknown = [name for name in options.only if name not in known]
    if unknown:
        name = unknown[0]
        told = f"no figure is called {name}; there are: {', '.join(known)}"
        if name in catalogue.NOT_MADE:
            told = f"{name}: {catalogue.NOT_MADE[name]}"
        print(told, file=sys.stderr)
        return None
    return options


def draw(
    names: Sequence[str], work: Work, tally: Tally, roots: Sequence[Path], out: Path | str
) -> int:
    """Draw figures in as many processes as there are cores; the worst exit status."""
    status = 0
    workers = min(num_cores(), len(names))
    spawn = multiprocessing.get_context("spawn")  # a fork would copy whatever threads there are
    with ProcessPoolExecutor(workers, mp_context=spawn) as pool:
        jobs = {pool.submit(draw_one, name, list(roots), str(out)): name for name in names}
        try:
            for job in as_completed(jobs):
                one, text = job.result()
                tally.say(text)
                tally.finish(1)
                if one == 1 and is_left_out(jobs[job], work):
                    one = 0
                status = max(status, one)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return status


def draw_one(name: str, roots: Sequence[Path], out: str) -> tuple[int, str]:
    """Draw one figure, in whatever process this is: its exit status and what is said of it."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            status = draw_figures([name], roots, out)
        except Exception as error:  # one broken figure holds up no other
            print(f"{name}: {type(error).__name__}: {error}")
            status = 2
    return status, said.getvalue().strip()


def is_left_out(figure: str, work: Work) -> bool:
    """Whether a figure lacks what was left out because of its cost."""
    experiments, measurements = catalogue.needs([figure])
    return not work.left_out.keys().isdisjoint([*experiments, *measurements])


if __name__ == "__main__":
    sys.exit(main())
