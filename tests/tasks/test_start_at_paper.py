"""The loss at the start of the networks that run at scale=paper, on a few generated samples."""

import functools
import math

import pytest
import torch
from hydra.utils import instantiate
from torch import nn
from torch.nn import functional as F

import run
from tasks.base import Batch

# Shape of an image, and classes.
IMAGES = {
    "mnist_cnn_small": ((1, 28, 28), 10),
    "mnist_cnn_large": ((1, 28, 28), 10),
    "cifar10_cnn_small": ((3, 32, 32), 10),
    "cifar10_cnn_large": ((3, 32, 32), 10),
    "cifar10_shakeshake": ((3, 32, 32), 10),
    "cifar10_resnet32": ((3, 32, 32), 10),
    "cifar100_resnet56": ((3, 32, 32), 100),
    "imagenet_resnet50": ((3, 224, 224), 1000),
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@functools.cache
def config(name):
    return run.compose([f"task={name}", "scale=paper", "seed=3"]).task


def a_batch(inputs, targets):
    return Batch(inputs, targets, epoch=0, index=0, num_samples=len(targets))


@pytest.mark.parametrize("name", IMAGES)
def test_without_a_read_out_the_loss_is_log_of_the_classes(name):
    task = instantiate(config(name))
    model = task.build_model()
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    shape, num_classes = IMAGES[name]
    images = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        loss = task.loss(model, a_batch(images, torch.tensor([1, 2]))).item()
    # Round-off of float32.
    assert loss == pytest.approx(math.log(num_classes), rel=1e-6)


# Variance of an image's logits at the start, in training mode. Read-outs have torch's own values,
# U(+-n^-.5) with n features: a variance of 1/3 times the features' mean square, and 1/(3 n) of the
# bias where there is one. The networks without normalisation have tests of their own.
LOGITS = {
    # What the tanh layers let through is small, so that the bias counts alone.
    "mnist_cnn_small": 1 / (3 * 3),
    "mnist_cnn_large": 1 / (3 * 32),
    "cifar10_cnn_small": 1 / (3 * 12),
    "cifar10_cnn_large": 1 / (3 * 128),
    # The last stage: a shortcut behind BatchNorm, of variance 1, and four branches with alpha^2 +
    # (1 - alpha)^2 of it, 2/3 on average. A ReLU and the mean over positions leave (2 pi)^-.5 of
    # its standard deviation.
    "cifar10_shakeshake": (1 + 4 * 2 / 3) / (2 * math.pi) / 3,
    # The blocks of the last stage begin as a shortcut behind BatchNorm and a ReLU.
    "imagenet_resnet50": 1 / (2 * math.pi) / 3,
}


@pytest.mark.parametrize("name", LOGITS)
def test_images_start_from_log_of_the_classes(name):
    shape, num_classes = IMAGES[name]
    torch.manual_seed(0)
    with torch.no_grad():
        logits = instantiate(config(name)).build_model()(torch.randn(4, *shape))
    # With each class as often the right one.
    loss = (logits.logsumexp(1) - logits.mean(1)).mean().item()
    more = LOGITS[name] / 2 * (1 - 1 / num_classes)
    # Ten logits know their own variance to a half, 1000 to a twentieth; what the tanh layers still
    # let through adds up to 0.003.
    tolerance = (0.6 if num_classes == 10 else 0.1) * more + 0.003
    assert loss == pytest.approx(math.log(num_classes) + more, abs=tolerance)


def random_symbols(vocab_size, shape):
    """Inputs and targets that know nothing of each other."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(3, vocab_size, (2, *shape), generator=generator).unbind()


# Variance of the logits over the vocabulary at the start, which adds half of itself to the loss
# (the log of a mean of exponentials of normal numbers), and how far off 256 targets may be,
# relatively: their mean logit has an error of (variance / 256)^.5, and ptb_gpt has only 50 symbols.
TEXT = {
    # A normalised vector of squared norm `width` times weights N(0, 0.02).
    "ptb_gpt": (lambda cfg: 0.02**2 * cfg.width, 0.02),
    # The outputs of LSTM layers are small, and so are the weights of the read-outs.
    "ptb_lstm": (lambda cfg: 0.0, 0.01),
    "ptb_word_lstm": (lambda cfg: 0.0, 0.01),
    # A normalised vector of squared norm `dim` times embeddings N(0, 1/dim). The loss is 0.36 more,
    # as the read-out finds the token before in its own embedding: see the next test.
    "iwslt14_transformer": (lambda cfg: 1.0, 0.05),
}


@pytest.mark.parametrize("name", TEXT)
def test_text_starts_from_log_of_the_vocabulary(name):
    cfg = config(name)
    task = instantiate(cfg)
    inputs, targets = random_symbols(cfg.vocab_size, (4, 64))
    if name == "iwslt14_transformer":
        inputs = (targets, inputs)
    with torch.no_grad():
        loss = task.loss(task.build_model().eval(), a_batch(inputs, targets)).item()
    variance, tolerance = TEXT[name]
    expected = math.log(cfg.vocab_size) + variance(cfg) / 2
    assert loss == pytest.approx(expected, rel=tolerance)


def test_translation_starts_from_theory_but_for_the_token_before():
    """The read-out is the embedding, and the token before is still in the decoder's output."""
    cfg = config("iwslt14_transformer")
    source, previous = random_symbols(cfg.vocab_size, (4, 64))
    targets = previous.roll(1)
    with torch.no_grad():
        logits = instantiate(cfg).build_model().eval()(source, previous)
    own = logits.gather(2, previous[..., None])
    # cos(output, embedding) dim^.5: the embedding is between a tenth and all of the output.
    assert 0.1 * 512**0.5 < own.mean().item() < 512**0.5
    others = logits.scatter(2, previous[..., None], -math.inf)
    loss = F.cross_entropy(others.flatten(0, 1), targets.flatten()).item()
    # Targets of a logit of variance 1: 1/16 of 9.7.
    assert loss == pytest.approx(math.log(cfg.vocab_size) + 0.5, rel=0.015)
