"""Compare any runs of your own: `python -m analysis.compare RUNS...`.

    python -m analysis.compare runs                                  everything there
    python -m analysis.compare runs --where task=ptb_lstm            one task
    python -m analysis.compare runs/logistic/adam/* --x seconds      single runs
    python -m analysis.compare runs --where sweep=sweep-1a2b3c4d     a sweep

Runs that differ only in their seed are one curve; what else differs names it. Draws the training
loss and the task's target metric as PDF, PNG, SVG and CSV, and prints a table.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.panels import X_LABELS
from runners.records import RecordsError

if TYPE_CHECKING:
    import pandas as pd

    from analysis.gathered import Gathered
    from analysis.panels import Panel

# More curves than these are not told apart; the table has all.
MOST_CURVES = 12


def compare(
    paths: Sequence[Path | str],
    x: str = "step",
    metric: str | None = None,
    where: dict[str, str] | None = None,
    out: Path | str = "figures",
    name: str = "compare",
) -> tuple[Gathered, pd.DataFrame]:
    """Draw runs and compare their ends.

    Args:
        paths: run folders, or roots of runs.
        x: "step", "epoch" or "seconds" of training time.
        metric: "loss" (training) or "<metric>, <split>" in place of each task's target metric.
        where: which of the runs, see `Gathered`.
        out: folder of the files `<name>.pdf`, .png, .svg, .csv and `<name>_table.csv`.
    Returns:
        The runs, and the rows of `summary.summary` of every task.
    Raises:
        RecordsError: if there is nothing to draw, or a metric is not there.
    """
    import pandas as pd

    from analysis import comparison, style, summary
    from analysis.gathered import Gathered

    runs = Gathered(paths, where)
    experiment = runs.gathered
    tables, panels = [], []
    for case in experiment.cases():
        y, direction, target = _metric(runs, case, metric)
        table = summary.summary(experiment, case, y, direction, target)
        tables.append(table)
        panels += _panels(case, y, x, direction, table, one=len(experiment.cases()) == 1)
    tables_of_all = pd.concat(tables, ignore_index=True)
    data = comparison.table(runs, panels)
    optimizers = {method.split("_")[0] for method in runs.labels}
    figure = comparison.draw(
        runs, panels, data, title="Runs compared", labels=runs.labels,
        ordered=len(optimizers) == 1 and len(runs.labels) > 3,
        columns=min(2, len(panels)), sentences=_sentences(runs, tables_of_all),
    )  # fmt: skip
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    style.save(figure, out, name)
    for frame, stem in ((data, name), (tables_of_all, f"{name}_table")):
        frame.to_csv(out / f"{stem}.csv", index=False, float_format="%.10g", na_rep="nan")
    return runs, tables_of_all


def _metric(runs: Gathered, case: str, metric: str | None) -> tuple[str, str, float | None]:
    """What is compared: its name, what is better, and the value to reach."""
    target = runs.targets[case]
    own = f"{target['metric']}, {target['split']}"
    evals = runs.gathered.evals(case)
    known = sorted({f"{m}, {s}" for m, s in zip(evals["metric"], evals["split"], strict=True)})
    if metric is None:
        return (
            (own, target["direction"], target["value"]) if own in known else ("loss", "min", None)
        )
    found = [name for name in ("loss", *known) if metric in (name, name.split(",")[0])]
    if not found:
        raise RecordsError(f"{case} has no metric {metric}; it has: {'; '.join(['loss', *known])}")
    if found[0] == own:
        return own, target["direction"], target["value"]
    return found[0], "min" if _falls(evals, found[0]) else "max", None


def _falls(evals: pd.DataFrame, name: str) -> bool:
    """Whether a metric without a target is one where less is better: what its runs do."""
    if name == "loss":
        return True
    metric, _, split = name.partition(", ")
    rows = evals[(evals["metric"] == metric) & (evals["split"] == split)].sort_values("step")
    ends = rows.groupby("run_id")["value"].agg(["first", "last"])
    return bool((ends["last"] <= ends["first"]).mean() >= 0.5)


def _panels(
    case: str, y: str, x: str, direction: str, table: pd.DataFrame, one: bool
) -> list[Panel]:
    from analysis.gathered import NAME
    from analysis.panels import Panel

    shown = table["method"].head(MOST_CURVES).tolist()
    title = None if not one else ""
    panels = [Panel(NAME, case, x=x, methods=shown, title=title, paired=False)]
    if y != "loss":
        log = False if direction == "max" else None
        panels.append(
            Panel(NAME, case, y=y, x=x, methods=shown, title=title, log=log, paired=False)
        )
    return panels


def _sentences(runs: Gathered, table: pd.DataFrame) -> list[str]:
    said = []
    if runs.num_unfinished:
        said.append(f"{runs.num_unfinished} failed or interrupted run(s) left out.")
    if runs.num_replaced:
        said.append(f"{runs.num_replaced} run(s) left out that were made again later.")
    for case, rows in table.groupby("case", sort=False):
        if len(rows) > MOST_CURVES:
            said.append(f"{case}: the best {MOST_CURVES} of {len(rows)} curves.")
    return said


def show(runs: Gathered, table: pd.DataFrame) -> None:
    """Print the table of every task."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from analysis import summary

    # A width of its own: a table in a file is not cut to the width of no terminal.
    console = Console(width=None if sys.stdout.isatty() else 140)
    for case, rows in table.groupby("case", sort=False):
        shown = Table(
            title=f"{case}: {rows['y'].iloc[0]}", box=box.SIMPLE_HEAD, title_justify="left"
        )
        words: list[dict[str, Any]] = summary.text(rows, runs.labels)
        for column in words[0]:
            shown.add_column(column, justify="left" if column == "method" else "right")
        for row in words:
            shown.add_row(*row.values())
        console.print(shown)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 2 with one line if there is nothing to draw."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.compare", description="Draw and compare any runs."
    )
    parser.add_argument("runs", nargs="+", metavar="RUNS", help="run folders, or roots of runs")
    parser.add_argument("--x", choices=list(X_LABELS), default="step", help="default: step")
    parser.add_argument("--metric", help='"loss" or "<metric>, <split>"; default: the target\'s')
    parser.add_argument(
        "--where", action="append", default=[], metavar="KEY=VALUE", help="only these runs"
    )
    parser.add_argument("--out", metavar="DIR", default="figures", help="default: figures")
    parser.add_argument("--name", default="compare", help="of the files; default: compare")
    chosen = parser.parse_args(arguments)
    pairs = [item.partition("=") for item in chosen.where]
    if not all(equals for _, equals, _ in pairs):
        print(f"compare: --where takes KEY=VALUE, got {' '.join(chosen.where)}", file=sys.stderr)
        return 2
    where = {key: value for key, _, value in pairs}
    try:
        runs, table = compare(chosen.runs, chosen.x, chosen.metric, where, chosen.out, chosen.name)
    except RecordsError as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    show(runs, table)
    print(f"{Path(chosen.out) / chosen.name}.pdf, .png, .svg, .csv, _table.csv")
    return 0


if __name__ == "__main__":
    sys.exit(main())
