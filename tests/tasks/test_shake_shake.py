"""Shake-Shake: its size, its start, its coefficients, and what the layers compute."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tasks.models.shake_shake import Shake, ShakeShake
from tests.commands import assert_same_run, command, start, the_run, wait_until


def test_the_papers_network_has_the_stated_size():
    model = ShakeShake(depth=26, width=32, num_classes=10)
    assert sum(p.numel() for p in model.parameters()) == 2_923_162
    # 24 convolutions along a branch, one more in the stem; the read-out is the 26th layer.
    assert sum(isinstance(m, Shake) for m in model.modules()) * 2 + 2 == 26


def test_it_starts_from_he_normal_numbers():
    model = ShakeShake(depth=26, width=32, num_classes=10)
    for block in (model.features.stage1[1], model.features.stage3[2]):
        weight = block.first.conv2.weight
        expected = 2 / (9 * weight.shape[0])
        # The variance of 9,216 normal numbers is off by 1.5 % (one sigma).
        assert weight.var().item() == pytest.approx(expected, rel=0.06)
    # Every axis counts but the channels in: 64 of them here, and 64 channels out.
    half = model.features.stage3[0].shortcut.shifted.weight
    assert half.var().item() == pytest.approx(2 / 64, rel=0.1)  # 2.2 % (one sigma)
    bound = 128**-0.5
    assert 0.95 * bound < model.readout.weight.abs().max().item() <= bound
    assert not model.readout.bias.any()
    assert not any(m.bias is not None for m in model.modules() if isinstance(m, nn.Conv2d))


# ---------------------------------------------------------------- the coefficients


def drawn(batch=4096):
    """Coefficients of the forward and of the backward pass, as they show outside: (batch,) each."""
    first = torch.ones(batch, 1, 2, 2, requires_grad=True)
    second = torch.zeros(batch, 1, 2, 2, requires_grad=True)
    mixed = Shake()(first, second)
    mixed.sum().backward()
    for tensor in (mixed, first.grad, second.grad):  # one number an image
        assert torch.equal(tensor, tensor[:, :, :1, :1].expand_as(tensor))
    torch.testing.assert_close(first.grad + second.grad, torch.ones_like(first))
    return mixed.detach()[:, 0, 0, 0], first.grad[:, 0, 0, 0]


def test_forward_and_backward_coefficients_are_uniform_and_independent():
    alpha, beta = drawn()
    for numbers in (alpha, beta):
        assert numbers.min() >= 0 and numbers.max() <= 1
        # Sigma of the mean and of the variance of 4,096 uniform numbers: 0.0045 and 0.0012.
        assert numbers.mean().item() == pytest.approx(0.5, abs=0.02)
        assert numbers.var().item() == pytest.approx(1 / 12, abs=0.005)
    # Sigma of a correlation of 4,096 pairs: 0.016.
    assert abs(torch.corrcoef(torch.stack([alpha, beta]))[0, 1].item()) < 0.06
    assert len(alpha.unique()) > 4000  # one an image, and not one a batch


def test_coefficients_follow_from_the_global_generator_alone():
    torch.manual_seed(7)
    before = drawn(16)
    other = drawn(16)
    torch.manual_seed(7)
    for a, b, c in zip(before, drawn(16), other, strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


def test_coefficients_are_those_of_float32_in_every_precision():
    found = []
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        torch.manual_seed(3)
        found.append(
            Shake()(torch.ones(5, 1, 1, 1, dtype=dtype), torch.zeros(5, 1, 1, 1).to(dtype))
        )
        assert found[-1].dtype == dtype
    torch.testing.assert_close(found[1], found[0].double(), rtol=0, atol=0)
    # bfloat16 has 8 bits.
    torch.testing.assert_close(found[2].float(), found[0], rtol=2**-8, atol=0)


def test_evaluation_takes_the_mean_and_draws_nothing():
    first, second = torch.randn(2, 3, 4, 5, 6, requires_grad=True)
    shake = Shake().eval()
    state = torch.get_rng_state()
    mixed = shake(first, second)
    # Either rounds once or twice in float32.
    torch.testing.assert_close(mixed, (first + second) / 2, rtol=1e-6, atol=1e-6)
    grads = torch.autograd.grad(mixed.sum(), (first, second))
    assert all(torch.equal(grad, torch.full_like(grad, 0.5)) for grad in grads)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_gradient_of_a_block_is_that_of_its_backward_coefficients():
    """d out/d branch 1 = beta inside the whole network, though alpha made the output."""
    block = ShakeShake(8, 4, 3).double().features.stage2[0]
    caught = {}
    block.shake.register_forward_hook(lambda _, inputs, out: caught.update(x=inputs, y=out))
    block(torch.randn(3, 4, 8, 8, dtype=torch.float64))
    (first, second), mixed = caught["x"], caught["y"]
    upstream = torch.randn_like(mixed)
    grads = torch.autograd.grad(mixed, (first, second), upstream)
    beta = grads[0] / upstream
    alpha = (mixed - second) / (first - second)
    for coefficient in (alpha, beta):
        same = coefficient[:, :1, :1, :1].expand_as(coefficient)
        # Quotients of float64 differences.
        torch.testing.assert_close(coefficient, same, rtol=1e-7, atol=1e-7)
    assert (alpha[:, 0, 0, 0] - beta[:, 0, 0, 0]).abs().min() > 1e-3
    torch.testing.assert_close(grads[1], (1 - beta) * upstream)


# ---------------------------------------------------------------- the layers


def reference(state, images, depth, width):
    """Logits in evaluation, written from the paper's description with functions alone."""

    def norm(x, name):
        mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        scale = state[f"{name}.weight"] / torch.sqrt(var + 1e-5)
        return (x - mean[:, None, None]) * scale[:, None, None] + state[f"{name}.bias"][
            :, None, None
        ]

    def branch(x, name, stride):
        x = F.conv2d(x.clamp(min=0), state[f"{name}.conv1.weight"], stride=stride, padding=1)
        x = norm(x, f"{name}.norm1").clamp(min=0)
        return norm(F.conv2d(x, state[f"{name}.conv2.weight"], padding=1), f"{name}.norm2")

    def widening(x, name, stride):
        x = x.clamp(min=0)
        moved = torch.zeros_like(x)  # one pixel to the right and one down
        moved[:, :, 1:, 1:] = x[:, :, :-1, :-1]
        halves = []
        for pixels, half in ((x, "straight"), (moved, "shifted")):
            kernel = state[f"{name}.{half}.weight"][:, :, 0, 0]
            halves.append(torch.einsum("bchw,oc->bohw", pixels[:, :, ::stride, ::stride], kernel))
        return norm(torch.cat(halves, 1), f"{name}.norm")

    x = F.conv2d(images, state["features.stem.weight"], padding=1)
    x = norm(x, "features.stem_norm")
    channels = 16
    for stage in (1, 2, 3):
        for index in range((depth - 2) // 6):
            name = f"features.stage{stage}.{index}"
            stride = 2 if stage > 1 and index == 0 else 1
            target = width * 2 ** (stage - 1)
            skip = x if channels == target else widening(x, f"{name}.shortcut", stride)
            first, second = (branch(x, f"{name}.{which}", stride) for which in ("first", "second"))
            x, channels = skip + (first + second) / 2, target
    pooled = x.clamp(min=0).mean((2, 3))
    return pooled @ state["readout.weight"].T + state["readout.bias"]


@pytest.mark.parametrize(("depth", "width"), [(26, 6), (8, 16)])
def test_evaluation_equals_a_plain_reference(depth, width):
    model = ShakeShake(depth, width, 10).double()
    images = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    model(images)  # running statistics that are not 0 and 1
    model.eval()
    with torch.no_grad():
        expected = reference(model.state_dict(), images, depth, width)
        torch.testing.assert_close(model(images), expected, rtol=1e-9, atol=1e-11)


def test_a_reading_of_the_shifted_pixels_by_hand():
    """With stride 2 the shifted half sees pixels (-1, 1), of which -1 is empty."""
    shortcut = ShakeShake(8, 16, 10).features.stage2[0].shortcut.double()
    image = torch.arange(1.0, 17, dtype=torch.float64).view(1, 1, 4, 4).expand(1, 16, 4, 4)
    seen = {}
    for half in ("straight", "shifted"):
        hook = getattr(shortcut, half).register_forward_hook
        hook(lambda _, inputs, out, half=half: seen.update({half: inputs[0][0, 0].tolist()}))
    shortcut(image)
    assert seen["straight"] == [[1.0, 3.0], [9.0, 11.0]]
    assert seen["shifted"] == [[0.0, 0.0], [0.0, 6.0]]


def test_gradients_reach_every_parameter():
    model = ShakeShake(8, 4, 10)
    F.cross_entropy(model(torch.randn(4, 3, 32, 32)), torch.arange(4)).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_a_read_out_of_zeros_has_the_loss_of_chance():
    model = ShakeShake(8, 4, 10)
    nn.init.zeros_(model.readout.weight)
    loss = F.cross_entropy(model(torch.randn(4, 3, 32, 32)), torch.arange(4))
    assert loss.item() == pytest.approx(math.log(10), rel=1e-6)


def test_bfloat16_autocast_trains():
    model = ShakeShake(8, 4, 10)
    with torch.autocast("cpu", torch.bfloat16):
        loss = F.cross_entropy(model(torch.randn(4, 3, 32, 32)), torch.arange(4))
        loss.backward()
    assert all(
        p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters()
    )


# torch's tracer makes an object of its own class Function, and warns of doing so.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_a_traced_pass_is_the_same_pass():
    """torch.compile sees through the custom gradient; "aot_eager" traces and compiles nothing."""
    model = ShakeShake(8, 4, 10)
    images, labels = torch.randn(4, 3, 32, 32), torch.arange(4)

    def gradient(run, seed):
        model.zero_grad()
        torch.manual_seed(seed)
        F.cross_entropy(run(images), labels).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    traced = torch.compile(model, backend="aot_eager", fullgraph=True)
    expected = gradient(model, 5)
    # Sums in another order in float32, through three normalised blocks.
    assert (gradient(traced, 5) - expected).norm() < 1e-4 * expected.norm()
    assert (gradient(traced, 6) - expected).norm() > 1e-2 * expected.norm()


def test_a_run_that_was_killed_ends_with_the_same_bits(tmp_path, sets_dir):
    """Crops and coefficients included: both are functions of the step."""
    more = ("max_steps=30", "checkpoint.steps=1", "checkpoint.keep=true", "optimizer.lr=0.01")
    request = ("task=cifar10_shakeshake", "optimizer=adam", "scale=smoke", *more)
    cut, uncut = tmp_path / "cut", tmp_path / "uncut"
    assert command(*request, f"runs_dir={uncut}", sets_dir=sets_dir).code == 0
    there = (*request, f"runs_dir={cut}")
    process = start(*there, output=tmp_path / "out", sets_dir=sets_dir)
    wait_until(lambda: any(cut.glob("*/*/*/checkpoint.pt")), process)
    process.kill()
    process.join()
    result = command(*there, sets_dir=sets_dir)
    assert result.code == 0 and "going on from step" in result.err
    assert_same_run(the_run(cut), the_run(uncut))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth": 27}, r"depth must be 6 k \+ 2 with k >= 1, got 27"),
        ({"depth": 2}, r"depth must be 6 k \+ 2 with k >= 1, got 2"),
        ({"width": 5}, "width must be even and >= 2, got 5"),
        ({"width": 0}, "width must be even and >= 2, got 0"),
        ({"num_classes": 0}, "num_classes must be >= 1, got 0"),
    ],
)
def test_sizes_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        ShakeShake(**{"depth": 8, "width": 4, "num_classes": 10, **changes})
