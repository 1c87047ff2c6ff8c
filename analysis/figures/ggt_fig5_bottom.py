"""GGT Fig. 5 bottom: the spectrum of the gradient window in training [Agarwal et al. 2019].

Each vertical slice is a density of log10 of the eigenvalues of GᵀG. Black lines: the largest and
the smallest eigenvalue, smoothed in time by a median filter. Below: the condition number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis import captions, curves, measures, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.load import Experiment, Records

EXPERIMENTS = ("ggt_fig3_bottom",)
TITLE = "GGT paper, Fig. 5 bottom"
METHOD = "ggt"
# The paper cuts its panel there: the density does not change visibly afterwards.
MAX_EPOCHS = 5.0
NUM_SLICES, NUM_BINS = 100, 60
# Share of the slices that the median filter looks at; the paper does not say its own.
FILTER_SHARE = 0.05
FAR = 300.0  # a resolution this many times below every eigenvalue is left out of view
# The two condition numbers that section 3.4 prints for this network.
PUBLISHED = {"paper, later": 1e3, "paper, early": 1e6}
LINES = ("maximum", "minimum", "resolution", "condition_number")


def table(records: Records) -> pd.DataFrame:
    """Return what is drawn, tidy: item, epoch, log10_eigenvalue, value.

    item "density": share of the eigenvalues a decade, at the bin with the centre
    `log10_eigenvalue` in the time slice with the centre `epoch`, over all seeds.
    Items "maximum", "minimum" (of those above the resolution), "resolution" and
    "condition_number": median over the slice's spectra of all seeds, then filtered in time.

    Raises:
        MissingRecordsError: if the experiment is not finished, or has no spectra of GGT.
    """
    return make_table(records.experiment(*EXPERIMENTS), MAX_EPOCHS)


def make_table(experiment: Experiment, max_epochs: float = np.inf) -> pd.DataFrame:
    """The table of any experiment's runs of GGT, cut at `max_epochs`."""
    spectra = _spectra(experiment)
    last = min(spectra["epoch"].max(), max_epochs) or 1.0
    edges = np.linspace(0.0, last, min(NUM_SLICES, spectra["epoch"].nunique()) + 1)
    centers = (edges[:-1] + edges[1:]) / 2
    inside = spectra[spectra["epoch"] <= last]
    slices = np.clip(np.searchsorted(edges, inside["epoch"], side="right") - 1, 0, len(centers) - 1)
    grouped = inside.groupby(centers[slices])
    width = _filter_width(len(centers))
    parts = [_density(grouped, _bins(inside))]
    for item in LINES:
        line = grouped[item].median()
        value = measures.median_filter(line.to_numpy(), width)
        parts.append(pd.DataFrame({"item": item, "epoch": line.index, "value": value}))
    frame = pd.concat(parts, ignore_index=True)
    return frame[["item", "epoch", "log10_eigenvalue", "value"]]


def _filter_width(num_slices: int) -> int:
    return 2 * round(FILTER_SHARE * num_slices / 2) + 1


def _spectra(experiment: Experiment) -> pd.DataFrame:
    """The spectra of GGT's window with `epoch`, `maximum` and `minimum` added."""
    from analysis.load import MissingRecordsError

    spectra = pd.concat([experiment.spectra(case) for case in experiment.cases()])
    of_window = (spectra["name"] == "window") & (spectra["kind"] == "gram")
    spectra = spectra[of_window & (spectra["method"] == METHOD)].reset_index(drop=True)
    if spectra.empty:
        raise MissingRecordsError(
            f"experiment {experiment.name} holds no spectra of {METHOD}; "
            f"make them with: {experiment.command} force=true"
        )
    lengths = experiment.runs().set_index("run_id")["steps_per_epoch"].astype(float)
    values = [np.asarray(row, dtype=float) for row in spectra["eigenvalues"]]
    values = [row[np.isfinite(row) & (row > 0)] for row in values]
    above = [
        row[row > max(cut, 0.0)] if np.isfinite(cut) else row
        for row, cut in zip(values, spectra["resolution"], strict=True)
    ]
    return spectra.assign(
        epoch=spectra["step"] / spectra["run_id"].map(lengths),
        eigenvalues=pd.Series(values, dtype=object),
        maximum=[row.max() if len(row) else np.nan for row in above],
        minimum=[row.min() if len(row) else np.nan for row in above],
    )


def _bins(spectra: pd.DataFrame) -> np.ndarray:
    """Edges in log10, from below the resolution to above the largest eigenvalue.

    The resolution is in view unless all eigenvalues lie far above it. Values more than a decade
    below it are noise that would stretch the axis.
    """
    every = np.concatenate([np.empty(0), *spectra["eigenvalues"]])
    if not len(every):
        return np.linspace(-1.0, 1.0, NUM_BINS + 1)
    cuts = spectra["resolution"]
    cuts = cuts[np.isfinite(cuts) & (cuts > 0)]
    bottom = every.min()
    if len(cuts) and cuts.max() > bottom / FAR:
        bottom = np.clip(bottom, cuts.min() / 10, cuts.min() / 2)
    low, high = np.log10(bottom), np.log10(every.max())
    return np.linspace(low, max(high, low + 1e-6) + 0.2, NUM_BINS + 1)


def _density(grouped, bins: np.ndarray) -> pd.DataFrame:
    centers = (bins[:-1] + bins[1:]) / 2
    parts = []
    for epoch, rows in grouped:
        values = np.log10(np.concatenate([np.empty(0), *rows["eigenvalues"]]))
        counts, _ = np.histogram(values, bins)
        density = counts / max(len(values), 1) / np.diff(bins)
        parts.append(pd.DataFrame({"epoch": epoch, "log10_eigenvalue": centers, "value": density}))
    return pd.concat(parts, ignore_index=True).assign(item="density")


