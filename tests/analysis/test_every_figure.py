"""Every figure, drawn from made-up records: whole, partly diverged or missing, of one seed.

A new module of analysis/figures is picked up by itself.
"""

from __future__ import annotations

import re
from importlib import import_module

import numpy as np
import pytest
import yaml
from matplotlib.text import Text

from analysis import draw, style
from analysis.load import MissingRecordsError, Records
from tasks.data.listing import DataError
from tests.analysis.made_up import CONF, MadeUp

NAMES = draw.figure_names()
# Less is no panel any more, in inches.
LEAST_PANEL = (0.7, 0.6)
# What a figure with nothing to complain about does not say.
COMPLAINTS = ("Missing:", ": no run", "no records of", "not comparable")


def experiments_of(name: str) -> tuple[str, ...]:
    return import_module(f"analysis.figures.{name}").EXPERIMENTS


def measurements_of(name: str) -> tuple[str, ...]:
    return getattr(import_module(f"analysis.figures.{name}"), "MEASUREMENTS", ())


def command_of(name: str, source: str) -> str:
    """What makes an experiment or a measurement, without spaces."""
    return f"experiment={source}" if source in experiments_of(name) else f"scripts.measure{source}"


WITH_RUNS = [name for name in NAMES if experiments_of(name)]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("made_up")


@pytest.fixture(scope="module")
def whole_tables():
    """The tables of figures from whole records, as they are made."""
    return {}


@pytest.fixture
def whole_table(whole_tables, made_up):
    """Returns a figure's table from whole records."""

    def make(name: str):
        if name not in whole_tables:
            whole_tables[name] = import_module(f"analysis.figures.{name}").table(made_up(name))
        return whole_tables[name]

    return make


@pytest.fixture
def made_up(cache, tmp_path):
    """Writes what a figure is drawn from into a folder of its own; returns the records."""

    def write(name: str, without: str = "", **options) -> Records:
        root = tmp_path / f"records{len(list(tmp_path.iterdir()))}"
        root.mkdir()
        world = MadeUp(cache, root)
        for experiment in experiments_of(name):
            if experiment != without:
                world.experiment(experiment, **options)
        for measurement in measurements_of(name):
            if measurement != without:
                try:
                    world.measurement(measurement)
                except (LookupError, DataError) as error:
                    pytest.skip(str(error))
        return Records([root])

    return write


def drawn(name: str, records: Records):
    """The table and the figure of a module, and all that is written in them, without spaces."""
    module = import_module(f"analysis.figures.{name}")
    data = module.table(records)
    figure = module.draw(records, data)
    texts = [text.get_text() for text in figure.findobj(Text)]
    return data, figure, re.sub(r"\s", "", " ".join(texts))


def last_method(name: str) -> tuple[str, str]:
    """The last experiment of a figure and its last method, as its YAML has it."""
    experiment = experiments_of(name)[-1]
    document = yaml.safe_load((CONF / "experiment" / f"{experiment}.yaml").read_text())
    return experiment, list(document["methods"])[-1]


@pytest.mark.parametrize("name", NAMES)
def test_whole(name, made_up, tmp_path, whole_tables):
    data, figure, text = drawn(name, made_up(name))
    whole_tables[name] = data
    numbers = data.select_dtypes("number").to_numpy(dtype=float)
    assert np.isfinite(numbers).any()
    said = [complaint for complaint in COMPLAINTS if complaint.replace(" ", "") in text]
    # Seconds are compared only between runs made alone, and few are.
    assert said in ([], ["not comparable"])
    assert import_module(f"analysis.figures.{name}").TITLE.replace(" ", "") in text
    data.to_csv(tmp_path / "table.csv", index=False)
    assert (tmp_path / "table.csv").stat().st_size > 0
    with style.context():
        figure.draw_without_rendering()
    outside = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert width <= style.PAGE_WIDTH + 1e-9
    # Text is measured in whole pixels of 1/100 inch.
    assert min(outside.x0, outside.y0) >= -0.02
    assert outside.x1 <= width + 0.02
    assert outside.y1 <= height + 0.02
    for axes in figure.axes:
        if axes.lines and axes.get_visible():
            box = axes.get_window_extent().transformed(figure.dpi_scale_trans.inverted())
            assert box.width >= LEAST_PANEL[0] and box.height >= LEAST_PANEL[1], axes.get_title()


@pytest.mark.parametrize("name", WITH_RUNS)
def test_a_diverged_method_and_a_missing_run_are_said(name, made_up, whole_table):
    """Unless the figure shows nothing of the method: then its table is what it was."""
    experiment, method = last_method(name)
    data, _, text = drawn(name, made_up(name, diverging=method, missing=method))
    said = "diverged" in text.lower() and f"scripts.restore{experiment}" in text
    assert data.equals(whole_table(name)) or said


@pytest.mark.parametrize("name", NAMES)
def test_one_seed_and_missing_sources_which_are_said_with_the_command(name, made_up):
    sources = [*experiments_of(name), *measurements_of(name)]
    if not sources:
        pytest.skip("drawn from whatever records there are")
    if len(sources) > 1:
        data, _, text = drawn(name, made_up(name, without=sources[-1], num_seeds=1))
        assert command_of(name, sources[-1]) in text
        assert len(data)
        return
    with pytest.raises(MissingRecordsError) as caught:
        drawn(name, made_up(name, without=sources[0]))
    assert command_of(name, sources[0]) in re.sub(r"\s", "", str(caught.value))
    data, _, _ = drawn(name, made_up(name, num_seeds=1))
    assert len(data)
