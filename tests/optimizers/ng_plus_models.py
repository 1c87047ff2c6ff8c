"""Small models on which NG+ is compared with its transcription; each tells its samples' losses."""

from __future__ import annotations

import torch
from torch import Tensor, nn

F64 = torch.float64


class Images(nn.Module):
    """Convolutions, one of them in groups, a norm and a linear layer."""

    matrices = (("0.weight", "0.bias"), ("2.weight", "2.bias"), ("5.weight", "5.bias"))
    areas = (9, 9, 1)

    def __init__(self) -> None:
        super().__init__()
        self.net = seeded(
            lambda: nn.Sequential(
                nn.Conv2d(2, 4, 3, stride=2, padding=1),
                nn.Tanh(),
                nn.Conv2d(4, 6, (1, 3), padding="same", groups=2),
                nn.Flatten(),
                nn.LayerNorm(54),
                nn.Linear(54, 5),
            )
        )

    def losses(self, x: Tensor) -> Tensor:
        return self.net(x).sin().sum(1)

    @staticmethod
    def batch(step: int, size: int = 4) -> Tensor:
        return torch.randn(size, 2, 6, 6, generator=torch.Generator().manual_seed(step)).to(F64)


class Text(nn.Module):
    """Embedding, LSTM and read-out; the loss of a sequence is the sum over its positions."""

    matrices = (
        ("embedding.weight",),
        ("lstm.weight_ih_l0", "lstm.bias_ih_l0"),
        ("lstm.weight_hh_l0", "lstm.bias_hh_l0"),
        ("readout.weight", "readout.bias"),
    )

    def __init__(self) -> None:
        super().__init__()
        self.embedding = seeded(lambda: nn.Embedding(7, 3))
        self.lstm = seeded(lambda: nn.LSTM(3, 4, batch_first=True))
        self.readout = seeded(lambda: nn.Linear(4, 7))

    def losses(self, x: Tensor) -> Tensor:
        logits = self.readout(self.lstm(self.embedding(x[:, :-1]))[0])
        return nn.functional.cross_entropy(logits.mT, x[:, 1:], reduction="none").sum(1)

    @staticmethod
    def batch(step: int, size: int = 4) -> Tensor:
        return torch.randint(7, (size, 6), generator=torch.Generator().manual_seed(step))


class Tensors(nn.Module):
    """Parameters of 0 to 4 modes, of a module that has no rule of its own."""

    shapes = ((), (1,), (5,), (3, 4), (4, 2, 3), (2, 3, 2, 2))
    matrices = (("tensors.3",), ("tensors.4",), ("tensors.5",))

    def __init__(self) -> None:
        super().__init__()
        self.tensors = nn.ParameterList(
            seeded(lambda: [nn.Parameter(torch.randn(shape)) for shape in self.shapes])
        )

    def forward(self, x: Tensor) -> Tensor:
        values = torch.zeros_like(x[..., 0])
        for k, p in enumerate(self.tensors):
            waves = torch.arange(1.0, p.numel() + 1, dtype=x.dtype) / p.numel() + k
            values = values + (p.view(-1) * (x[..., :1] * waves).sin() * x[..., 1:2]).sum(-1).tanh()
        return values

    def losses(self, x: Tensor) -> Tensor:
        return self(x)

    @staticmethod
    def batch(step: int, size: int = 4) -> Tensor:
        return torch.randn(size, 2, generator=torch.Generator().manual_seed(step)).to(F64)


class Dense(nn.Module):
    """Two linear layers on vectors: kappa = 1."""

    matrices = (("net.0.weight", "net.0.bias"), ("net.2.weight", "net.2.bias"))

    def __init__(self) -> None:
        super().__init__()
        self.net = seeded(lambda: nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 8)))

    def losses(self, x: Tensor) -> Tensor:
        return self.net(x).sin().sum(1)

    @staticmethod
    def batch(step: int, size: int = 4) -> Tensor:
        return torch.randn(size, 6, generator=torch.Generator().manual_seed(step)).to(F64)


Images.matrices = tuple(tuple(f"net.{name}" for name in names) for names in Images.matrices)


def seeded(make):
    """What `make` makes, in float64, with the global generator left as it was."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        made = make()
    if isinstance(made, list):
        return [nn.Parameter(p.detach().double()) for p in made]
    return made.double()


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range, accumulate: int = 1):
    """Steps on the mean loss of the model's batches, recorded where the optimizer wants it."""
    for step in steps:
        optimizer.zero_grad()
        for x in model.batch(step).chunk(accumulate):
            backward(model, optimizer, x, accumulate)
        optimizer.step()


def backward(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, parts: int = 1):
    """One pass; its loss is that of a batch of `parts` such passes."""
    weights = torch.full((len(x),), 1 / (parts * len(x)), dtype=F64)
    if optimizer.wants_samples():
        with optimizer.record(num_samples=len(x), batch_dim=0, weights=weights):
            (weights * model.losses(x)).sum().backward()
    else:
        (weights * model.losses(x)).sum().backward()
