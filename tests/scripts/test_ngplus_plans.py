"""Experiments of the NG+ paper that have to agree with each other and with measurements."""

from pathlib import Path

import pytest
import yaml

from scripts.measurements import ngplus_variant_times

PLANS = Path(__file__).parents[2] / "conf" / "experiment"


def plan(name):
    return yaml.safe_load((PLANS / f"{name}.yaml").read_text())


def test_timed_forms_are_those_of_the_experiment():
    methods = plan("ngplus_variants")["methods"]
    assert set(ngplus_variant_times.FORMS) | {"sgd", "adam", "ng_plus_authors"} == set(methods)


@pytest.mark.parametrize("part", ["common", "cases", "methods", "search"])
def test_seconds_are_those_of_the_runs_of_fig2(part):
    """The same trials and so the same choice, whose runs are made again alone."""
    assert plan("ngplus_fig2_seconds")[part] == plan("ngplus_fig2")[part]


def test_final_runs_for_seconds_are_made_alone():
    ours, theirs = plan("ngplus_fig2_seconds")["final"], plan("ngplus_fig2")["final"]
    assert ours == {**theirs, "overrides": {"timing": "exclusive"}}
