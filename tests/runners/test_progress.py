"""Counts of a command of many parts, as lines where there is no terminal."""

from __future__ import annotations

from runners.progress import Tally


def test_without_a_terminal_counts_are_lines(capsys):
    with Tally("runs", 6) as tally:
        tally.say("a [line] as it is")
        tally.set(2, "toy search: 2/4")
        tally.finish(4)
        tally.set(1)
    assert capsys.readouterr().err.splitlines() == ["a [line] as it is", "toy search: 2/4"]


def test_parts_add_up():
    with Tally("runs", 6) as tally:
        tally.finish(4)
        tally.set(1, "")
        assert tally.progress.tasks[-1].completed == 5
        tally.restart("figures", 3)
        tally.finish(1)
        assert [task.completed for task in tally.progress.tasks] == [5, 1]


def test_in_a_terminal_there_is_a_bar(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with Tally("runs", 6) as tally:
        tally.set(3, "toy final: 3/6")
        tally.progress.refresh()
    said = capsys.readouterr().err
    assert "runs" in said and "3/6" in said
