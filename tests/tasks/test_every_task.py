"""What every task promises, for each YAML in conf/task, on small generated data."""

import contextlib
import functools
import itertools
import math
from unittest import mock

import pytest
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate

import run
from runners import train
from runners.keeper import Keeper
from tasks.base import Batch, Task
from tests.commands import CONF, assert_same, assert_same_run, column, command, the_run
from tests.fake_sets import standing_in

NAMES = sorted(path.stem for path in (CONF / "task").glob("*.yaml"))

# Parameters at scale=paper.
PARAMETERS = {
    "ae_curves": 842_340,
    "ae_faces": 7_537_655,
    "ae_mnist": 2_837_314,
    "barrier": 10,
    "cifar100_resnet56": 854_804,
    "cifar10_cnn_large": 140_906,
    "cifar10_cnn_small": 466,
    "cifar10_resnet32": 461_882,
    "cifar10_shakeshake": 2_923_162,
    "criteo_dlrm": 540_677_217,  # 16 for each of 33,762,577 categories, and two perceptrons
    "imagenet_resnet50": 25_557_032,
    "iwslt14_transformer": 36_743_168,
    "logistic": 10,
    "ml20m_hvamp": 86_465_308,
    "matproj_schnet": 455_809,
    "mnist_cnn_large": 139_370,
    "mnist_cnn_small": 322,
    "online_convex": 8 * 4,
    "permuted_mnist_gem": 89_610,
    "ptb_gpt": 10_784_256,
    "ptb_lstm": 4_895_730,
    "ptb_word_lstm": 24_221_600,
    "qm9_schnet": 455_809,
    "quadratic": 128**2,
    "quadratic2d": 2,
    "quadratic_1536": 1536**2,
    "quadratic_384": 384**2,
    "split_cifar100_lamaml": 1_419_940,
}


def log_of(count, more=0.0):
    return lambda task: math.log(count) + more


def constant(task):
    """Loss of the same outputs for every image."""
    return task.facts()["constant_test"]


def of_gaussian(task):
    """Mean of tr(X'AXB) over X with entries N(0, 1)."""
    a, b = task.instance()
    return (a.trace() * b.trace()).item()


def of_the_last_bias(task):
    """Loss of the logit's own bias, a draw from N(0, 1), for every row."""
    bias = task.build_model().top[-1].bias
    return task.loss(lambda *inputs: bias.expand(len(inputs[0])), split_as_batch(task)).item()


def split_as_batch(task):
    rows = task._evaluated(task.target.split)
    return Batch(*task._samples(rows), 0, 0, len(rows))


def clicked_or_not(task):
    """Loss of one bit an item. Noise in the logits and the KL at the start add to it."""
    return 1.1 * task.num_items * math.log(2)


def shares_of_variance_one(task):
    """What the composition cannot tell, and an untrained read-out, the same for all atoms."""
    standard, structures = task.standard, task._structures["valid"]
    atoms = [1 if standard.per_atom else len(s.numbers) for s in structures]
    square = sum(n**2 for n in atoms) / len(atoms)
    return task.facts()["composition"] + standard.deviation**2 * square


