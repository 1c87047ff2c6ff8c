"""NG+ in the size of the batch: sketches against their transcription, and cores that fail."""

import copy

import pytest
import torch
from torch import nn

from optimizers import NGPlus
from optimizers.layerwise import ng_plus_state
from optimizers.linalg.sketch import draw_rows
from tests.optimizers import reference_ng_plus as reference
from tests.optimizers.ng_plus_models import Dense, Images, Tensors, Text, seeded, train

FLOAT64 = dict.fromkeys(("statistics_dtype", "root_dtype", "apply_dtype"), "float64")
COMMON = {"lr": 0.02, "momentum": 0.8, "damping": 0.3}
NUM_STEPS = 20
# float64 against float64 in another order of summation; a damped inverse has condition 1e4 at most.
CLOSE = {"rtol": 1e-9, "atol": 1e-11}


class Twins(Dense):
    """Two layers of one shape, which are worked on together."""

    def __init__(self) -> None:
        super().__init__()
        self.net = seeded(lambda: nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6)))


@pytest.fixture(autouse=True)
def one_thread():
    """Small tensors gain nothing from two threads and lose much where others need the core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make(model, **options):
    return NGPlus(model.parameters(), model=model, **{**COMMON, **FLOAT64, **options})


def assert_same(model, other, **close):
    for (name, ours), theirs in zip(model.named_parameters(), other.parameters(), strict=True):
        assert torch.allclose(ours, theirs, **{**CLOSE, **close}), name


def transcribed(other, **options):
    """Twenty steps of the transcription."""
    batches = [other.batch(step) for step in range(NUM_STEPS)]
    reference.ng_plus(other, other.losses, batches, list(other.matrices), **{**COMMON, **options})


@pytest.mark.parametrize("update_freq", [1, 5])
@pytest.mark.parametrize("cls", [Dense, Images, Text, Tensors])
def test_sketched_columns(cls, update_freq):
    """Eq. 17 with the drawn columns given to the transcription."""
    model, other = cls(), cls()
    train(model, make(model, update_freq=update_freq, sketch_size=4, seed=5), range(NUM_STEPS))

    def columns(step, number, count):
        return draw_rows(count, 4, 5, step, number) if count > 4 else torch.arange(count)

    transcribed(other, update_freq=update_freq, columns=columns)
    assert_same(model, other)


@pytest.mark.parametrize("update_freq", [1, 5])
@pytest.mark.parametrize("cls", [Dense, Twins])
def test_sketched_rows(cls, update_freq):
    """Eq. 16 with the drawn rows given to the transcription, which solves by least squares."""
    model, other = cls(), cls()
    options = {"method": "low_rank", "sketch_size": 5, "seed": 2}
    train(model, make(model, update_freq=update_freq, **options), range(NUM_STEPS))

    def rows(step, number, count):
        bucket, index = (0, number) if cls is Twins else (number, 0)
        return draw_rows(count, 5, 2, step, bucket, index)

    transcribed(other, update_freq=update_freq, rows=rows)
    assert_same(model, other)
    exact = cls()
    transcribed(exact, update_freq=update_freq)
    assert not torch.allclose(next(model.parameters()), next(exact.parameters()), rtol=1e-3)


@pytest.mark.parametrize("cls", [Dense, Twins])
def test_residuals_are_those_of_the_inverse_in_use(cls):
    model = cls()
    optimizer = make(model, method="low_rank")
    train(model, optimizer, range(2))
    # Inverses of condition |L| / 0.3, below 1e3.
    assert all(0 < s.root_residual < 1e-12 for s in optimizer.spectra())
    for state in (optimizer.state[bucket.key] for bucket in optimizer.buckets):
        state["core"] = 1.01 * state["core"]
    assert all(s.root_residual > 1e-3 for s in optimizer.spectra())
    sketched = make(model, method="low_rank", sketch_size=5)
    train(model, sketched, range(1))
    # What a sketch leaves out counts as an error of the root.
    assert all(0.1 < s.root_residual < 100 for s in sketched.spectra())


def broken(plain, index):
    """`woodbury_core`, but one layer's core is none."""

    def core(U, damping):
        result = plain(U, damping)
        failed = torch.zeros(len(U), dtype=torch.bool).index_fill(0, torch.tensor([index]), True)
        return result._replace(failed=failed)

    return core


@pytest.mark.parametrize("index", [0, 1])
def test_the_first_core_fails_and_the_step_is_skipped(monkeypatch, index):
    model, other = Twins(), Twins()
    optimizer = make(model, method="low_rank")
    plain = ng_plus_state.woodbury_core
    monkeypatch.setattr(ng_plus_state, "woodbury_core", broken(plain, index))
    train(model, optimizer, range(1))
    assert_same(model, other, rtol=0, atol=0)
    assert optimizer.state["shared"] == {"steps": 0, "fallbacks": 1}
    assert [key for key in optimizer.state if isinstance(key, str)] == ["shared"]
    monkeypatch.setattr(ng_plus_state, "woodbury_core", plain)
    train(model, optimizer, range(3))
    train(other, make(other, method="low_rank"), range(3))
    assert_same(model, other, rtol=0, atol=0)


def test_a_later_core_fails_and_the_old_ones_stay(monkeypatch):
    model = Twins()
    optimizer = make(model, method="low_rank", update_freq=2)
    train(model, optimizer, range(2))
    (key,) = (bucket.key for bucket in optimizer.buckets)
    old = copy.deepcopy(optimizer.state[key])
    broken_core = broken(ng_plus_state.woodbury_core, 1)
    monkeypatch.setattr(ng_plus_state, "woodbury_core", broken_core)
    train(model, optimizer, range(2, 4))
    state = optimizer.state[key]
    assert state["refreshed"] == old["refreshed"] == [0, 0]
    assert all(torch.equal(state[name], old[name]) for name in ("basis", "core"))
    assert optimizer.state["shared"] == {"steps": 4, "fallbacks": 1}
    assert [s.staleness for s in optimizer.spectra()] == [3, 3]
    assert all(p.isfinite().all() for p in model.parameters())
