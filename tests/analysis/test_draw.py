import io

import pandas as pd
import pytest

from analysis import draw

SUFFIXES = ("pdf", "png", "svg", "csv")


def run(tmp_path, *names, out="figures"):
    folders = ["--runs", tmp_path / "runs", "--results", tmp_path / "results"]
    return draw.main([*names, *map(str, folders), "--out", str(tmp_path / out)])


def test_every_figure_is_drawn_in_every_format(make, tmp_path, capsys):
    make.fig2(tmp_path / "runs")
    make.fig2(tmp_path / "runs", "ggt_fig2_hyperplane", cases=("hyperplane",))
    make.ptb(tmp_path / "results")
    make.tasks(tmp_path / "results")
    status = run(tmp_path)
    drawn = {path.name for path in (tmp_path / "figures").iterdir()}
    names = {
        "ggt_fig2", "ggt_fig2_hyperplane", "ggt_fig3_bottom", "ggt_fig4_bottom", "ggt_fig5_bottom",
        "tasks_small",
    }  # fmt: skip
    assert drawn >= {f"{name}.{suffix}" for name in names for suffix in SUFFIXES}
    # Those of other experiments have no records here.
    assert status == (names != set(draw.figure_names()))
    captured = capsys.readouterr()
    said = [line.split(":")[0] for line in (captured.out + captured.err).splitlines()]
    assert sorted(said) == draw.figure_names()


def test_files_are_the_same_each_time_and_the_csv_is_the_table(make, tmp_path):
    from analysis.figures import ggt_fig3_bottom
    from analysis.load import Records

    make.ptb(tmp_path / "runs")
    name = "ggt_fig3_bottom"
    assert run(tmp_path, name) == run(tmp_path, name, out="again") == 0
    for suffix in SUFFIXES:
        first, second = (tmp_path / out / f"{name}.{suffix}" for out in ("figures", "again"))
        assert first.read_bytes() == second.read_bytes(), suffix
    written = pd.read_csv(tmp_path / "figures" / f"{name}.csv")
    table = ggt_fig3_bottom.table(Records([tmp_path / "runs"]))
    # Ten digits are written.
    pd.testing.assert_frame_equal(written, table, check_dtype=False, rtol=1e-9)


def test_missing_records_are_one_line_and_the_others_are_drawn(make, tmp_path, capsys):
    make.fig2(tmp_path / "runs")
    assert run(tmp_path, "ggt_fig3_bottom", "ggt_fig2") == 1
    captured = capsys.readouterr()
    assert captured.err == (
        "ggt_fig3_bottom: no records of experiment ggt_fig3_bottom; "
        "make them with: python run.py experiment=ggt_fig3_bottom\n"
    )
    assert captured.out.startswith("ggt_fig2: ")
    assert (tmp_path / "figures" / "ggt_fig2.pdf").is_file()


def test_unreadable_records_exit_2(make, tmp_path, capsys):
    make.experiment(tmp_path / "runs", "ggt_fig3_bottom", [], schema_version=7)
    assert run(tmp_path, "ggt_fig2", "ggt_fig3_bottom") == 2
    assert "has schema version 7; this version of Kappa reads 1 and 2" in capsys.readouterr().err


def test_unknown_name_exits_2_with_a_close_match(tmp_path, capsys):
    assert run(tmp_path, "ggt_fig3") == 2
    error = capsys.readouterr().err
    assert error.startswith("no figure is called ggt_fig3; did you mean ggt_fig3_bottom? (figures:")
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "figures").exists()


def test_a_csv_keeps_what_is_not_finite(make, tmp_path):
    name = "ggt_fig2_hyperplane"
    make.fig2(tmp_path / "runs", name, cases=("logistic",))
    assert run(tmp_path, name) == 0
    text = (tmp_path / "figures" / f"{name}.csv").read_text()
    frame = pd.read_csv(io.StringIO(text))
    diverged = frame[(frame["num_diverged"] == 1) & (frame["panel"] == "suboptimality")]
    assert diverged["high"].iloc[-1] == float("inf")
    assert ",nan," in text


@pytest.mark.parametrize("name", draw.figure_names())
def test_every_figure_module_keeps_the_contract(name):
    from importlib import import_module

    module = import_module(f"analysis.figures.{name}")
    assert isinstance(module.EXPERIMENTS, tuple)
    assert isinstance(getattr(module, "MEASUREMENTS", ()), tuple)
    assert isinstance(module.TITLE, str)
    assert callable(module.table)
    assert callable(module.draw)
