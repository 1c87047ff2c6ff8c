"""K-FAC against a sample-by-sample transcription, its limits, and what it does not precondition."""

import copy
import io
import math

import pytest
import torch
from torch import nn

from optimizers import KFAC, state_bytes
from optimizers.layerwise.kfac_factors import split_damping
from tests.optimizers import reference_kfac

EXACT = {
    "statistics_dtype": "float64",
    "root_dtype": "float64",
    "apply_dtype": "float64",
}


def network():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(12, 2)
    )
    return model.double()


def batches(num_batches, size=4, seed=1):
    generator = torch.Generator().manual_seed(seed)
    like = {"generator": generator, "dtype": torch.float64}
    return [
        (torch.randn(size, 2, 4, 4, **like), torch.randn(size, 2, **like))
        for _ in range(num_batches)
    ]


def backward(model, optimizer, inputs, targets, share=1.0):
    """A recorded pass of `share` of the batch."""
    weights = torch.full((len(inputs),), share / len(inputs), dtype=torch.float64)
    with optimizer.record(num_samples=len(inputs), batch_dim=0, weights=weights):
        losses = ((model(inputs) - targets) ** 2).mean(1)
        (weights * losses).sum().backward()


def train(model, optimizer, data):
    for inputs, targets in data:
        optimizer.zero_grad()
        if optimizer.wants_samples():
            backward(model, optimizer, inputs, targets)
        else:
            ((model(inputs) - targets) ** 2).mean().backward()
        optimizer.step()


def matrices(model):
    return [
        torch.cat([m.weight.detach().flatten(1), m.bias.detach()[:, None]], dim=1)
        for m in (model[0], model[3])
    ]


@pytest.mark.parametrize(("statistics_freq", "update_freq"), [(1, 1), (1, 5), (5, 5), (2, 6)])
def test_equals_the_transcription(statistics_freq, update_freq):
    options = {
        "lr": 0.05,
        "momentum": 0.8,
        "damping": 0.03,
        "weight_decay": 0.1,
        "beta2": 0.7,
        "statistics_freq": statistics_freq,
        "update_freq": update_freq,
    }
    model, data = network(), batches(20)
    expected = reference_kfac.kfac(matrices(model), data, **options)
    train(model, KFAC(model.parameters(), model=model, **options, **EXACT), data)
    for ours, theirs in zip(matrices(model), expected, strict=True):
        # Condition numbers of some 1e4 in 20 steps of float64.
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_one_linear_layer_by_hand():
    model = nn.Linear(3, 2, bias=False).double()
    generator = torch.Generator().manual_seed(2)
    a = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    y = torch.randn(5, 2, generator=generator, dtype=torch.float64)
    W = model.weight.detach().clone()
    d = a @ W.T - y  # gradient by the outputs of 2 outputs' mean squared error
    A, G = a.T @ a / 5, d.T @ d / 5
    pi = ((A.trace() / 3) / (G.trace() / 2)).sqrt()
    eye = torch.eye(3, dtype=torch.float64)
    D = torch.linalg.solve(G + 0.1 / pi * eye[:2, :2], d.T @ a / 5)
    D = D @ torch.linalg.inv(A + 0.1 * pi * eye)
    optimizer = KFAC([model.weight], model=model, lr=1.0, momentum=0.0, damping=0.01, **EXACT)
    backward(model, optimizer, a, y)
    optimizer.step()
    torch.testing.assert_close(model.weight.detach(), W - D, rtol=1e-13, atol=1e-13)
    first, second = optimizer.spectra()
    assert (first.name, second.name) == ("weight.A", "weight.G")
    torch.testing.assert_close(first.eigenvalues, torch.linalg.eigvalsh(A))
    torch.testing.assert_close(second.eigenvalues, torch.linalg.eigvalsh(G))
    assert first.root_residual < 1e-13 > second.root_residual


def test_large_damping_is_scaled_sgd():
    model, data = network(), batches(1)
    start = matrices(model)
    optimizer = KFAC(model.parameters(), model=model, lr=1e12, momentum=0.0, damping=1e12)
    train(model, optimizer, data)
    grads = reference_kfac.gradient(start, *data[0])
    for before, after, grad in zip(start, matrices(model), grads, strict=True):
        # The factors are 1e-6 of the damping's root, in float32.
        torch.testing.assert_close(before - after, grad, rtol=1e-4, atol=1e-5)


def test_split_damping_multiplies_to_the_damping_and_follows_the_scales():
    A, G = 4 * torch.eye(3).repeat(2, 1, 1), torch.eye(2).repeat(2, 1, 1)
    G[1] = 0
    added = split_damping(A, G, 0.09)
    assert added[0].tolist() == pytest.approx([0.6, 0.3])
    assert added[1].tolist() == pytest.approx([0.15, 0.3])


def test_two_passes_equal_one_of_both():
    ((inputs, targets),) = batches(1, size=6)
    ends = []
    for parts in ([slice(0, 6)], [slice(0, 2), slice(2, 4), slice(4, 6)]):
        model = network()
        optimizer = KFAC(model.parameters(), model=model, **EXACT)
        for part in parts:
            backward(model, optimizer, inputs[part], targets[part], share=1 / len(parts))
        optimizer.step()
        ends.append(matrices(model))
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-12, atol=1e-12)


