"""Write the report: `python -m analysis.report [--out FILE] [--only FIGURE[,FIGURE]]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from runners.records import write_atomically


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 2 for a mistake or claims that cannot be read."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.report", description="Figures, ledger and runs in one page."
    )
    parser.add_argument("--runs", type=Path, help="your runs; default: $KAPPA_RUNS or runs")
    parser.add_argument("--results", type=Path, help="shipped records; default: results")
    parser.add_argument("--claims", help="claims to judge; default: the project's")
    parser.add_argument("--only", metavar="FIGURE[,FIGURE]", default="", help="default: all")
    parser.add_argument("--out", type=Path, default=Path("report/kappa.html"))
    options = parser.parse_args(arguments)

    from analysis.draw import figure_names
    from analysis.ledger import judge_all
    from analysis.ledger.claims import ClaimsError, load
    from analysis.load import RESULTS, Records, runs_root
    from analysis.report.claims import ledger
    from analysis.report.overall import overall
    from analysis.report.page import gather, page, users_of
    from runners.environment import commit, num_cores
    from runners.progress import Tally

    known = figure_names()
    figures = [name for name in options.only.split(",") if name] or known
    unknown = [name for name in figures if name not in known]
    if unknown:
        print(f"no figure is called {unknown[0]}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    try:
        claims = load(options.claims)
    except ClaimsError as error:
        print(f"analysis.report: {error}", file=sys.stderr)
        return 2
    roots = [options.runs or runs_root(), options.results or RESULTS]
    users = users_of(figures)
    parts = len(users) + len({name for names in users.values() for name in names})
    with Tally("figures and experiments", parts) as tally:
        workers = min(num_cores(), parts)
        pictures, blocks, races = gather(users, roots, workers, lambda name: tally.finish(1))
        tally.restart("claims", 1)
        verdicts = judge_all(Records(roots), claims)
        tally.finish(1)
    revision, dirty = commit()
    changed = " with uncommitted changes" if dirty else ""
    ids = len({verdict.id for verdict in verdicts})
    about = (
        f"{ids} claims, {len(pictures)} figures, {len(blocks)} experiments; made by Kappa at "
        f"commit {str(revision)[:10]}{changed}. It needs no network."
    )
    text = page(pictures, blocks, users, ledger(verdicts), overall(races), about)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(options.out, lambda path: path.write_text(text))
    print(f"{options.out}: {len(text) / 1e6:.1f} MB, {len(pictures)} figures, {ids} claims")
    return 0


if __name__ == "__main__":
    sys.exit(main())
