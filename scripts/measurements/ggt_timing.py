"""Timings that GGT's paper states, in turns within one process, one thread [Agarwal et al. 2019].

`ggt_svd`: eigenvectors by the Gram matrix against a direct SVD (section 2.1).
`ggt_step_time`: optimizers' steps, GGT's growth with d and r, the dense step (sections 1.1, 2.1).
`ggt_telemetry`: a step with and without its spectrum read off (section 3.4).
`ggt_iteration`: whole iterations of the CNN and the LSTM at scale=small (sections 3.2, 3.3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from optimizers import GGT, FullMatrixAdagrad
from scripts.measurements.kit import in_turns, log_slope

Rows = list[dict[str, Any]]

SVD_DIM = 200_000


def svd() -> Rows:
    """Left singular vectors of G, (d, r), both ways; columns: case, r, seed (turn), value."""
    rows = []
    for r, turns in ((50, 5), (100, 3)):
        G = torch.randn(SVD_DIM, r)

        def by_gram(G: Tensor = G) -> Tensor:
            squared, V = torch.linalg.eigh(G.T @ G)
            return G @ (V / squared.sqrt())

        def direct(G: Tensor = G) -> Tensor:
            return torch.linalg.svd(G, full_matrices=False)[0]

        rows += in_turns({"gram": by_gram, "svd": direct}, turns, r=r)
    return rows


def step_time() -> Rows:
    """Steps of optimizers; columns: case, d, r, seed (turn), value.

    Cases: "write" (a gradient copied into the window), "sgd", "adam", "ggt" and "dense" (full
    AdaGrad at d = 2,000, where it costs less than at any larger d); "slope in d" and "slope in r"
    of GGT's step, a number each turn.
    """
    d = 1_000_000
    window, grad = torch.zeros(50, d), torch.randn(d)
    functions = {
        "write": lambda: window[3].copy_(grad),
        "sgd": step_of(torch.optim.SGD, d, lr=0.1, momentum=0.9),
        "adam": step_of(torch.optim.Adam, d),
    }
    rows = in_turns(functions, 15, warmup=2, d=d, r=0)
    dims = (100_000, 300_000, 1_000_000, 3_000_000)
    rows += growth({d: filled(d, 50) for d in dims}, "slope in d")
    windows = (25, 50, 100, 200)
    rows += growth({r: filled(300_000, r) for r in windows}, "slope in r", fixed=300_000)
    pair = {"ggt": filled(10_000, 100), "dense": step_of(FullMatrixAdagrad, 2_000)}
    for row in in_turns(pair, 3):
        rows.append({**row, "d": 10_000 if row["case"] == "ggt" else 2_000, "r": 100})
    return rows


def growth(calls: dict[int, Callable[[], Any]], name: str, fixed: int | None = None) -> Rows:
    """Times of GGT's step over d at r = 50, or over r at d = `fixed`, and their exponent."""
    found = in_turns({str(size): call for size, call in calls.items()}, 9)
    sizes = {str(size): (size, 50) if fixed is None else (fixed, size) for size in calls}
    rows = []
    for row in found:
        d, r = sizes[row["case"]]
        rows.append({"case": "ggt", "d": d, "r": r, "seed": row["seed"], "value": row["value"]})
    for turn in range(9):
        seconds = {row["case"]: row["value"] for row in found if row["seed"] == turn}
        slope = log_slope([int(size) for size in seconds], list(seconds.values()))
        rows.append({"case": name, "d": fixed or 0, "r": 0, "seed": turn, "value": slope})
    return rows


def step_of(cls: type[torch.optim.Optimizer], d: int, **options: Any) -> Callable[[], Any]:
    """An optimizer's step over one parameter of d values."""
    x = torch.nn.Parameter(torch.zeros(d))
    x.grad = torch.randn(d)
    return cls([x], **options).step


def filled(d: int, r: int) -> Callable[[], Any]:
    """GGT's step with a full window of independent normal vectors."""
    return full_ggt(d, r).step


def full_ggt(d: int, r: int) -> GGT:
    """GGT with a full window of independent normal vectors."""
    x = torch.nn.Parameter(torch.zeros(d))
    x.grad = torch.randn(d)
    optimizer = GGT([x], window=r)
    optimizer.step()
    state = optimizer.state["window"]
    state["rows"].normal_()
    # The Gram matrix of independent normal vectors, up to noise that the time does not see.
    state["gram"].copy_(d * torch.eye(r))
    state["count"] = r
    return optimizer


def telemetry() -> Rows:
    """A step of GGT, d = 400,000 and r = 100, alone and with its spectrum read off afterwards.

    Columns: case ("step", "step and spectrum"), seed (turn), value.
    """
    optimizer = full_ggt(400_000, 100)

    def both() -> None:
        optimizer.step()
        optimizer.spectra()

    return in_turns({"step": optimizer.step, "step and spectrum": both}, 41, warmup=3, calls=5)


# ---------------------------------------------------------------- whole iterations

WINDOW = 200  # of all the paper's large experiments


def iteration() -> Rows:
    """Forward, backward and step on random data; columns: task, case, seed (turn), value."""
    rows = []
    for name, task, loss, turns in (
        ("cnn", "cifar10_shakeshake", image_loss, 10),
        ("rnn", "ptb_lstm", text_loss, 40),
    ):
        calls = {
            "sgd": whole(task, loss, torch.optim.SGD, lr=1e-6, momentum=0.9),
            "adam": whole(task, loss, torch.optim.Adam, lr=1e-6),
            "ggt": whole(task, loss, GGT, lr=1e-6, window=WINDOW),
        }
        rows += in_turns(calls, turns, warmup=2, task=name)
    return rows


Loss = Callable[[Any, torch.nn.Module], Callable[[], Tensor]]


def whole(
    name: str, loss_of: Loss, cls: type[torch.optim.Optimizer], **options: Any
) -> Callable[[], None]:
    """One iteration of a task's model at scale=small, GGT's window being full."""
    from hydra.utils import instantiate

    import run

    cfg = run.compose([f"task={name}", "scale=small", "tracking=none"])
    task = instantiate(cfg.task)
    torch.manual_seed(0)
    model = task.make_model()
    optimizer = cls(model.parameters(), **options)
    loss = loss_of(task, model)

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    step()
    if cls is GGT:
        state = optimizer.state["window"]
        state["rows"].normal_()
        state["gram"].copy_(state["rows"].shape[1] * torch.eye(WINDOW))
        state["count"] = WINDOW
    return step


def image_loss(task: Any, model: torch.nn.Module) -> Callable[[], Tensor]:
    """Cross-entropy on a batch of noise."""
    images = torch.randn(task.batch_size, 3, 32, 32)
    if task.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
        model.to(memory_format=torch.channels_last)
    labels = torch.randint(10, (task.batch_size,))
    return lambda: F.cross_entropy(model(images), labels)


def text_loss(task: Any, model: torch.nn.Module) -> Callable[[], Tensor]:
    """Cross-entropy on a batch of random symbols, from a zero state."""
    symbols = torch.randint(task.vocab_size, (task.batch_size, task.bptt + 1))
    return lambda: F.cross_entropy(
        model(symbols[:, :-1], None)[0].flatten(0, 1), symbols[:, 1:].flatten()
    )


TIMED = {
    "ggt_svd": svd,
    "ggt_step_time": step_time,
    "ggt_telemetry": telemetry,
    "ggt_iteration": iteration,
}