# Loss of the untrained model, of the target's split, and how far one draw of the initial values of
# a tiny model may be off, relatively. Those of scale=paper: test_start_at_paper, test_resnet_start.
START = {
    "ae_curves": (constant, 0.1),
    "ae_faces": (constant, 0.05),
    "ae_mnist": (constant, 0.05),
    "barrier": (lambda task: 1.0, 0.1),  # mean of -log c over c ~ U[0, 1], from 1000 of them
    "cifar100_resnet56": (log_of(100), 0.1),
    "cifar10_cnn_large": (log_of(10), 0.1),
    "cifar10_cnn_small": (log_of(10), 0.1),
    "cifar10_resnet32": (log_of(10), 0.1),
    "cifar10_shakeshake": (log_of(10), 0.1),
    # A row's own share of the logit has a third of the bias's variance.
    "criteo_dlrm": (of_the_last_bias, 0.2),
    "imagenet_resnet50": (log_of(50), 0.1),
    # Its logits have variance 1: a normalised vector times embeddings of variance 1/dim.
    "iwslt14_transformer": (log_of(300, 0.5), 0.1),
    "logistic": (log_of(2), 1e-6),  # the weights begin at 0
    "ml20m_hvamp": (clicked_or_not, 0.15),
    # One draw of a chi-squared variable of few degrees is in half of what they have.
    "matproj_schnet": (shares_of_variance_one, 0.5),
    "mnist_cnn_large": (log_of(10), 0.1),
    "mnist_cnn_small": (log_of(10), 0.1),
    "online_convex": (log_of(2), 1e-6),  # logistic losses, and the weights begin at 0
    "permuted_mnist_gem": (log_of(10), 0.1),
    "ptb_gpt": (log_of(50), 0.02),
    "ptb_lstm": (log_of(50), 0.02),
    "ptb_word_lstm": (log_of(200), 0.02),
    "qm9_schnet": (shares_of_variance_one, 0.5),
    # Few eigenvalues count, so that one draw of X is far from the mean.
    "quadratic": (of_gaussian, 0.5),
    "quadratic_1536": (of_gaussian, 0.5),
    "quadratic_384": (of_gaussian, 0.5),
    "quadratic2d": (lambda task: 0.5 * (1 + 0.8**2 - 2 * 0.8 * 0.8), 1e-6),  # of (1, .8)
    # Logits of variance 1/3, of uniform heads on features of mean square 1, cost 4/5 of its half.
    "split_cifar100_lamaml": (log_of(5, 0.13), 0.1),
}


@pytest.fixture(scope="module", autouse=True)
def sets(sets_dir):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with standing_in(sets_dir):
        yield sets_dir
    torch.set_num_threads(threads)


@functools.cache
def config(name, scale="smoke"):
    return run.compose([f"task={name}", f"scale={scale}", "seed=3"]).task


def fresh(name, dtype=torch.float32):
    """The task at scale=smoke, set up."""
    task = instantiate(config(name))
    task.setup("cpu", dtype)
    return task


@pytest.fixture(scope="module")
def ready(sets):
    """Task by name, set up once; its carried state is forgotten before each use."""
    kept = {}

    def get(name) -> Task:
        if name not in kept:
            kept[name] = fresh(name)
        kept[name].reset()
        return kept[name]

    return get


def first(task, count, epoch=0, start=0):
    return list(itertools.islice(task.batches(epoch, start), count))


def content(batches):
    return [(b.inputs, b.targets, b.epoch, b.index, b.num_samples) for b in batches]


@pytest.mark.parametrize("name", NAMES)
def test_batches_follow_from_seed_and_epoch_and_go_on_anywhere(name, ready):
    task, again = ready(name), fresh(name)
    assert task.steps_per_epoch >= 1
    count = min(4, task.steps_per_epoch)
    batches = content(first(task, count))
    assert [batch[2:4] for batch in batches] == [(0, index) for index in range(count)]
    # Another epoch and the global generator in between change nothing.
    second = content(first(again, count, epoch=1))
    torch.rand(3)
    for start in range(count):
        assert_same(content(first(again, count - start, start=start)), batches[start:])
    assert_same(content(first(task, count, epoch=1)), second)
    assert len(list(task.batches(0))) == task.steps_per_epoch
    assert list(task.batches(0, task.steps_per_epoch)) == []


