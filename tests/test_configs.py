"""Every YAML composes and instantiates, and every experiment's pairs run."""

import functools
import importlib.util
import itertools
import shutil

import hydra
import pytest
import yaml
from hydra.utils import instantiate
from omegaconf import OmegaConf

import run
from runners.layers import require_layers
from runners.plan import make_plan
from runners.pool import list_overrides
from runners.records import read_manifest
from runners.schedules import Schedule
from scripts.matrix import PAGE
from scripts.matrix_page import read_page, requirement
from tasks.base import Task
from tests.commands import CONF, column

NAMES = {
    folder.name: sorted(path.stem for path in folder.glob("*.yaml"))
    for folder in CONF.iterdir()
    if folder.is_dir()
}


def compose(*overrides, conf=CONF):
    with hydra.initialize_config_dir(str(conf), version_base="1.3"):
        return hydra.compose("config", list(overrides))


@functools.cache
def composed(optimizer, task, scale):
    """What the tests that only read it share."""
    return compose(f"task={task}", f"optimizer={optimizer}", f"scale={scale}")


def test_every_folder_is_looked_at():
    tested = {"task", "optimizer", "scale", "schedule", "probe", "tracking", "sweep", "budget"}
    assert {name for name in NAMES if name not in ("experiment", "tuned")} <= tested
    # What a scale changes: conf/scale/<scale>/<group>/<name>.yaml, for names that there are.
    for path in CONF.glob("scale/*/*/*.yaml"):
        scale, group, name = path.relative_to(CONF / "scale").with_suffix("").parts
        assert scale in NAMES["scale"] and name in NAMES[group]


# A task's file and an optimizer's compose apart from each other, as does what a scale changes for
# either: every task at every scale, and every optimizer at those that change something for it. What
# is tuned is for a task, a scale and an optimizer.
TRIPLES = sorted(
    {
        *((optimizer, "logistic", "smoke") for optimizer in NAMES["optimizer"]),
        *(
            (path.stem, "logistic", path.relative_to(CONF / "scale").parts[0])
            for path in CONF.glob("scale/*/optimizer/*.yaml")
        ),
        *(("sgd", task, scale) for task in NAMES["task"] for scale in NAMES["scale"]),
        *(
            (path.stem, *path.relative_to(CONF / "tuned").parts[:2])
            for path in CONF.glob("tuned/*/*/*.yaml")
        ),
    }
)


@pytest.mark.parametrize(("optimizer", "task", "scale"), TRIPLES)
def test_every_optimizer_composes_with_every_task_and_scale(optimizer, task, scale):
    cfg = composed(optimizer, task, scale)
    assert cfg.scale == scale
    assert "experiment" in cfg and cfg.experiment is None
    # Resolves without an error: nothing refers to a key that is not there.
    resolved = OmegaConf.to_container(cfg, resolve=True)
    # Keys of the optimizer's own file and no others, whatever the task and the scale.
    own = yaml.safe_load((CONF / "optimizer" / f"{optimizer}.yaml").read_text())
    assert resolved["optimizer"].keys() == own.keys()


@functools.cache
def makers():
    """Optimizer -> what makes it from a model, and its learning rate; those that are installed."""
    found = {}
    for name in NAMES["optimizer"]:
        cfg = composed(name, "logistic", "smoke").optimizer
        if importlib.util.find_spec(cfg.cls.path.split(".")[0]) is not None:
            found[name] = (instantiate(cfg), cfg.lr)
    return found


@pytest.mark.parametrize("task", NAMES["task"])
def test_every_optimizer_is_built_for_every_task_or_refused(task):
    built = instantiate(composed("sgd", task, "smoke").task)
    assert isinstance(built, Task)
    page = read_page(PAGE.read_text())
    for name, (make, lr) in makers().items():
        model = built.build_model()
        try:
            made = make(model)
            require_layers(made)
        except ValueError as error:
            # One of the reasons that the matrix lists; there are more, found later in a run.
            assert requirement(str(error)) == page[name, task][1], name
        else:
            assert made.param_groups[0]["lr"] == lr


@pytest.mark.parametrize("name", NAMES["schedule"])
def test_every_schedule_instantiates(name):
    cfg = compose(f"schedule={name}", "scale=smoke")
    schedule = instantiate(cfg.schedule)
    assert isinstance(schedule, Schedule)
    assert [rule.key for rule in schedule.rules] == list(cfg.schedule.rules)


OWN_SCHEDULES = sorted((CONF / "schedule" / "of").glob("*/*.yaml"))


@pytest.mark.parametrize("path", OWN_SCHEDULES, ids=lambda path: path.stem)
def test_a_task_has_its_papers_schedule_by_default(path):
    scale, task = path.parent.name, path.stem
    assert scale in NAMES["scale"] and task in NAMES["task"]
    own = run.compose([f"task={task}", f"scale={scale}"])
    assert own.choices.schedule == f"{scale}/{task}" and own.schedule.rules
    assert isinstance(instantiate(own.schedule), Schedule)
    # The command line wins, and elsewhere nothing is driven.
    for more in ([f"scale={scale}", "schedule=constant"], ["scale=smoke"]):
        other = run.compose([f"task={task}", *more])
        assert other.choices.schedule == "constant" and not other.schedule.rules
    chosen = run.compose([f"task={task}", f"scale={scale}", "schedule=exponential"])
    assert list(chosen.schedule.rules.lr.shape) == ["_target_", "rate", "period"]


@pytest.mark.parametrize("name", NAMES["probe"])
def test_every_probe_instantiates(name):
    cfg = compose(f"probe={name}", "scale=smoke")
    assert (name == "none") == (not cfg.probe)
    if cfg.probe:
        assert callable(instantiate(cfg.probe).observe)


