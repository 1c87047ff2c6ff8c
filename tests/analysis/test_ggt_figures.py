"""What the figures of the GGT paper compute from their records."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import yaml

from analysis.figures import (
    ggt_fig1,
    ggt_fig2_beta2,
    ggt_fig2_damping,
    ggt_low_rate,
    ggt_overhead,
    ggt_tweaks,
)
from analysis.load import MissingRecordsError, Records
from runners import measurements

FACTS = {
    "command": "made up", "commit": "0" * 40, "dirty": False, "num_threads": 1,
    "hardware": {"cpu": "a", "cores": 2}, "packages": {"torch": "2"}, "started_at": "",
    "seconds": 1.0, "timing": "exclusive",
}  # fmt: skip


def write_measurement(root, name, rows, kind="timed"):
    measurements.write(root, name, kind, rows, FACTS)


def convex_run(make, root, method, seed, values, status="finished"):
    evals = [(10 * i, 0.0, "train", "suboptimality", v, 0.0) for i, v in enumerate(values)]
    make.run(
        root, "logistic", "sgd", make.run_id("logistic", method, seed), {"evals": evals},
        seed=seed, status=status,
    )  # fmt: skip
    return ("logistic", method, seed, "logistic", "sgd", status)


def test_robustness_is_the_mean_after_the_start_over_the_start(make, tmp_path):
    final = [
        convex_run(make, tmp_path, "sgd", 0, [8.0, 4.0, 2.0]),
        convex_run(make, tmp_path, "sgd", 1, [2.0, 1.0, 1.0]),
        convex_run(make, tmp_path, "full_1e-8", 0, [8.0, 0.0, 0.0]),
        convex_run(make, tmp_path, "full_1e-8", 1, [2.0, math.inf], status="diverged"),
    ]
    make.experiment(tmp_path, "ggt_fig2_damping", final)
    data = ggt_fig2_damping.table(Records([tmp_path])).set_index(["case", "method", "setting"])
    data = data.sort_index()
    sgd = data.loc[("logistic", "sgd")]
    assert len(sgd) == 4  # the one run without an epsilon is drawn at each
    assert sgd["value"].tolist() == [(3 / 8 + 1 / 2) / 2] * 4
    full = data.loc[("logistic", "full", 1e-8)]
    assert full["value"] == math.inf and full["num_diverged"] == 1 and full["low"] == 0
    assert data.loc[("logistic", "full", 1e-2)]["num_runs"] == 0
    assert np.isnan(data.loc[("barrier", "sgd", 1e-2)]["value"])


def test_decays_are_drawn_beside_what_forgets_nothing(make, tmp_path):
    final = [
        convex_run(make, tmp_path, "full", 0, [8.0, 4.0]),
        convex_run(make, tmp_path, "full_window_.9", 0, [8.0, 2.0]),
        convex_run(make, tmp_path, "full_window_.999", 0, [8.0, 6.0]),
    ]
    make.experiment(tmp_path, "ggt_fig2_beta2", final)
    records = Records([tmp_path])
    data = ggt_fig2_beta2.table(records).set_index(["case", "method", "setting"]).sort_index()
    assert data.loc[("logistic", "full"), "value"].tolist() == [0.5] * 3
    window = data.loc[("logistic", "full_window"), "value"].tolist()
    assert window[0] == 0.25 and np.isnan(window[1]) and window[2] == 0.75
    figure = ggt_fig2_beta2.draw(records)
    entries = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert len(entries) == len(ggt_fig2_beta2.METHODS)


def test_overhead_is_a_ratio_of_medians_and_says_what_is_missing(tmp_path):
    rows = [
        {"case": case, "task": task, "seed": turn, "value": seconds * (1 + turn)}
        for task, factor in (("cnn", 1.25), ("rnn", 2.5))
        for case, seconds in (("sgd", 1.0), ("ggt", factor), ("adam", 1.1))
        for turn in range(3)
    ]
    write_measurement(tmp_path, "ggt_iteration", rows)
    records = Records([tmp_path])
    data = ggt_overhead.table(records)
    first, second, third = data.iloc[0], data.iloc[1], data.iloc[2]
    assert (first["value"], second["value"]) == (1.25, 2.5)
    assert first["num_turns"] == 3 and first["published"] == 1.3
    assert np.isnan(third["value"]) and "scripts.measure ggt_svd" in third["note"]
    figure = ggt_overhead.draw(records, data)
    assert "Not measured" in figure.get_supxlabel()
    with pytest.raises(MissingRecordsError, match=r"ggt_iteration.*ggt_telemetry"):
        ggt_overhead.table(Records([tmp_path / "none"]))


def test_overhead_growth_keeps_the_other_size_fixed(tmp_path):
    rows = [
        {"case": "ggt", "d": d, "r": r, "seed": turn, "value": d * r * 1e-9}
        for d, r in ((100_000, 50), (300_000, 50), (300_000, 100), (10_000, 100))
        for turn in range(3)
    ]
    others = [("write", 1.0), ("adam", 4.0), ("dense", 5.0)]
    rows += [
        {"case": case, "d": 1, "r": 0, "seed": turn, "value": value}
        for case, value in others
        for turn in range(3)
    ]
    write_measurement(tmp_path, "ggt_step_time", rows)
    data = ggt_overhead.table(Records([tmp_path]))
    assert data.loc[data["panel"] == "d", "size"].tolist() == [100_000, 300_000]
    assert data.loc[data["panel"] == "r", "size"].tolist() == [50, 100]
    written = data[data["what"].str.startswith("write")].iloc[0]
    assert written["value"] == 0.25


def lm_run(make, root, experiment, case, method, seed, loss):
    steps = [(i, loss, 0.1, 1.0, 0.1 * i, None) for i in range(20)]
    evals = [(20, 1.0, "test", "accuracy", 1 / (1 + loss), 2.0)]
    run_id = f"{experiment}-{case}-{method}-{seed}"
    make.run(root, "a_task", "x", run_id, {"steps": steps, "evals": evals}, seed=seed)
    return {
        "case": case, "method": method, "values": {}, "seed": seed, "task": "a_task",
        "optimizer": "x", "run_id": run_id, "status": "finished",
    }  # fmt: skip


def write_runs(make, root, experiment, case, losses, choice=()):
    path = make.experiment(root, experiment, [], choice)
    document = json.loads(path.read_text())
    document["final"] = [
        lm_run(make, root, experiment, case, method, seed, loss + 0.1 * seed)
        for method, loss in losses.items()
        for seed in (0, 1, 2)
    ]
    path.write_text(json.dumps(document))


def test_tweaks_draw_what_is_there_and_say_the_rest(make, tmp_path):
    write_runs(make, tmp_path, "ggt_tweaks", "ptb", {"ggt": 1.0, "ggt_r10": 2.0})
    records = Records([tmp_path])
    data = ggt_tweaks.table(records)
    values = data.set_index("method")["value"]
    assert values["ggt"] == pytest.approx(1.1) and values["ggt_r10"] == pytest.approx(2.1)
    assert "experiment=ggt_tweaks_cifar" in data["note"].iloc[-1]
    texts = [t.get_text() for axes in ggt_tweaks.draw(records, data).axes for t in axes.texts]
    assert any("ggt_tweaks_cifar" in text for text in texts)
    with pytest.raises(MissingRecordsError, match="ggt_tweaks_cifar"):
        ggt_tweaks.table(Records([tmp_path / "none"]))


def test_rates_are_the_tuned_one_and_those_in_the_names(make, tmp_path):
    tuned = {**make_choice("cosine", "adam"), "values": {"optimizer.lr": 0.01}}
    write_runs(make, tmp_path, "ggt_cifar_text", "cosine", {"adam": 1.0, "rmsprop": 9.0}, [tuned])
    write_runs(make, tmp_path, "ggt_low_rate", "cosine", {"adam_1e-3": 2.0, "adam_3e-4": 3.0})
    data = ggt_low_rate.table(Records([tmp_path]))
    losses = data[data["y"] == "loss"].sort_values("lr")
    assert losses["lr"].tolist() == [3e-4, 1e-3, 0.01]
    assert losses["value"].tolist() == pytest.approx([3.1, 2.1, 1.1])
    assert set(data["name"]) == {"adam"}  # what the figure does not show is not in its table


def make_choice(case, method):
    return {
        "case": case, "method": method, "values": {}, "score": 1.0, "num_trials": 4,
        "at_edge": False,
    }  # fmt: skip


def test_fig1_caption_has_the_numbers_of_its_matrices(tmp_path):
    rows = [
        {"case": case, "row": i, "column": j, "value": float(i == j)}
        for case in ("gram", "G", "U", "unit")
        for i in range(3)
        for j in range(3)
    ]
    rows[-1]["value"] = 1.25  # U'U is off by a quarter
    rows += [{"case": "eigenvalue", "row": i, "column": 0, "value": 10.0**-i} for i in range(3)]
    rows += [{"case": "root", "row": 0, "column": 0, "value": 2e-12}]
    write_measurement(tmp_path, "ggt_fig1", rows, "exact")
    records = Records([tmp_path])
    caption = ggt_fig1.draw(records).get_supxlabel().replace("\n", " ")
    assert "Condition number of GᵀG: 100." in caption
    assert "2.5e-01" in caption and "2.0e-12" in caption


def test_fig4_tops_rates_are_those_that_fig3_top_chose():
    root = Path(__file__).resolve().parents[2]
    index = root / "results" / "experiments" / "ggt_fig3_top.json"
    if not index.is_file():
        pytest.skip("ggt_fig3_top is not shipped yet")
    chosen = {
        choice["method"]: float(choice["values"]["optimizer.lr"])
        for choice in json.loads(index.read_text())["choice"]
    }
    plan = yaml.safe_load((root / "conf" / "experiment" / "ggt_fig4_top.yaml").read_text())
    given = {name: float(m["optimizer.lr"]) for name, m in plan["methods"].items()}
    assert given == chosen
