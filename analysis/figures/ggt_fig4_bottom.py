"""GGT Fig. 4 bottom: the runs of Fig. 3 bottom against training time [Agarwal et al. 2019].

Seconds are compared only between runs made alone, with one thread count, on one machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from analysis import captions, style
from analysis.figures import ggt_fig3_bottom
from analysis.panels import why_not_comparable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.load import Experiment, Records

EXPERIMENTS = ggt_fig3_bottom.EXPERIMENTS
TITLE = "GGT paper, Fig. 4 bottom"


def table(records: Records) -> pd.DataFrame:
    """Return the curves as `ggt_fig3_bottom.table` does, or why there are none.

    Returns:
        The table of Fig. 3; where seconds cannot be compared, one row with the column
        `not_comparable`, which holds the reason.
    Raises:
        MissingRecordsError: if the experiment is not finished.
    """
    experiment = records.experiment(*EXPERIMENTS)
    reason = why_not_comparable(experiment.runs())
    if reason:
        return pd.DataFrame({"not_comparable": [reason]})
    return ggt_fig3_bottom.make_table(experiment)


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`; or say why it cannot be."""
    from matplotlib.figure import Figure

    data = table(records) if data is None else data
    experiment = records.experiment(*EXPERIMENTS)
    if "not_comparable" not in data:
        return ggt_fig3_bottom.make_figure(experiment, data, "train_seconds", TITLE)
    with style.context():
        figure = Figure(figsize=(style.PAGE_WIDTH, 1.9), layout="constrained")
        axes = figure.subplots()
        axes.set(xticks=[], yticks=[], xlabel="training time (s)", ylabel="perplexity")
        text = f"not comparable: {data['not_comparable'].iloc[0]}"
        axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes)
        style.head(figure, captions.heading(TITLE, [experiment], style.PAGE_WIDTH))
        command = f"Make runs that can be compared with: {_alone(experiment)}"
        style.footnote(figure, [captions.missing(experiment), command])
    return figure


def _alone(experiment: Experiment) -> str:
    """The experiment's command, made to run each run again and alone."""
    words = [w for w in experiment.command.split() if not w.startswith(("timing=", "force="))]
    return " ".join([*words, "timing=exclusive", "force=true"])
