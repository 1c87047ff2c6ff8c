"""Tables of numbers drawn as figures."""

import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from analysis import comparison
from analysis.load import Records


@pytest.fixture
def records(tmp_path):
    return Records([tmp_path])


def text_of(figure) -> str:
    return " ".join(" ".join(text.get_text() for text in figure.findobj(Text)).split())


def test_endpoints_are_medians_with_intervals(make, records, tmp_path):
    make.ptb(tmp_path)
    experiment = records.experiment("ggt_fig3_bottom")
    ends = comparison.endpoints(experiment, "ptb", "perplexity, valid").set_index("method")
    last = 1.01 + 3 * math.exp(-0.2 * 39)
    assert ends.loc["ggt", "value"] == pytest.approx(math.exp(last))
    assert ends.loc["ggt", "low"] == pytest.approx(math.exp(last - 0.01))
    assert ends.loc["ggt", "num_runs"] == 3 and ends.loc["ggt", "tuned"] == "lr 0.1"
    best = comparison.endpoints(experiment, "ptb", "perplexity, valid", "best", "max")
    assert best["value"].tolist() == pytest.approx([math.exp(4.01)] * 2)
    losses = comparison.endpoints(experiment, "ptb", "loss").set_index("method")
    expected = np.mean([1.01 + 3 * math.exp(-0.2 * step) for step in range(36, 40)])
    assert losses.loc["ggt", "value"] == pytest.approx(expected)


def test_endpoints_of_diverged_runs_are_infinite(make, records, tmp_path):
    make.fig2(tmp_path)
    ends = comparison.endpoints(records.experiment("ggt_fig2"), "barrier", "loss")
    sgd = ends.set_index("method").loc["sgd"]
    assert (sgd["num_diverged"], sgd["high"]) == (1, math.inf)
    none = comparison.endpoints(records.experiment("ggt_fig2"), "barrier", "bleu, test")
    assert set(none["num_runs"]) == {0} and none["value"].isna().all()


def test_a_table_is_drawn_with_every_cell(make, records, tmp_path):
    make.fig2(tmp_path)
    frame = pd.DataFrame(
        {
            "method": ["sgd", "full_window"], "runs": [3, 12345], "ours": [0.123456, math.inf],
            "published": [math.nan, 2.0], "exact": [True, False],
        }
    )  # fmt: skip
    figure = comparison.table_figure(
        frame, "Table 1", ["A sentence."], [records.experiment("ggt_fig2")], bold={(0, "ours")}
    )
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == [
        "method", "SGD", "full+window", "runs", "3", "12,345", "ours", "0.123", "inf",
        "published", "–", "2", "exact", "yes", "no",
    ]  # fmt: skip
    strong = [t.get_text() for t in figure.axes[0].texts if t.get_fontweight() == "bold"]
    assert strong == ["method", "runs", "ours", "0.123", "published", "exact"]
    assert "Table 1" in text_of(figure)
    assert "A sentence. Diverged: SGD 1/3 (barrier). 18 runs" in text_of(figure)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    overlaps = [
        (a.get_text(), b.get_text())
        for i, (a, one) in enumerate(zip(figure.axes[0].texts, boxes, strict=True))
        for b, other in zip(figure.axes[0].texts[i + 1 :], boxes[i + 1 :], strict=True)
        if one.overlaps(other)
    ]
    assert overlaps == []


def test_long_names_are_broken_and_no_texts_touch():
    frame = pd.DataFrame({
        "method": ["sgd", "full_window"], "seconds of a step with its eigenvalues": [0.5, 1.25],
        "bytes of the state over those of the parameters": [1.0, 2.0],
        "the published ratio": ["0.5 [0.4, 0.6]", "–"],
    })  # fmt: skip
    figure = comparison.table_figure(frame, "T", width=3.4, bold={(1, "the published ratio")})
    figure.draw_without_rendering()
    texts = figure.axes[0].texts
    boxes = [text.get_window_extent() for text in texts]
    assert "\n" in texts[3].get_text()
    # What looks like a number stands at the right, also where it comes as text.
    assert [text.get_ha() for text in texts[::3]] == ["left", "right", "right", "right"]
    assert all(box.x0 >= 0 and box.x1 <= 100 * 3.4 for box in boxes)
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[i + 1 :])
