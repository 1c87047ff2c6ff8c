"""When the parameters of a run's last steps are averaged, and when they cannot be."""

from __future__ import annotations

from runners.state import Run


def enters_average(run: Run) -> bool:
    """Whether the parameters after the step just made are among those averaged at the end."""
    left, every = run.settings.max_steps - run.step, run.task.average_every
    return left % every == 0 and left // every < run.task.average_last


def check_average(task, max_steps: int) -> None:
    """Refuse an average that would begin before the first step, or lack its own statistics.

    Raises:
        ValueError: naming the options that make it shorter; for early stopping, whose last step is
            not known beforehand; or naming a layer that keeps statistics of its inputs: averaged
            parameters have others than the last step's.
    """
    last, every = task.average_last, task.average_every
    if last and task.early_stopping is not None:
        raise ValueError(
            f"average_last must be 0 with early_stopping={task.early_stopping}, got {last}"
        )
    layers = task.build_model().modules() if last else ()
    kept = next((m for m in layers if getattr(m, "track_running_stats", False)), None)
    if kept is not None:
        raise ValueError(
            f"average_last must be 0 for a model with {type(kept).__name__}, whose statistics are "
            f"not averaged, got {last}"
        )
    if last > 1 and (last - 1) * every >= max_steps:
        raise ValueError(
            f"(average_last - 1) * average_every must be < {max_steps}, the steps of the run, got "
            f"({last} - 1) * {every}: set task.average_every, or task.average_last=0"
        )
