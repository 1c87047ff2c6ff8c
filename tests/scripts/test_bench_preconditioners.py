"""The step benchmark runs and judges; what it measures is for `make bench`, not for a test."""

from __future__ import annotations

import csv
import itertools

import pytest
import torch
from torch import nn

from optimizers import Shampoo, state_bytes
from scripts import bench_peers, bench_preconditioners, bench_report
from scripts.authors import AUTHORS_VARIABLE
from scripts.bench_report import Row, Target, judge, table, write_rows
from scripts.bench_steps import Contender, Timing, bytes_of, time_in_turns


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Recorder(torch.optim.SGD):
    """Keeps the gradients it is given, and then does what no optimizer should do to them."""

    seen: list[list[torch.Tensor]]

    def step(self, closure=None):
        parameters = self.param_groups[0]["params"]
        self.seen.append([parameter.grad.clone() for parameter in parameters])
        parameters[0].grad.zero_()
        parameters[1].grad = None


def recorder(name: str, seen: list[list[torch.Tensor]]) -> Contender:
    def make(parameters):
        optimizer = Recorder(parameters, lr=0.1)
        optimizer.seen = seen
        return optimizer

    return Contender(name, make)


def run(contenders, period=2, num_rounds=3):
    model = nn.Linear(3, 2)
    return time_in_turns(contenders, model, period=period, num_warmup=2, num_rounds=num_rounds)


def test_all_contenders_see_the_same_gradients_whatever_the_others_do_to_them():
    first, second = [], []
    run([recorder("first", first), recorder("second", second)])
    assert len(first) == len(second) == 2 + 2 * 3
    for mine, theirs in zip(first, second, strict=True):
        assert all(map(torch.equal, mine, theirs))
        assert all(grad.abs().sum() > 0 for grad in mine)


def test_contenders_take_turns_of_a_period():
    order = []

    def contender(name):
        class Ordered(torch.optim.SGD):
            def step(self, closure=None):
                order.append(name)

        return Contender(name, lambda parameters: Ordered(parameters, lr=0.1))

    run([contender("a"), contender("b")], period=2, num_rounds=2)
    assert [(name, len(list(steps))) for name, steps in itertools.groupby(order)] == [
        ("a", 2),
        ("b", 2),  # warm-up
        ("a", 2),
        ("b", 2),
        ("a", 2),
        ("b", 2),
    ]


def test_a_step_is_divided_into_its_parts():
    contender = bench_preconditioners.kronecker("Shampoo", Shampoo)
    names = [name for methods in contender.parts.values() for _, name in methods]
    before = [vars(Shampoo).get(name) for name in names]
    timing = run([contender], period=20)["Shampoo"]
    assert [vars(Shampoo).get(name) for name in names] == before
    assert set(timing.shares) == {"statistics", "roots", "application"}
    assert sum(timing.shares.values()) == pytest.approx(1)
    assert min(timing.shares.values()) > 0
    assert 0 < timing.amortised < timing.worst
    assert timing.syncs is None


def test_the_state_of_ours_is_what_it_says_and_that_of_objects_is_found():
    parameters = list(nn.Linear(3, 2).parameters())
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer = Shampoo(parameters, lr=0.1)
    optimizer.step()
    assert bytes_of(optimizer) == state_bytes(optimizer) > 0

    class Factor:
        def __init__(self, owner):
            self.owner = owner  # a cycle back to the parameter's own state
            self.matrix = torch.zeros(5, 5)

    sgd = torch.optim.SGD(parameters, lr=0.1)
    sgd.state[parameters[0]]["factor"] = Factor(sgd.state)
    sgd.state[parameters[0]]["parameter"] = parameters[0]
    assert bytes_of(sgd) == 100


def timing(amortised: float, **shares: float) -> Timing:
    return Timing(amortised, 2 * amortised, shares, 1_000_000, None)