def test_other_layers_get_plain_momentum_and_are_named():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, groups=2), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2)
    )
    optimizer = KFAC(model.parameters(), model=model, lr=0.1, weight_decay=0.5)
    described = optimizer.describe()
    assert described["preconditioned"] == ["3.weight"]
    assert described["plain"] == ["0.weight", "0.bias", "1.weight", "1.bias"]
    start = copy.deepcopy(model)
    inputs, targets = batches(1)[0]
    backward(model, optimizer, inputs.float(), targets.float())
    optimizer.step()
    for k in (0, 1):
        for before, after in zip(start[k].parameters(), model[k].parameters(), strict=True):
            expected = (1 - 0.05) * before - 0.1 * after.grad
            torch.testing.assert_close(after, expected)
    assert not torch.allclose(model[3].weight, 0.95 * start[3].weight - 0.1 * model[3].weight.grad)


def test_layers_of_one_shape_are_stacked_and_equal_those_alone():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2))
    model.double()
    twin = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(1)
    data = [(torch.randn(5, 3, generator=generator).double(), torch.ones(5, 2).double())] * 3
    together = KFAC(model.parameters(), model=model, statistics_freq=1, update_freq=2, **EXACT)
    apart = KFAC(
        [{"params": layer.parameters()} for layer in twin if isinstance(layer, nn.Linear)],
        model=twin,
        statistics_freq=1,
        update_freq=2,
        **EXACT,
    )
    assert (len(together.buckets), len(apart.buckets)) == (2, 3)
    train(model, together, data)
    train(twin, apart, data)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)


def test_recording_is_wanted_when_factors_are_due_and_its_lack_refused():
    model, data = network(), batches(7)
    optimizer = KFAC(model.parameters(), model=model, statistics_freq=3, update_freq=6)
    wanted, ages = [], []
    for batch in data:
        wanted.append(optimizer.wants_samples())
        train(model, optimizer, [batch])
        ages.append(optimizer.spectra()[0].staleness)
    assert wanted == [True, False, False, True, False, False, True]
    assert ages == [0, 1, 2, 3, 4, 5, 0]
    fresh = KFAC(model.parameters(), model=model)
    with pytest.raises(ValueError, match=r"must follow a pass inside optimizer\.record"):
        fresh.step()


def test_statistics_that_overflow_leave_no_trace_but_a_count():
    ends = []
    for spoil in (False, True):
        model, data = network().float(), batches(4)
        optimizer = KFAC(model.parameters(), model=model, statistics_freq=1, update_freq=2)
        for t, (inputs, targets) in enumerate(data):
            if spoil and t == 2:
                # Finite gradients: saturated outputs of 1e25 inputs, whose squares overflow.
                train(model, optimizer, [(torch.full((4, 2, 4, 4), 1e25), targets.float())])
            train(model, optimizer, [(inputs.float(), targets.float())])
        ends.append([p.detach() for p in model.parameters()])
    assert all(torch.equal(p, q) for p, q in zip(*ends, strict=True))
    assert optimizer.state["shared"]["fallbacks"] == 1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_continues_from_a_checkpoint_bit_identically(dtype):
    options = {"statistics_freq": 2, "update_freq": 3, "statistics_dtype": dtype}
    data = [(x.float(), y.float()) for x, y in batches(10)]
    model = network().float()
    optimizer = KFAC(model.parameters(), model=model, **options)
    train(model, optimizer, data[:4])
    file = io.BytesIO()
    torch.save([model.state_dict(), optimizer.state_dict()], file)
    file.seek(0)
    weights, state = torch.load(file, weights_only=True)
    twin = network().float()
    twin.load_state_dict(weights)
    restored = KFAC(twin.parameters(), model=twin)
    restored.load_state_dict(state)
    train(model, optimizer, data[4:])
    train(twin, restored, data[4:])
    assert all(
        torch.equal(p, q) for p, q in zip(model.parameters(), twin.parameters(), strict=True)
    )
    assert optimizer.state["group 0, 2 x 13 with bias, float32"]["A"].dtype == getattr(torch, dtype)


def test_memory_is_as_the_docstring_says():
    model = nn.Linear(60, 40)
    optimizer = KFAC(model.parameters(), model=model)
    backward(model, optimizer, torch.ones(3, 60), torch.ones(3, 40))
    optimizer.step()
    formula = 4 * (2 * (40**2 + 61**2) + 40 * 61)
    assert state_bytes(optimizer) == pytest.approx(formula, rel=0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"damping": 0.0}, "damping must be > 0, got 0.0"),
        ({"beta2": 1.0}, r"beta2 must be in \[0, 1\), got 1.0"),
        ({"beta2": math.nan}, r"beta2 must be in \[0, 1\), got nan"),
        ({"statistics_freq": 0}, "statistics_freq must be an integer >= 1, got 0"),
        ({"update_freq": 1.5}, "update_freq must be an integer >= 1, got 1.5"),
        ({"root_dtype": "bfloat16"}, "root_dtype must be one of float32, float64, got bfloat16"),
        ({"model": None}, "model must be the torch.nn.Module that is trained, got NoneType"),
    ],
)
def test_bad_options_are_refused(options, message):
    model = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=f"^{message}$"):
        KFAC(model.parameters(), **{"model": model, **options})
