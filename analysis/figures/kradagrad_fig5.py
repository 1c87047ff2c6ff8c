"""KrADagrad Fig. 5: the training loss of H+Vamp [Mei et al. 2023].

Beside it what it is made of, the reconstruction and the divergence, and how well films are ranked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis import comparison
from analysis.comparison import Panel

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = ("kradagrad_fig5",)
TITLE = "KrADagrad paper, Fig. 5"
LABELS = {
    "shampoo_authors": "Shampoo",
    "kradagrad_star_authors": "KrADagrad*",
    "kradagrad_authors": "KrADagrad",
}
_OF = ("kradagrad_fig5", "films")
_NATS = "nats a user"
# A run that blows up takes a band to any height; the limits are about the printed figure's.
PANELS = (
    Panel(
        *_OF, x="epoch", log=False, ylim=(130, 400), smooth=1 / 28,
        title="training loss, as printed", ylabel=_NATS,
    ),
    Panel(
        *_OF, y="reconstruction, train", x="epoch", log=False, ylim=(130, 400),
        title="reconstruction", ylabel=_NATS,
    ),
    Panel(
        *_OF, y="kl, train", x="epoch", log=False, ylim=(0, 100), title="divergence",
        ylabel=_NATS,
    ),
    Panel(
        *_OF, y="ndcg_100, valid", x="epoch", log=False, title="ranking",
        ylabel="NDCG@100, validation",
    ),
)  # fmt: skip


def table(records: Records) -> pd.DataFrame:
    """Return the curves, tidy.

    Raises:
        MissingRecordsError: if nothing of it was run.
    """
    return comparison.table(records, PANELS)


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    said = [
        "Loss: reconstruction + β divergence, β growing to .3 in 20 epochs. Shampoo, KrADagrad* "
        "and KrADagrad as the authors ran them."
    ]
    return comparison.draw(records, PANELS, data, title=TITLE, labels=LABELS, sentences=said)