@pytest.mark.parametrize("name", NAMES["tracking"])
def test_every_tracking_instantiates(name):
    tracker = instantiate(compose(f"tracking={name}", "scale=smoke").tracking)
    for method in ("start", "log", "finish"):
        assert callable(getattr(tracker, method))


def test_tracking_is_wandb_except_at_scale_smoke():
    assert "Wandb" in compose("scale=small").tracking._target_
    assert "Null" in compose("scale=smoke").tracking._target_
    assert "Wandb" in compose("scale=smoke", "tracking=wandb").tracking._target_


@pytest.mark.parametrize("name", NAMES["budget"])
def test_every_budget_is_a_share_of_the_steps(name):
    cfg = compose(f"budget={name}")
    assert cfg.budget.name == name
    assert 0 < cfg.budget.fraction <= 1


@pytest.mark.parametrize("name", NAMES["sweep"])
def test_every_sweep_composes_and_its_keys_are_everywhere(name):
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = hydra.compose("config", [f"sweep={name}"], return_hydra_config=True)
    for key in cfg.hydra.sweeper.params or {}:
        group, _, option = key.rpartition(".")
        for chosen in NAMES[group] if group else [""]:
            pair = {"optimizer": "sgd", "task": "logistic", group: chosen}
            other = composed(pair["optimizer"], pair["task"], "smoke") if group else cfg
            assert option in (other[group] if group else other), (key, chosen)


def test_what_a_scale_changes_for_one_optimizer_lands_on_no_other(tmp_path):
    conf = tmp_path / "conf"
    shutil.copytree(CONF, conf)
    change = conf / "scale" / "smoke" / "optimizer" / "ggt.yaml"
    change.parent.mkdir(parents=True, exist_ok=True)
    change.write_text("window: 5\n")
    smoke = ("scale=smoke", "task=logistic")
    assert compose(*smoke, "optimizer=ggt", conf=conf).optimizer.window == 5
    assert "window" not in compose(*smoke, "optimizer=adam", conf=conf).optimizer
    printed = compose(*smoke, "optimizer=ggt_printed")
    assert compose(*smoke, "optimizer=ggt_printed", conf=conf) == printed
    assert compose("scale=small", "optimizer=ggt", conf=conf).optimizer.window == 100
    # The command line always wins.
    typed = compose(*smoke, "optimizer=ggt", "optimizer.window=9", conf=conf)
    assert typed.optimizer.window == 9


def test_tuned_values_are_for_one_pair_at_one_scale(tmp_path):
    conf = tmp_path / "conf"
    shutil.copytree(CONF, conf)
    tuned = conf / "tuned" / "logistic" / "smoke" / "adam.yaml"
    tuned.parent.mkdir(parents=True)
    tuned.write_text("# @package _global_\noptimizer:\n  lr: 0.125\n")
    pair = ("task=logistic", "optimizer=adam", "scale=smoke")
    assert compose(*pair, conf=conf).optimizer.lr == 0.125
    assert compose(*pair, "optimizer.lr=0.5", conf=conf).optimizer.lr == 0.5
    for other in ("task=barrier", "optimizer=adamw", "scale=small"):
        key = other.split("=")[0]
        chosen = [x for x in pair if not x.startswith(key)]
        assert compose(*chosen, other, conf=conf).optimizer.lr != 0.125


# ---------------------------------------------------------------- experiments


def plan_of(name, **extra):
    cfg = compose(f"experiment={name}")
    plain = OmegaConf.to_container(cfg.experiment, resolve=True)
    search = cfg.experiment.search
    score = instantiate(search.score) if search else None
    assert score is None or score.rule
    return make_plan(plain, score, extra)


KEYS = {"name", "cost", "stand_in", "shipped", "common", "cases", "methods", "search", "final"}


@pytest.mark.parametrize("name", NAMES["experiment"])
def test_every_experiment_tells_its_command_and_cost(name):
    text = (CONF / "experiment" / f"{name}.yaml").read_text()
    plan = plan_of(name)
    assert plan.name == name
    assert plan.facts["cost"] and set(plan.facts["cost"]) <= set(NAMES["scale"])
    header = "\n".join(itertools.takewhile(lambda line: line.startswith("#"), text.splitlines()))
    assert f"python run.py experiment={name}" in header
    assert set(yaml.safe_load(text)) <= KEYS  # a misspelt key would say nothing


@pytest.mark.parametrize("name", NAMES["experiment"])
def test_every_pair_of_an_experiment_runs_three_steps(name, tmp_path, fake_sets):
    # The sets here have too few batches to accumulate many.
    extra = {"scale": "smoke", "budget": "full", "max_steps": 3, "num_threads": 1, "accumulate": 1}
    plan = plan_of(name, **extra, tracking="none", runs_dir=str(tmp_path))
    chosen = [
        {"case": case, "method": method, "values": {key: values[0] for key, values in grid.items()}}
        for case in plan.cases
        for method, grid in plan.grids.items()
    ]
    pairs = {(r.case, r.method): r for r in plan.finals(chosen)}
    assert len(pairs) == len(plan.cases) * len(plan.methods)
    for request in {(r.case, r.method): r for r in plan.trials()}.values():
        run.compose(list_overrides(request))  # as in the final stage but for a few plain keys
    for (case, method), request in pairs.items():
        outcome = run.compose_and_run(list_overrides(request), name, 1)
        assert outcome["status"] == "finished", (case, method, outcome["reason"])
        manifest = read_manifest(outcome["run_dir"])
        assert manifest["experiment"] == name
        assert column(outcome["run_dir"], "steps", "step") == [0, 1, 2]
