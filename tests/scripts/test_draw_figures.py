"""Which figures `make figures` draws, and what becomes of those that cannot be drawn."""

from __future__ import annotations

from scripts import catalogue, figures, missing
from tests.scripts.quiet import Quiet


def test_an_unknown_figure_gets_the_list_of_names(capsys):
    assert figures.main(["--only", "ggt_fig2,ggt_fig99"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("no figure is called ggt_fig99; there are: ")
    assert {"ggt_fig2", "tasks_small"} <= set(line.partition("are: ")[2].split(", "))


def test_one_figure_needs_its_experiments_alone():
    experiments, _ = catalogue.needs(["ggt_fig2"])
    assert experiments == ["ggt_fig2"]
    every, _ = catalogue.needs(figures.figure_names())
    assert {"ggt_fig2", "ggt_fig3_bottom", "tasks_small"} <= set(every)
    assert set(every) <= set(catalogue.experiment_names())


def test_a_figure_without_records_is_a_failure_unless_it_was_left_out(tmp_path):
    roots = tmp_path / "runs", tmp_path / "results"
    options = (roots, tmp_path / "out")
    work = missing.Work(left_out={"ggt_fig3_bottom": "..."})
    tally = Quiet()
    assert figures.draw(["ggt_fig3_bottom"], work, tally, *options) == 0
    assert "no records of experiment ggt_fig3_bottom" in tally.lines[0]
    assert figures.draw(["ggt_fig3_bottom"], missing.Work(), tally, *options) == 1


def test_a_broken_figure_holds_up_no_other(monkeypatch):
    def broken(names, roots, out):
        raise KeyError("loss")

    monkeypatch.setattr(figures, "draw_figures", broken)
    assert figures.draw_one("ggt_fig2", [], "") == (2, "ggt_fig2: KeyError: 'loss'")
