"""Where the residual networks without normalisation start at scale=paper: as theory says.

A convolution from Xavier's normal gives each output a variance of 2/(9 (in + out)) times the sum
of the squares of its patch. Without normalisation nothing undoes that a block adds a branch of
half its input's mean square: the stream's grows by a third in a block, of which ResNet-56 has 27,
and the logits with it.
"""

import functools
import math

import pytest
import torch
from hydra.utils import instantiate
from torch import Tensor
from torch.nn import functional as F

import run

NETWORKS = {"cifar10_resnet32": (32, 10), "cifar100_resnet56": (56, 100)}
SEEDS = 64  # networks: the logarithm of their mean square has a standard deviation of 0.9


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def patch_sums(squares: Tensor, stride: int = 1) -> Tensor:
    """Sum over 3 x 3 positions, none outside the image: (height, width) -> the next layer's."""
    return F.conv2d(squares[None, None], torch.ones(1, 1, 3, 3), stride=stride, padding=1)[0, 0]


def branch_squares(squares: Tensor, channels: int, width: int, stride: int) -> Tensor:
    """Mean square of a block's branch over channels and weights.

    Args:
        squares: mean over channels of the input's square at each position, (height, width).
    """
    inner = patch_sums(squares * channels, stride) * 2 / (9 * (channels + width))
    # A ReLU leaves half the mean square of what is as often negative as positive.
    return patch_sums(inner / 2 * width) * 2 / (9 * (width + width))


@functools.cache
def starts(name):
    """Of SEEDS untrained networks on an image of noise each, of the mean square that pixels have.

    Returns:
        (branches, streams, features, logits): mean squares of the branches over those of theory,
        (SEEDS, blocks); mean square of the last block's output, (SEEDS,); (SEEDS, 64) pooled
        features; (SEEDS, classes) logits.
    """
    task = instantiate(run.compose([f"task={name}", "scale=paper"]).task)
    found = []
    for seed in range(SEEDS):
        task.seed = seed
        model = task.build_model()
        x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
        ratios = []
        with torch.no_grad():
            x = F.relu(model.features.stem(x))
            for block in (b for stage in (2, 3, 4) for b in model.features[stage]):
                conv = block.first.conv
                squares = x[0].square().mean(0)
                theory = branch_squares(squares, conv.in_channels, conv.out_channels, block.stride)
                branch = block.second(F.relu(block.first(x)))
                ratios.append(branch.square().mean() / theory.mean())
                x = block(x)
            features = x.mean((2, 3))[0]
            found.append(
                (torch.stack(ratios), x.square().mean(), features, model.readout(features))
            )
    return [torch.stack(parts) for parts in zip(*found, strict=True)]


@functools.cache
def wide(depth):
    """Mean square and mean of the last block's output in the limit of many channels.

    There the branches are normal numbers, independent between channels: the stream of a channel at
    a position is a Markov chain, x <- relu(x + N(0, branch_squares)), here in 1024 copies.
    """
    generator = torch.Generator().manual_seed(0)

    def normal(variance: Tensor) -> Tensor:
        return variance.sqrt() * torch.randn(1024, *variance.shape, generator=generator)

    x = F.relu(normal(patch_sums(torch.full((32, 32), 3.0)) * 2 / (9 * (3 + 16))))
    channels = 16
    for stage in range(3):
        for index in range((depth - 2) // 6):
            stride = 2 if stage and index == 0 else 1
            width = 16 * 2**stage
            branch = branch_squares(x.square().mean(0), channels, width, stride)
            x = x[:, ::stride, ::stride].clone()
            if width > channels:  # as many empty channels come to those there are
                x[torch.randperm(1024, generator=generator)[:512]] = 0
            x = F.relu(x + normal(branch))
            channels = width
    return x.square().mean().item(), x.mean(0).square().mean().item()


@pytest.mark.parametrize("name", NETWORKS)
def test_each_branch_has_the_variance_that_xaviers_normal_gives_it(name):
    branches = starts(name)[0]
    assert branches.shape == (SEEDS, (NETWORKS[name][0] - 2) // 2)
    # Given its input a branch is an independent draw, with a standard deviation of 0.4: 0.012 in
    # the mean of all 960 or 1,728, 0.05 in that of a block, of which there are 27.
    assert branches.mean().item() == pytest.approx(1, abs=0.05)
    torch.testing.assert_close(branches.mean(0), torch.ones(branches.shape[1]), atol=0.3, rtol=0)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_stream_grows_as_in_a_wide_network(name):
    _, streams, features, _ = starts(name)
    square, square_of_mean = wide(NETWORKS[name][0])
    # The mean over 64 networks is known to 14 % in ResNet-56, 10 % in ResNet-32.
    assert streams.mean().item() == pytest.approx(square, rel=0.4)
    # Pooled: as if positions had nothing in common, or all.
    share = (features.square().mean(1) / streams).mean().item()
    assert square_of_mean / square < share < 1


def gaussian_loss(std, num_classes):
    """Mean cross-entropy of logits N(0, std^2), each class being as often the right one."""
    generator = torch.Generator().manual_seed(0)
    logits = std * torch.randn(4000, num_classes, generator=generator)
    return (logits.logsumexp(1) - logits.mean(1)).mean().item()


@pytest.mark.parametrize("name", NETWORKS)
def test_the_loss_is_that_of_normal_logits_of_that_size(name):
    _, _, features, logits = starts(name)
    num_classes = logits.shape[1]
    # Xavier's uniform distribution, (64 inputs, classes).
    variances = 2 / (64 + num_classes) * features.square().sum(1)
    # 64 x 10 or 64 x 100 squares of logits: a standard deviation of 6 or 2 %.
    ratio = (logits.square().mean(1) / variances).mean().item()
    assert ratio == pytest.approx(1, abs=0.15)
    losses = logits.logsumexp(1) - logits.mean(1)
    expected = [gaussian_loss(variance**0.5, num_classes) for variance in variances.tolist()]
    # One draw of the logits is off by 15 %, the mean of 64 by 2 %.
    assert (losses / torch.tensor(expected)).mean().item() == pytest.approx(1, abs=0.07)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_start_is_as_far_from_log_of_the_classes_as_theory_has_it(name):
    depth, num_classes = NETWORKS[name]
    logits = starts(name)[3]
    losses = logits.logsumexp(1) - logits.mean(1)
    highest, lowest = (
        gaussian_loss((2 * 64 / (64 + num_classes) * square) ** 0.5, num_classes)
        for square in wide(depth)
    )
    # From 3.4 to 4.3 with 32 layers, 19 to 26 with 56. A mean of losses is below the loss at the
    # mean variance, by a tenth where its logarithm has a standard deviation of 0.9.
    assert 0.85 * lowest < losses.mean().item() < highest
    assert lowest > 1.4 * math.log(num_classes)
