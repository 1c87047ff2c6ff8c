"""The comparison with the authors' code, against stand-ins for that code."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from scripts import authors, compare_authors
from scripts.authors import Clone
from scripts.authors_cases import Case, cases
from scripts.compare_authors import compare, largest_difference, line, main


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def sgd_of(lr: float):
    """Stands in for the authors: momentum SGD."""

    def make(model, dtype):
        optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
        return lambda step: optimizer.step()

    return make


CLONE = Clone("KAPPA_TEST_CLONE", "someone/something", "code.py", "stand_in")


def case_of(lr: float) -> Case:
    return Case("SGD", "sgd", {"lr": 0.1, "momentum": 0.9}, CLONE, sgd_of(lr), double_model=True)


def test_the_same_steps_show_no_difference_and_others_do():
    torch.manual_seed(0)
    same = compare(case_of(0.1), nn.Linear(3, 2), (1, 3))
    assert same.differences == {1: 0.0, 3: 0.0} and same.of_the_way == 0
    other = compare(case_of(0.1 * (1 + 1e-3)), nn.Linear(3, 2), (1, 3))
    # Steps that are 1e-3 longer end 1e-3 of the way apart, which float32 resolves to 1e-6 / 1e-3.
    assert other.of_the_way == pytest.approx(1e-3 / (1 + 1e-3), rel=1e-2)
    assert 0 < other.differences[1] < other.differences[3] < 1e-3


def test_gradients_of_samples_do_not_follow_the_parameters():
    case = replace(
        case_of(0.1), samples=True, dtype=torch.float64, model=compare_authors.AUTOENCODER
    )
    model = nn.Linear(784, 784).double()
    start = [parameter.detach().clone() for parameter in model.parameters()]
    found = []
    for values in (start, [value + 1 for value in start]):
        compare_authors.write(model, values)
        compare_authors.give_gradients(case, model, start, 3)
        found.append([parameter.grad.clone() for parameter in model.parameters()])
        assert all(map(torch.equal, model.parameters(), values))
    assert all(map(torch.equal, *found))
    compare_authors.give_gradients(case, model, start, 4)
    assert not torch.equal(model.weight.grad, found[0][0])


@pytest.mark.parametrize(
    ("ours", "theirs", "start", "expected"),
    [
        ([3.0, 4.0], [3.0, 4.0], None, 0.0),
        ([0.0, 0.0], [0.0, 0.0], None, 0.0),
        ([3.0, 4.0], [0.0, 5.0], None, math.sqrt(10) / 5),
        ([3.0, 4.0], [0.0, 5.0], [0.0, 3.0], math.sqrt(10) / 2),
        ([1.0, 0.0], [0.0, 0.0], None, math.inf),
        ([math.nan, 0.0], [1.0, 0.0], None, math.inf),
    ],
)
def test_the_largest_difference(ours, theirs, start, expected):
    tensors = [[torch.ones(2), torch.tensor(values)] for values in (ours, theirs)]
    begin = None if start is None else [torch.zeros(2), torch.tensor(start)]
    assert largest_difference(*tensors, begin) == pytest.approx(expected)


def test_a_line_says_whether_the_bound_is_kept():
    outcome = compare_authors.Outcome({1: 1e-7, 10: 1e-6, 50: 2e-4}, 3e-4)
    text = "| SGD | ResNet-32 (no BN) | float32 | 1.0e-07 | 1.0e-06 | 2.0e-04 | 3.0e-04 | {} |"
    assert line(replace(case_of(0.1), bound=1e-3), outcome) == text.format("1e-03")
    assert line(replace(case_of(0.1), bound=1e-4), outcome) == text.format("1e-04 MISSED")
    assert len(compare_authors.HEADER[0].split("|")) == len(text.split("|"))


def test_every_case_has_an_authors_yaml_and_both_dtypes_on_both_models():
    found = cases()
    assert len({(case.method, case.model, case.dtype) for case in found}) == len(found) == 6 * 4
    for case in found:
        assert "authors" in case.yaml
        assert (compare_authors.FOLDER / f"{case.yaml}.yaml").exists()


@pytest.mark.parametrize(("bound", "status"), [(1.0, 0), (1e-9, 1)])
def test_the_exit_status_judges_the_rows(monkeypatch, tmp_path, capsys, bound, status):
    (tmp_path / "code.py").touch()
    monkeypatch.setenv(CLONE.variable, str(tmp_path))
    monkeypatch.setattr(compare_authors, "cases", lambda: [replace(case_of(0.2), bound=bound)])
    monkeypatch.setattr(compare_authors, "MODELS", {case_of(0.2).model: lambda: nn.Linear(3, 2)})
    assert main(["--out", str(tmp_path)]) == status
    text = (tmp_path / "authors.md").read_text()
    assert text == capsys.readouterr().out
    assert ("MISSED" in text) is bool(status)
    assert str(tmp_path) not in text


def test_a_missing_clone_is_named_in_one_line(monkeypatch, capsys):
    for clone in (authors.KRADAGRAD, authors.NGPLUS):
        monkeypatch.delenv(clone.variable, raising=False)
    assert main([]) == 2
    (text,) = capsys.readouterr().err.splitlines()
    assert "git clone https://github.com/jonathanmei/kradagrad && export KAPPA_AUTHORS=" in text
    assert "git clone https://github.com/yangorwell/NGPlus && export KAPPA_AUTHORS_NGPLUS=" in text


def test_modules_of_a_clone_are_imported_with_what_it_lacks(monkeypatch, tmp_path):
    clone = Clone("KAPPA_TEST_CLONE", "someone/something", "code.py", "lacking", ("not_there",))
    (tmp_path / "code.py").write_text("from . import not_there\nfrom .other import value\n")
    (tmp_path / "other.py").write_text("value = 3\n")
    monkeypatch.setenv(clone.variable, str(tmp_path))
    monkeypatch.setattr(authors.sys, "modules", dict(authors.sys.modules))
    assert clone.is_given() and clone.module("code").value == 3
    monkeypatch.setenv(clone.variable, str(tmp_path / "nowhere"))
    with pytest.raises(
        ValueError, match=r"^KAPPA_TEST_CLONE must be a clone of someone/something, "
    ):
        clone.module("code")
