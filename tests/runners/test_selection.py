import pytest

from runners.records import RecordWriter, write_manifest
from runners.selection import LastMetric, MeanMetric


def records(folder, rows):
    """A run's folder with these evaluations: (step, split, metric, value)."""
    write_manifest(folder, {})
    writer = RecordWriter(folder)
    for step, split, metric, value in rows:
        writer.add("evals", (step, 0.0, split, metric, value, 0.0))
    writer.flush()
    return folder


@pytest.fixture
def run_dir(tmp_path):
    rows = [
        (0, "train", "suboptimality", 4.0),
        (0, "test", "suboptimality", 90.0),
        (5, "train", "loss", 50.0),
        (5, "train", "suboptimality", 1.0),
    ]
    return records(tmp_path, rows)


def test_the_mean_of_a_metric_is_over_all_evaluations_of_its_split(run_dir):
    score = MeanMetric("suboptimality", "train")
    assert score(run_dir) == 2.5
    assert score.rule == "mean of suboptimality (train) over the evaluations"


def test_the_last_of_a_metric_is_lower_where_more_of_it_is_better(run_dir):
    assert LastMetric("suboptimality", "train", "min")(run_dir) == 1
    score = LastMetric("suboptimality", "train", "max")
    assert score(run_dir) == -1
    assert score.rule == "suboptimality (train) at the end"


def test_a_direction_that_is_none_is_refused():
    with pytest.raises(ValueError, match="direction must be min or max, got 'up'"):
        LastMetric("accuracy", "test", "up")


@pytest.mark.parametrize(
    "score", [MeanMetric("accuracy", "test"), LastMetric("accuracy", "test", "max")]
)
def test_a_metric_that_was_not_evaluated_is_refused(tmp_path, score):
    folder = records(tmp_path, [(0, "train", "loss", 1.0)])
    with pytest.raises(ValueError, match=r"no accuracy \(test\)"):
        score(folder)
