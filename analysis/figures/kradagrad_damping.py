"""KrADagrad section 4: damping of the statistic and the noise of the loss [Mei et al. 2023]."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis import comparison
from analysis.comparison import Panel

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = ("kradagrad_damping",)
TITLE = "KrADagrad paper, section 4: damping"
CASE = "mnist"
DAMPINGS = {"d0": "0", "d1e4": "1e-4", "d1e2": "1e-2"}
NAMES = {"kradagrad_star": "KrADagrad*", "kradagrad": "KrADagrad"}
LABELS = {
    f"{method}_{key}": f"{name}, damping {value}"
    for method, name in NAMES.items()
    for key, value in DAMPINGS.items()
}
# Single steps: smoothing would take away what is looked at.
PANELS = tuple(
    Panel(
        *EXPERIMENTS, CASE, methods=[f"{method}_{key}" for key in DAMPINGS], title=title,
        transform=transform, smooth=smooth, ylabel=None if transform is None else "loss − undamped",
    )
    for method, name in NAMES.items()
    for title, transform, smooth in (
        (f"{name}: single steps", None, 0.004),
        (f"{name}: minus undamped", ("minus", f"{method}_d0"), 0.02),
    )
)  # fmt: skip


def table(records: Records) -> pd.DataFrame:
    """Return the curves, tidy.

    Raises:
        MissingRecordsError: if nothing of it was run.
    """
    return comparison.table(records, PANELS)


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    return comparison.draw(
        records,
        PANELS,
        data,
        title=TITLE,
        labels=LABELS,
        sentences=["One rate, .01, for all.", _noise(records)],
    )


def _noise(records: Records) -> str:
    """A sentence with the standard deviation of step-to-step changes, the mean over seeds."""
    steps = records.experiment(*EXPERIMENTS).steps(CASE, ("step", "loss"))
    changes = steps.sort_values("step").groupby(["method", "seed"])["loss"].diff()
    noise = changes.groupby([steps["method"], steps["seed"]]).std().groupby("method").mean()
    found = [f"{LABELS[method]}: {noise[method]:.3g}" for method in LABELS if method in noise]
    return f"Standard deviation of a step's change of the loss: {'; '.join(found)}."
