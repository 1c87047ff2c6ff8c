"""NG+ as an optimizer: what it keeps, tells and refuses, and how it goes on."""

import copy
import io

import pytest
import torch
from torch import nn

from optimizers import NGPlus, NGPlusAuthors, NGPlusAuthorsOnline, state_bytes
from tests.optimizers.ng_plus_models import Dense, Images, Text, backward, train
from tests.optimizers.ng_plus_runs import COMMON, FLOAT64, make

VARIANTS = {
    "samples": {},
    "momentum": {"beta2": 0.5},
    "minibatch": {"statistic": "minibatch", "beta2": 0.9},
    "low_rank": {"method": "low_rank"},
    "sketched": {"method": "low_rank", "sketch_size": 3},
    "blocks": {"block_size": 3},
}


# ---------------------------------------------------------------- what is kept and told


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_restored_optimizer_goes_on_bit_identically(variant):
    options = {"update_freq": 3, **VARIANTS[variant]}
    model = Images()
    optimizer = make(model, **options)
    train(model, optimizer, range(7))
    file = io.BytesIO()
    torch.save([model.state_dict(), optimizer.state_dict()], file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    twin = Images()
    twin.load_state_dict(saved[0])
    restored = make(twin, update_freq=1)
    restored.load_state_dict(saved[1])
    copied = copy.deepcopy(optimizer)
    train(copied.model, copied, range(7, 12))
    train(model, optimizer, range(7, 12))
    train(twin, restored, range(7, 12))
    for p, q, r in zip(
        model.parameters(), twin.parameters(), copied.model.parameters(), strict=True
    ):
        assert torch.equal(p, q) and torch.equal(p, r)


@pytest.mark.parametrize("variant", VARIANTS)
def test_state_bytes_follow_the_formula(variant):
    model = Dense()  # [W b]: 9 x 7, so k = 7, and 8 x 10, so k = 8
    optimizer = make(model, **VARIANTS[variant])
    train(model, optimizer, range(2))
    momentum = sum(p.numel() for p in model.parameters())
    curvature = {
        "low_rank": 4 * (7 + 8) + 2 * 4**2,  # k b + b^2 of 4 samples
        "sketched": 4 * (7 + 8) + 2 * 4**2 + 2 * 3,  # and the numbers of the rows
        "blocks": 2 * (3 * 9 + 3 * 9),  # the last block is padded
    }.get(variant, 2 * (7**2 + 8**2))
    assert state_bytes(optimizer) == 8 * (momentum + curvature)


def test_what_is_kept_is_told_by_name():
    model = Dense()
    optimizer = make(model)
    assert list(optimizer.matrices()) == []
    train(model, optimizer, range(1))
    found = [(name, quantity, tuple(t.shape)) for name, quantity, t in optimizer.matrices()]
    assert found[:2] == [
        ("net.0.weight", "statistic", (1, 7, 7)),
        ("net.0.weight", "root", (1, 7, 7)),
    ]
    assert [name for name, quantity, _ in found if quantity == "momentum"] == [
        name for name, _ in model.named_parameters()
    ]


def test_what_is_preconditioned_is_said():
    model = Images()
    found = make(model).describe()
    assert found["preconditioned"] == ["net.0.weight", "net.2.weight", "net.5.weight"]
    assert found["plain"] == ["net.4.weight", "net.4.bias"]
    authors = NGPlusAuthors(Text().parameters(), model := Text())
    assert authors.describe()["preconditioned"] == []
    assert NGPlusAuthors(model.parameters(), model).describe()["preconditioned"] == [
        "readout.weight"
    ]


# ---------------------------------------------------------------- groups


def test_groups_have_options_of_their_own():
    """Damping and frequency from the group of the weight, lr and decay from each parameter's."""
    options = {"lr": 0.02, "momentum": 0.8, "damping": 0.3, "update_freq": 2}
    model, single = Dense(), Dense()
    weights = [model.net[0].weight, model.net[2].weight]
    biases = [model.net[0].bias, model.net[2].bias]
    groups = [{"params": weights}, {"params": biases, "lr": 0.0, "damping": 5.0}]
    optimizer = NGPlus(groups, model=model, **options, **FLOAT64)
    train(model, optimizer, range(1))
    train(single, NGPlus(single.parameters(), single, **options, **FLOAT64), range(1))
    for index in (0, 2):
        assert torch.equal(model.net[index].weight, single.net[index].weight)
        assert torch.equal(model.net[index].bias, Dense().net[index].bias)


def test_parameters_may_be_added():
    model = Dense()
    optimizer = NGPlus(model.net[2].parameters(), model, **COMMON, **FLOAT64, update_freq=100)
    train(model, optimizer, range(2))
    assert not optimizer.wants_samples()
    optimizer.add_param_group({"params": list(model.net[0].parameters()), "damping": 0.1})
    assert optimizer.wants_samples()
    train(model, optimizer, range(2, 4))
    assert not optimizer.wants_samples()
    assert [s.staleness for s in optimizer.spectra()] == [3, 1]


# ---------------------------------------------------------------- what is refused


def test_a_step_without_a_record_says_what_to_do():
    model = Dense()
    optimizer = make(model, update_freq=2)
    assert optimizer.wants_samples()
    model.losses(model.batch(0)).mean().backward()
    message = (
        r"^step 0 must follow a pass inside optimizer.record\(num_samples, batch_dim, weights\)"
    )
    with pytest.raises(ValueError, match=message):
        optimizer.step()
    backward(model, optimizer, model.batch(0))
    optimizer.step()
    assert not optimizer.wants_samples()
    model.losses(model.batch(0)).mean().backward()
    optimizer.step()
    assert optimizer.wants_samples()
    backward(model, optimizer, model.batch(0))
    model.net[2].weight.grad = None
    optimizer.step()


def test_a_layer_used_outside_its_module_is_named():
    model = Dense()
    optimizer = make(model)
    with optimizer.record(4, 0, torch.full((4,), 0.25)):
        x = model.net[1](model.net[0](model.batch(0)))
        (x @ model.net[2].weight.T).sum().backward()
    with pytest.raises(ValueError, match=r"^net\.2 must be called inside optimizer.record"):
        optimizer.step()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"damping": 0.0}, "damping must be > 0, got 0.0"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
        ({"update_freq": 0}, "update_freq must be an integer >= 1, got 0"),
        ({"beta2": 1.0}, r"beta2 must be in \[0, 1\), got 1.0"),
        ({"statistic": "minibatch", "beta2": 1.1}, r"beta2 must be in \[0, 1\], got 1.1"),
        ({"statistic": "all"}, "statistic must be one of samples, minibatch, got all"),
        ({"side": "both"}, "side must be one of smaller, left, right, got both"),
        ({"method": "sparse"}, "method must be one of dense, low_rank, got sparse"),
        ({"method": "low_rank", "beta2": 0.5}, "method must be dense unless statistic is samples"),
        ({"sample": "word"}, "sample must be one of sequence, token, got word"),
        ({"radius": 1.0}, "radius must be null, or > 0 with statistic minibatch, got 1.0"),
        ({"block_size": 0}, "block_size must be an integer >= 1, got 0"),
        ({"sketch_size": 2.5}, "sketch_size must be an integer >= 1, got 2.5"),
        ({"curvature_samples": 0}, "curvature_samples must be an integer >= 1, got 0"),
        ({"gamma": 0.0}, "gamma must be > 0, got 0.0"),
        ({"initial": -1.0}, "initial must be >= 0, got -1.0"),
        ({"root_dtype": "bfloat16"}, "root_dtype must be one of float32, float64, got bfloat16"),
        ({"model": 3}, "model must be the torch.nn.Module that is trained, got int"),
    ],
)
def test_bad_options_are_refused(options, message):
    model = Dense()
    with pytest.raises(ValueError, match=f"^{message}"):
        NGPlus(model.parameters(), **{"model": model, **options})


def test_complex_parameters_are_refused():
    model = nn.Linear(2, 2, dtype=torch.complex64)
    with pytest.raises(ValueError, match=r"^dtype of parameter 0 must be real, got torch"):
        NGPlus(model.parameters(), model)
    with pytest.raises(ValueError, match=r"^dtype of parameter 0 must be real, got torch"):
        NGPlusAuthorsOnline(model.parameters())