def steps(task, evaluate_between):
    """Parameters after two steps of SGD, and what was evaluated after the first."""
    model, found = task.build_model(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    for step, batch in enumerate(first(task, 2)):
        train.seed_step(0, step)
        optimizer.zero_grad()
        task.backward(model, batch)
        optimizer.step()
        if evaluate_between and step == 0:
            state = task.state_dict()
            found = [task.evaluate(model, task.target.split) for _ in range(2)]
            assert_same(task.state_dict(), state)
            assert model.training
    return [parameter.detach() for parameter in model.parameters()], found


@pytest.mark.parametrize("name", NAMES)
def test_evaluation_is_deterministic_and_leaves_no_trace(name, ready):
    parameters, found = steps(ready(name), evaluate_between=True)
    assert found[0] == found[1]
    assert all(isinstance(value, float) for value in found[0].values())
    assert_same(parameters, steps(ready(name), evaluate_between=False)[0])


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_at_the_start_is_that_of_theory(name, ready):
    task = ready(name)
    metrics = task.evaluate(task.build_model(), task.target.split)
    assert task.target.metric in metrics
    expected, tolerance = START[name]
    assert metrics.get("nll", metrics["loss"]) == pytest.approx(expected(task), rel=tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_the_datas_hash_is_known_without_reading_it(name):
    task = instantiate(config(name))
    digest = task.data_hash()
    assert digest == fresh(name).data_hash()
    small = instantiate(config(name, "small"))
    assert (small.data_hash() == digest) == (small.data == task.data)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "key, value",
    [("data", "nothing"), ("batch_size", 0), ("max_steps", 0), ("eval_splits", ["nowhere"])],
)
def test_a_bad_option_is_refused_by_its_name(name, key, value):
    with pytest.raises(InstantiationException) as error:
        instantiate(config(name), **{key: value})
    said = str(error.value.__cause__ or error.value)
    assert isinstance(error.value.__cause__, ValueError)
    assert said.startswith({"eval_splits": "split"}.get(key, key)), said
    assert " must be " in said and "got " in said


@pytest.mark.parametrize("name", NAMES)
def test_missing_data_is_one_line_and_leaves_nothing(name, tmp_path, sets):
    data = config(name).data
    if not (sets / data).is_dir():
        pytest.skip(f"{data} is generated")
    runs_dir, data_dir = tmp_path / "runs", tmp_path / "data"
    result = command(f"task={name}", "scale=smoke", f"data_dir={data_dir}", f"runs_dir={runs_dir}")
    assert result.code == 2
    assert result.err.startswith(f"run.py: data set {data} is missing"), result.err
    assert len(result.err.splitlines()) == 1
    assert not runs_dir.exists() and not data_dir.exists()


def smoke(name, runs_dir, *more):
    return [
        f"task={name}", "optimizer=adam", "optimizer.lr=1e-4", "scale=smoke",
        "checkpoint.keep=true", f"runs_dir={runs_dir}", *more,
    ]  # fmt: skip


@contextlib.contextmanager
def stopped_at(step):
    """Runs are asked to stop after a step, as by a signal."""
    after_step = Keeper.after_step

    def stop(self, run, loss):
        self.stop_requested = self.stop_requested or run.step == step
        return after_step(self, run, loss)

    with mock.patch.object(Keeper, "after_step", stop):
        yield


@pytest.mark.parametrize("name", NAMES)
def test_the_smoke_run_finishes_and_resumes_bit_for_bit(name, tmp_path):
    result = command(*smoke(name, tmp_path / "uncut"))
    assert result.code == 0, result
    assert result.out.startswith("finished"), result
    losses = column(the_run(tmp_path / "uncut"), "steps", "loss")
    assert len(losses) == config(name).max_steps
    with stopped_at(len(losses) // 2 - 1):
        assert command(*smoke(name, tmp_path / "cut")).code == 130
    assert command(*smoke(name, tmp_path / "cut")).code == 0
    assert_same_run(the_run(tmp_path / "cut"), the_run(tmp_path / "uncut"))


@pytest.mark.parametrize("name", NAMES)
def test_autocast_trains(name, tmp_path):
    result = command(*smoke(name, tmp_path, "precision=bf16_autocast", "max_steps=2"))
    assert result.code == 0, result
    assert result.out.startswith("finished"), result


def test_the_tables_are_whole():
    assert sorted(PARAMETERS) == NAMES
    assert sorted(START) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_parameters_at_scale_paper(name, tmp_path):
    if instantiate(config(name, "paper")).data == "synthetic":
        model = instantiate(config(name, "paper")).build_model()
        assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]
        return
    # Without its data, so that nothing is timed.
    asked = [f"task={name}", "scale=paper", "dry_run=true", f"data_dir={tmp_path}"]
    result = command(*asked, f"runs_dir={tmp_path}")
    assert result.code == 0, result
    assert f"parameters={PARAMETERS[name]}" in result.out.splitlines()
