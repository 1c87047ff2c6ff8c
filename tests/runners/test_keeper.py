"""What surrounds the loop, one callback at a time."""

from types import SimpleNamespace

from runners.keeper import Keeper


def test_a_stop_asked_for_between_two_lines_waits_for_the_next_step():
    """Else a run would stop at a step that was never saved."""
    saved = []

    class Timer:
        def due(self, step):
            keeper.stop_requested = True  # as a signal would, just when nothing is to be saved
            return False

    keeper = SimpleNamespace(
        bar=SimpleNamespace(update=lambda *_: None),
        settings=SimpleNamespace(max_steps=10),
        timer=Timer(),
        metric="",
        stop_requested=False,
        save=lambda: saved.append(run.step),
    )
    run = SimpleNamespace(step=5)
    assert not Keeper.after_step(keeper, run, loss=1.0)
    assert saved == []
    run.step = 6
    assert Keeper.after_step(keeper, run, loss=1.0)
    assert saved == [6]
