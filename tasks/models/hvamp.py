"""Two-layer variational autoencoder of clicks with a VampPrior and gates ("H+Vamp Gated").

A plain implementation: the published one pins a PyTorch from before 1.0 and trains on its own loop.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.checks import check_at_least, check_number, check_sizes

_LOG_VARIANCES = (-12.0, 4.0)  # [Kim and Suh 2019, their code]


@dataclass(frozen=True)
class Gaussian:
    """Independent normal variables.

    Args:
        mean, log_variance: shape (n, size).
    """

    mean: Tensor
    log_variance: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """mean + std * noise, where noise ~ N(0, 1) has its shape."""
        return self.mean + (self.log_variance / 2).exp() * noise

    def log_density(self, z: Tensor) -> Tensor:
        """log N(z; mean, variance) + size/2 log 2 pi, (n, size) -> (n,).

        The constant is left out, as it cancels between densities of one size.
        """
        squares = (z - self.mean).square() * (-self.log_variance).exp()
        return -(self.log_variance + squares).sum(-1) / 2


def log_mixture(z: Tensor, components: Gaussian) -> Tensor:
    """log 1/C sum_c N(z; mean_c, variance_c) + size/2 log 2 pi: a VampPrior's [Tomczak 2018].

    O(n C size) in time and memory. The squares are of differences: multiplied out they would be
    three matrix products, whose terms of up to e^12 cancel in float32.

    Args:
        z: shape (n, size).
        components: C of them, shape (C, size).
    Returns:
        Shape (n,).
    """
    one = Gaussian(components.mean[None], components.log_variance[None])
    densities = one.log_density(z[:, None])
    return torch.logsumexp(densities, dim=1) - math.log(len(components.mean))


@dataclass(frozen=True)
class Reading:
    """What the model makes of some users' clicks.

    Args:
        logits: of the items, shape (n, num_items).
        kl: log q(z1, z2 | x) - log p(z1, z2) at the z that was drawn, whose mean over draws is the
            Kullback-Leibler divergence, in nats, shape (n,).
    """

    logits: Tensor
    kl: Tensor


class HVamp(nn.Module):
    """Encode a user's clicks x, draw z2 and z1, decode them into a score of each item.

        q(z2 | x), q(z1 | x, z2), p(z1 | z2)     normal, mean and log variance by networks
        p(z2) = 1/C sum_c q(z2 | u_c)            VampPrior, u_c pseudo-inputs that are learnt
        p(x | z1, z2)                            by the task, from the logits

    Rows of x are scaled to length 1; the encoders of z2 and of z1 drop a share of them, each its
    own. The pseudo-inputs, which are cut to [0, 1] and are not scaled, are dropped from as well.
    Hidden layers are gated, (A x + a) * sigmoid(B x + b): the published code names a tanh for them,
    which it then leaves out where there is a gate. Log variances are cut to [-12, 4]. Weights start
    from N(0, 2/inputs), biases from torch's own values, pseudo-inputs from N(.05, .01^2).
    [Kim and Suh 2019, their code; Tomczak and Welling 2018]

    Noise and dropout in training mode come from the global generator.

    Args:
        num_items: length of x.
        hidden_size: width of hidden layers.
        z1_size, z2_size: latent variables.
        num_pseudo_inputs: C.
        num_layers: hidden layers of q(z2 | x) and p(z1 | z2), at least 2; the others, which read
            two inputs by a layer each and then both together, have num_layers in all.
        dropout: share of the input that is dropped, in training.
    Raises:
        ValueError: on a size or a rate that there is not.
    """

    def __init__(
        self,
        num_items: int,
        hidden_size: int,
        z1_size: int,
        z2_size: int,
        num_pseudo_inputs: int,
        num_layers: int,
        dropout: float,
    ) -> None:
        super().__init__()
        sizes = {"num_items": num_items, "hidden_size": hidden_size, "z1_size": z1_size}
        check_sizes(sizes | {"z2_size": z2_size, "num_pseudo_inputs": num_pseudo_inputs})
        check_at_least("num_layers", num_layers, 2)
        check_number("dropout", dropout, least=0, below=1)
        self.sizes = (z2_size, z1_size)
        H, last = hidden_size, num_layers - 2
        self.q_z2 = nn.Sequential(
            nn.Dropout(dropout), _hidden(num_items, H, num_layers), _Normal(H, z2_size)
        )
        self.q_z1_x = nn.Sequential(nn.Dropout(dropout), _Gated(num_items, H))
        self.q_z1_z2 = _Gated(z2_size, H)
        self.q_z1 = nn.Sequential(_hidden(2 * H, H, last + 1), _Normal(H, z1_size))
        self.p_z1 = nn.Sequential(_hidden(z2_size, H, num_layers), _Normal(H, z1_size))
        self.p_x_z1 = _Gated(z1_size, H)
        self.p_x_z2 = _Gated(z2_size, H)
        self.p_x = nn.Sequential(_hidden(2 * H, H, last + 1), nn.Linear(H, num_items))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=math.sqrt(2 / module.in_features))
        self.pseudo_inputs = nn.Parameter(torch.empty(num_pseudo_inputs, num_items))
        nn.init.normal_(self.pseudo_inputs, mean=0.05, std=0.01)

    def forward(self, clicks: Tensor, noise: Tensor | None = None) -> Reading:
        """Read clicks (n, num_items), of the dtype in which the divergence is summed.

        Args:
            noise: N(0, 1) for z2 and z1, shape (n, z2_size + z1_size); None: drawn in training
                mode, and 0 otherwise, so that z is the mean, as in the published code.
        """
        if noise is None and self.training:
            # Drawn in float32 whatever the precision, so that all precisions see the same numbers.
            shape = (len(clicks), sum(self.sizes))
            noise = torch.randn(shape, dtype=torch.float32, device=clicks.device)
        elif noise is None:
            noise = torch.zeros(len(clicks), sum(self.sizes), device=clicks.device)
        noise2, noise1 = noise.to(clicks.dtype).split(self.sizes, dim=1)
        x = F.normalize(clicks, dim=1)
        q2 = self.q_z2(x)
        z2 = q2.sample(noise2)
        q1 = self.q_z1(torch.cat([self.q_z1_x(x), self.q_z1_z2(z2)], dim=1))
        z1 = q1.sample(noise1)
        kl = q2.log_density(z2) - log_mixture(z2, self.components())
        kl = kl + q1.log_density(z1) - self.p_z1(z2).log_density(z1)
        logits = self.p_x(torch.cat([self.p_x_z1(z1), self.p_x_z2(z2)], dim=1))
        return Reading(logits, kl)

    def components(self) -> Gaussian:
        """Of the prior of z2: what the encoder makes of the pseudo-inputs."""
        return self.q_z2(F.hardtanh(self.pseudo_inputs, 0.0, 1.0))


class _Gated(nn.Module):
    def __init__(self, num_inputs: int, num_outputs: int) -> None:
        super().__init__()
        self.value = nn.Linear(num_inputs, num_outputs)
        self.gate = nn.Linear(num_inputs, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.value(x) * torch.sigmoid(self.gate(x))


class _Normal(nn.Module):
    def __init__(self, num_inputs: int, size: int) -> None:
        super().__init__()
        self.mean = nn.Linear(num_inputs, size)
        self.log_variance = nn.Linear(num_inputs, size)

    def forward(self, x: Tensor) -> Gaussian:
        # In the parameters' precision: under autocast the layers give bfloat16.
        dtype = self.mean.weight.dtype
        log_variance = F.hardtanh(self.log_variance(x).to(dtype), *_LOG_VARIANCES)
        return Gaussian(self.mean(x).to(dtype), log_variance)


def _hidden(num_inputs: int, size: int, num_layers: int) -> nn.Sequential:
    widths = [num_inputs, *[size] * num_layers]
    return nn.Sequential(*(_Gated(a, b) for a, b in itertools.pairwise(widths)))