# ---------------------------------------------------------------- the drawing


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    data = table(records) if data is None else data
    cut = f"Cut at {MAX_EPOCHS:g} epochs, as in the paper."
    sentences = [cut] if data["epoch"].max() > 0.9 * MAX_EPOCHS else []
    return make_figure(records.experiment(*EXPERIMENTS), data, TITLE, PUBLISHED, sentences)


def make_figure(
    experiment: Experiment,
    data: pd.DataFrame,
    title: str,
    published: Mapping[str, float],
    sentences: Sequence[str] = (),
) -> Figure:
    """Draw a table of `make_table`, with the condition numbers that a paper names."""
    from matplotlib.figure import Figure

    with style.context():
        figure = Figure(figsize=(style.PAGE_WIDTH, 4.8), layout="constrained")
        grid = figure.add_gridspec(2, 2, width_ratios=[40, 1], height_ratios=[3, 1.2])
        top = figure.add_subplot(grid[0, 0])
        bottom = figure.add_subplot(grid[1, 0], sharex=top)
        mesh = _draw_density(top, data)
        figure.colorbar(
            mesh, cax=figure.add_subplot(grid[0, 1]), label="share per decade", extend="max"
        )
        _draw_condition(bottom, data, published)
        style.head(figure, captions.heading(title, [experiment], style.PAGE_WIDTH))
        style.footnote(figure, _caption(experiment, data, sentences))
    return figure


def _line(data: pd.DataFrame, item: str) -> tuple[np.ndarray, np.ndarray]:
    rows = data[data["item"] == item]
    return rows["epoch"].to_numpy(), rows["value"].to_numpy()


def _draw_density(axes: Axes, data: pd.DataFrame):
    density = data[data["item"] == "density"]
    image = density.pivot(index="log10_eigenvalue", columns="epoch", values="value")
    epochs, levels = _edges(image.columns.to_numpy()), 10 ** _edges(image.index.to_numpy())
    values = np.ma.masked_less_equal(image.to_numpy(), 0.0)
    # A short window has all its few eigenvalues in one cell, which would pale all others.
    most = np.quantile(values.compressed(), 0.995) if values.count() else 1.0
    # Rasterised: thousands of cells as vectors make a PDF slow, with seams between them.
    mesh = axes.pcolormesh(
        epochs, levels, values, cmap="YlGnBu", vmin=0.0, vmax=most, rasterized=True
    )
    axes.set(yscale="log", ylim=(levels[0], levels[-1]), xlim=(0.0, epochs[-1]))
    axes.set_ylabel("eigenvalue of GᵀG")
    axes.tick_params(labelbottom=False)
    x, resolution = _line(data, "resolution")
    if np.nanmax(resolution, initial=0.0) > levels[0]:
        axes.fill_between(
            x, levels[0], resolution, facecolor="0.55", alpha=0.35, hatch="////",
            edgecolor="0.35", linewidth=0, label="below resolution: cut as round-off",
        )  # fmt: skip
    axes.plot(*_line(data, "maximum"), color="black", label="largest")
    axes.plot(
        *_line(data, "minimum"), color="black", linestyle="--", label="smallest above resolution"
    )
    axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=3, columnspacing=1.2)
    return mesh


def _edges(centers: np.ndarray) -> np.ndarray:
    """Borders half-way between sorted centres; the outer cells are as wide as their neighbours."""
    if len(centers) == 1:
        return np.array([0.0, 2 * centers[0]]) if centers[0] > 0 else centers[0] + [-0.5, 0.5]
    inner = (centers[:-1] + centers[1:]) / 2
    return np.concatenate([[2 * centers[0] - inner[0]], inner, [2 * centers[-1] - inner[-1]]])


def _draw_condition(axes: Axes, data: pd.DataFrame, published: Mapping[str, float]) -> None:
    axes.plot(*_line(data, "condition_number"), **style.line(METHOD))
    axes.set(yscale="log", xlabel="epoch", ylabel="condition number")
    beside = axes.get_yaxis_transform()
    for label, value in published.items():
        axes.axhline(value, color="0.6", linewidth=0.8, linestyle=":")
        text = axes.text(1.005, value, label, transform=beside, va="center", fontsize=7)
        text.set(color=style.CAPTION_COLOR, in_layout=False)  # it fits beside, under the colour bar


def _caption(experiment: Experiment, data: pd.DataFrame, more: Sequence[str]) -> list[str]:
    runs = experiment.runs()
    runs = runs[runs["method"] == METHOD]
    epoch, condition = _line(data, "condition_number")
    said = [
        f"{style.line(METHOD)['label']}: "
        + "; ".join(filter(None, (curves.tuned(experiment, c, METHOD) for c in experiment.cases())))
        + ".",
        "Density over all runs; lines: median over seeds, then a median filter over "
        f"{_filter_width(len(epoch))} of {len(epoch)} slices. "
        "The condition number counts the eigenvalues above the resolution.",
    ]
    early, late = condition[epoch <= 1.0], condition[epoch > 1.0]
    if np.isfinite(early).any():
        said.append(f"Its line: at most {np.nanmax(early):.2g} in the first epoch;")
        later = f"median afterwards {np.nanmedian(late):.2g}." if np.isfinite(late).any() else ""
        said.append(later or "no later epoch.")
    said += more
    num_diverged = int((runs["status"] == "diverged").sum())
    if num_diverged:
        said.append(f"{num_diverged} of {len(runs)} runs diverged.")
    said.append(captions.missing(experiment, methods=[METHOD]))
    return [*filter(None, said), curves.provenance(runs)]