ROWS = [
    Row("net", "torch SGD", timing(1e-3), 1.0),
    Row("net", "ours", timing(4e-3, statistics=0.25, roots=0.5, application=0.25), 4.0),
    Row("net", "theirs", timing(10e-3), 10.0),
]


@pytest.mark.parametrize(
    ("limit", "verdict", "met"),
    [(0.4, "0.400 (target 0.4: met)", True), (0.39, "0.400 (target 0.39: MISSED)", False)],
)
def test_a_target_is_met_or_missed(limit, verdict, met):
    lines, passed = judge([Target("net", "ours", "theirs", limit)], ROWS, {})
    assert lines == [f"ours over theirs, net: {verdict}; 4.00 ms, the other 10.00 ms"]
    assert passed is met


def test_what_is_not_there_is_not_a_pass():
    target = Target("net", "ours", "absent", 1.0)
    lines, passed = judge([target], ROWS, {"absent": "not installed"})
    assert lines == ["ours over absent, net: NOT MEASURED (target 1); not installed"]
    assert not passed


def test_targets_on_models_left_out_are_not_judged():
    assert judge([Target("another net", "ours", "theirs", 1.0)], ROWS, {}) == ([], True)


def test_every_target_names_a_model_and_contenders_that_take_part(monkeypatch):
    monkeypatch.delenv(AUTHORS_VARIABLE, raising=False)
    names = {}
    for model in bench_preconditioners.MODELS:
        found, absent = bench_preconditioners.contenders(model, torch.device("cpu"))
        names[model] = {contender.name for contender in found} | set(absent)
    for target in bench_preconditioners.TARGETS:
        assert {target.optimizer, target.other} <= names[target.model], target


def test_peers_that_are_missing_are_named(monkeypatch):
    monkeypatch.delenv(AUTHORS_VARIABLE, raising=False)
    monkeypatch.setattr(bench_peers.importlib.util, "find_spec", lambda name: None)
    found, absent = bench_peers.peers(20, 128)
    assert found == []
    assert len(absent) == 5
    assert "pip install -e .[peers]" in absent[bench_peers.SCALABLE_SHAMPOO]
    assert "KAPPA_AUTHORS" in absent[bench_peers.AUTHORS_KRADAGRAD_STAR]


def test_a_wrong_path_to_the_authors_code_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv(AUTHORS_VARIABLE, str(tmp_path))
    monkeypatch.setattr(bench_peers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"KAPPA_AUTHORS must be a clone of .*, got "):
        bench_peers.peers(20, 128)


def test_the_tables_hold_every_line(tmp_path):
    path = tmp_path / "bench" / "cpu.csv"
    write_rows(ROWS, path)
    with path.open() as file:
        header, *lines = csv.reader(file)
    assert tuple(header) == bench_report.COLUMNS
    assert lines[1][:8] == ["net", "ours", "4.000", "8.000", "4.00", "0.250", "0.500", "0.250"]
    assert lines[0][5:] == ["", "", "", "1000000", ""]
    assert len({len(line) for line in table(ROWS)}) == 1
    assert "|    4.00 |     8.00 |  4.00 |   25% |   50% |   25% |     1.00 |" in table(ROWS)[3]


def test_too_few_rounds_are_refused(capsys):
    assert bench_preconditioners.main(["--rounds", "2"]) == 2
    assert capsys.readouterr().err == "--rounds must be >= 3, got 2\n"


@pytest.mark.parametrize("part", ["AdagradBMA", "GGT, ", "GGTHardWindow"])
def test_ours_without_factors_are_divided_too(part):
    found, _ = bench_preconditioners.contenders(bench_preconditioners.CNN, torch.device("cpu"))
    (contender,) = (contender for contender in found if part in contender.name)
    (timing,) = run([contender], period=20).values()
    assert set(timing.shares) == {"statistics", "roots", "application"}
    assert sum(timing.shares.values()) == pytest.approx(1)
    assert min(timing.shares.values()) > 0
