import pytest

from runners.records import RecordWriter, write_manifest
from runners.selection import MeanMetric


def test_the_mean_of_a_metric_is_over_all_evaluations_of_its_split(tmp_path):
    write_manifest(tmp_path, {})
    writer = RecordWriter(tmp_path)
    values = [("train", "suboptimality", 4.0), ("test", "suboptimality", 90.0)]
    values += [("train", "loss", 50.0), ("train", "suboptimality", 1.0)]
    for step, (split, metric, value) in enumerate(values):
        writer.add("evals", (step, 0.0, split, metric, value, 0.0))
    writer.flush()
    score = MeanMetric("suboptimality", "train")
    assert score(tmp_path) == 2.5
    assert score.rule == "mean of suboptimality (train) over the evaluations"


def test_a_metric_that_was_not_evaluated_is_refused(tmp_path):
    write_manifest(tmp_path, {})
    writer = RecordWriter(tmp_path)
    writer.add("evals", (0, 0.0, "train", "loss", 1.0, 0.0))
    writer.flush()
    with pytest.raises(ValueError, match=r"no accuracy \(test\)"):
        MeanMetric("accuracy", "test")(tmp_path)
