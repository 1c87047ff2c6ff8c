"""Judge every claim from the records: `python -m analysis.ledger`.

python -m analysis.ledger                      writes REPRODUCTION.md
python -m analysis.ledger --only K23 G01       prints these, writes nothing
python -m analysis.ledger --claims FILE        claims of another file or folder
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from runners.records import write_atomically

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 2 if the claims cannot be read."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.ledger", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--runs", metavar="DIR", help="your runs; default: $KAPPA_RUNS or runs")
    parser.add_argument("--results", metavar="DIR", help="shipped records; default: results")
    parser.add_argument("--claims", metavar="PATH", help="default: analysis/claims.yaml")
    parser.add_argument("--out", metavar="FILE", default=str(ROOT / "REPRODUCTION.md"))
    parser.add_argument("--json", metavar="FILE", help="write the verdicts as JSON too")
    parser.add_argument("--only", metavar="ID", nargs="+", help="print the verdicts of these")
    options = parser.parse_args(arguments)
    from analysis.ledger import claims as claims_module
    from analysis.ledger import judge_all
    from analysis.ledger.page import page, summary_rows
    from analysis.load import RESULTS, Records, runs_root
    from runners.report import table

    try:
        claims = claims_module.load(options.claims)
    except claims_module.ClaimsError as error:
        print(f"analysis.ledger: {error}", file=sys.stderr)
        return 2
    if options.only:
        unknown = sorted(set(options.only) - {claim.id for claim in claims})
        if unknown:
            print(f"analysis.ledger: no claim is called {unknown[0]}", file=sys.stderr)
            return 2
        claims = [claim for claim in claims if claim.id in options.only]
    records = Records([options.runs or runs_root(), options.results or RESULTS])
    verdicts = judge_all(records, claims)
    if options.only:
        for verdict in verdicts:
            print(_told(verdict))
    else:
        out = Path(options.out)
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, lambda path: path.write_text(page(verdicts)))
        header, *rows = summary_rows(verdicts)
        print(table(rows, header))
        print(f"{len(verdicts)} entries of {len(claims)} claims | {out}")
    if options.json:
        text = json.dumps([verdict.as_dict() for verdict in verdicts], indent=1) + "\n"
        write_atomically(Path(options.json), lambda path: path.write_text(text))
    return 0


def _told(verdict) -> str:
    """One verdict in a few lines."""
    reading = f" ({verdict.reading})" if verdict.reading else ""
    lines = [
        f"{verdict.id}{reading}: {verdict.verdict} | {verdict.ours or verdict.reason}",
        verdict.detail,
        *verdict.remarks,
        *(f"missing: {command}" for command in verdict.commands),
    ]
    return "\n  ".join(filter(None, lines))


if __name__ == "__main__":
    sys.exit(main())
