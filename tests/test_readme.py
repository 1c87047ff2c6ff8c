"""The README names what there is."""

import re

import pytest

from tests.commands import CONF

README = (CONF.parent / "README.md").read_text()


def names(group):
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def row(key):
    """Names in the row of a key."""
    line = next(line for line in README.splitlines() if line.startswith(f"| `{key}` |"))
    return sorted(re.findall(r"`(\w+)`", line)[1:])


@pytest.mark.parametrize("key", ["schedule", "sweep", "budget", "scale", "tracking"])
def test_the_row_of_a_key_has_its_values(key):
    assert row(key) == names(key)


@pytest.mark.parametrize("group", ["task", "optimizer"])
def test_every_task_and_optimizer_is_named(group):
    """By its name, or by an ending beside a name that begins alike."""
    said = set(re.findall(r"`(\w+)`", README))
    endings = [word for word in said if word.startswith("_")]

    def is_named(name):
        starts = [name.removesuffix(ending) for ending in endings if name.endswith(ending)]
        return name in said or any(word.startswith(start) for start in starts for word in said)

    assert [name for name in names(group) if not is_named(name)] == []


def test_commands_that_compose_name_files_that_there_are():
    commands = re.findall(r"^    (?:python|make) .*", README, re.M)
    asked = re.findall(r"\b(task|optimizer|experiment|scale|sweep)=([\w,]+)", "\n".join(commands))
    assert len(asked) >= 8
    known = {group: [*names(group), "mine"] for group, _ in asked}
    assert [
        (group, name)
        for group, values in asked
        for name in values.split(",")
        if name not in known[group]
    ] == []
