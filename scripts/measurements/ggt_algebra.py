"""GGT's linear algebra against dense float64 references [Agarwal et al. 2019, sections 2 and 2.1].

`ggt_low_rank`: the fast form of the inverse root, and both readings of U.
`ggt_diagonal`: what is left of the second moment when its off-diagonal is set to zero.
`ggt_ridge`: what a ridge of 1e-6 on G^T G does to a step.
`ggt_sgd_limit`: the way to SGD by decoupling the two epsilons (section 2.2).
`ggt_exponent`: arithmetic, what half a power of epsilon gains at epsilon = .1 (the slides' note).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from optimizers import GGT
from optimizers.ggt import ggt_coefficients
from scripts.measurements.kit import cases, gaussian, relative_error, steps

Rows = list[dict[str, Any]]

DIM, DAMPING, NUM_CASES = 20, 0.1, 100
# Columns of G, and its rank.
SHAPES = {"r < d": (8, 8), "r = d": (20, 20), "r > d": (30, 20), "rank-deficient": (12, 5)}
RESOLUTION = 1e-13  # of a window in float64
RIDGE = 1e-6


def low_rank() -> Rows:
    """Relative errors against [(G G^T)^{1/2} + eps I]^{-1} v from a dense SVD, in float64.

    Columns: case (shape of G), reading ("optimizer": the kernel that GGT calls; "U = G V S^-1" and
    "U = G V S^-1/2": section 2.1 written out with either reading of Fig. 1), seed, value.
    """
    rows = []
    for case, (columns, rank) in SHAPES.items():
        for seed, generator in cases(NUM_CASES):
            G = gaussian(DIM, columns, generator=generator)
            if rank < min(DIM, columns):
                G = G[:, :rank] @ gaussian(rank, columns, generator=generator)
            v = gaussian(DIM, generator=generator)
            exact = dense(G, v)
            found = {
                "optimizer": by_kernel(G, v),
                "U = G V S^-1": written_out(G, v, 1.0),
                "U = G V S^-1/2": written_out(G, v, 0.5),
            }
            rows += [
                {"case": case, "reading": name, "seed": seed, "value": relative_error(out, exact)}
                for name, out in found.items()
            ]
    return rows


def dense(G: Tensor, v: Tensor) -> Tensor:
    """[(G G^T)^{1/2} + eps I]^{-1} v, from all left singular vectors of G."""
    U, s, _ = torch.linalg.svd(G, full_matrices=True)
    every = torch.zeros(len(G), dtype=G.dtype)
    every[: len(s)] = s
    return U @ ((U.T @ v) / (every + DAMPING))


def by_kernel(G: Tensor, v: Tensor) -> Tensor:
    """The same by the kernel of the optimizer, 1/eps outside the span of G."""
    c, multiple, _ = ggt_coefficients(
        G.T @ G, G.T @ v, damping=DAMPING, outside_scale=1 / DAMPING, sgd_mix=0.0, ridge=0.0,
        resolution=RESOLUTION,
    )  # fmt: skip
    return multiple * v + G @ c


def written_out(G: Tensor, v: Tensor, power: float) -> Tensor:
    """v/eps + U [(S + eps I)^{-1} - I/eps] U^T v with U = G V S^-power, S^2 of G^T G."""
    squared, V = torch.linalg.eigh(G.T @ G)
    kept = squared > RESOLUTION * squared[-1]
    s, V = squared[kept].sqrt(), V[:, kept]
    U = G @ V / s**power
    return v / DAMPING + U @ ((1 / (s + DAMPING) - 1 / DAMPING) * (U.T @ v))


def diagonal() -> Rows:
    """Errors of GGT's own second moments, a window for each coordinate by itself, from recursions.

    A window of one coordinate has no off-diagonal, and the eigenvalue of its G G^T is what the
    optimizer's root is taken of; nothing of its decay is put in here.
    Columns: case ("unnormalised": D <- beta2^2 D + g^2; "RMSprop": torch's average of squares with
    alpha = beta2^2, divided by 1 - alpha; "decay beta2": with beta2 for its square;
    "with 1 - beta2": with RMSprop's factor left in), seed, value.
    """
    beta2, dim, num_steps, rows = 0.9, 2, 8, []
    for seed, generator in cases(NUM_CASES):
        gradients = gaussian(num_steps, dim, generator=generator)
        found = torch.stack([second_moment(column, beta2) for column in gradients.T])
        parameter = torch.nn.Parameter(torch.zeros(dim, dtype=torch.float64))
        rms = torch.optim.RMSprop([parameter], alpha=beta2**2)
        squared, wrong = torch.zeros_like(found), torch.zeros_like(found)
        for gradient in gradients:
            parameter.grad = gradient.clone()
            rms.step()
            squared = beta2**2 * squared + gradient**2
            wrong = beta2 * wrong + gradient**2
        average = rms.state[parameter]["square_avg"]
        references = {
            "unnormalised": squared,
            "RMSprop": average / (1 - beta2**2),
            "decay beta2": wrong,
            "with 1 - beta2": average,
        }
        rows += [
            {"case": case, "seed": seed, "value": relative_error(found, reference)}
            for case, reference in references.items()
        ]
    return rows


def second_moment(gradients: Tensor, beta2: float) -> Tensor:
    """G G^T, a number, that GGT forms of the gradients of one coordinate, shape (t,)."""
    x = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    options = {"window": len(gradients), "momentum": 0.0, "window_dtype": "float64"}
    optimizer = GGT([x], beta2=beta2, **options)
    for gradient in gradients:
        x.grad = gradient.reshape(1).clone()
        optimizer.step()
    return optimizer.spectra()[0].eigenvalues[-1]


def ridge() -> Rows:
    """Relative change of a step of GGT by the ridge.

    Columns: case ("norm 1", "norm 0.1", "norm 0.01": isotropic gradients of that norm;
    "ill-conditioned": a unit vector that all gradients share and isotropic noise of norm .01),
    seed, value: norm of the difference of the 30th steps with and without the ridge over the norm
    of the step, momentum .9 in a window of 20 vectors of 200 coordinates.
    """
    dim, rows = 200, []
    norms = {f"norm {norm:g}": (0.0, norm) for norm in (1.0, 0.1, 0.01)}
    for case, (common, norm) in (norms | {"ill-conditioned": (1.0, 0.01)}).items():
        for seed, generator in cases(10):
            shared = torch.full((dim,), common / dim**0.5, dtype=torch.float64)
            noise = gaussian(30, dim, generator=generator) * norm / dim**0.5
            gradients = [[shared + row] for row in noise]
            plain, ridged = (
                last_step(gradients, window=20, ridge=value, window_dtype="float64")
                for value in (0.0, RIDGE)
            )
            rows.append({"case": case, "seed": seed, "value": relative_error(ridged, plain)})
    return rows


def last_step(gradients: Sequence[Sequence[Tensor]], **options: Any) -> Tensor:
    """The change that the last of the given gradients makes, lr 1."""
    start = [torch.zeros_like(g) for g in gradients[0]]
    visited = steps(lambda parameters: GGT(parameters, lr=1.0, **options), start, gradients)
    return visited[-1][0] - visited[-2][0]


def sgd_limit() -> Rows:
    """How far 100 steps of GGT with sgd_mix = s and lr/s end from SGD's, and the share outside.

    Columns: case ("distance": relative to SGD's path from start to end; "outside": share of v
    outside the window's span, v in the window), mix (s; 0 for "outside"), seed, value.
    """
    lr, num_steps, rows = 0.1, 100, []
    for seed, generator in cases(5):
        A = gaussian(DIM, DIM, generator=generator) / DIM**0.5
        hessian, start = A.T @ A, gaussian(DIM, generator=generator)
        noise = gaussian(num_steps, DIM, generator=generator)
        sgd = {"momentum": 0.9, "lr": lr}
        end, _ = descend(torch.optim.SGD, sgd, hessian, start, noise)
        for mix in (1.0, 1e2, 1e4, 1e6):
            options = {"lr": lr / mix, "sgd_mix": mix, "window": 10, "window_dtype": "float64"}
            found, optimizer = descend(GGT, options, hessian, start, noise)
            distance = float((found - end).norm() / (end - start).norm())
            rows.append({"case": "distance", "mix": mix, "seed": seed, "value": distance})
        G = optimizer.state["window"]["rows"].T
        v = optimizer.state["window"]["momentum_buffer"]
        basis = torch.linalg.qr(G)[0]
        outside = float((v - basis @ (basis.T @ v)).norm() / v.norm())
        rows.append({"case": "outside", "mix": 0.0, "seed": seed, "value": outside})
    return rows


def descend(
    cls: type[torch.optim.Optimizer],
    options: Mapping[str, Any],
    hessian: Tensor,
    start: Tensor,
    noise: Tensor,
) -> tuple[Tensor, torch.optim.Optimizer]:
    """Minimise x'Hx/2 with the given noise added to the gradients; the end, and the optimizer."""
    x = torch.nn.Parameter(start.clone())
    optimizer = cls([x], **options)
    for row in noise:
        x.grad = hessian @ x.detach() + row
        optimizer.step()
    return x.detach(), optimizer


def exponent() -> Rows:
    """epsilon^-1/2 at epsilon = .1, arithmetic alone; columns: case, value."""
    return [{"case": "gain", "value": 0.1**-0.5}]


EXACT = {
    "ggt_low_rank": low_rank,
    "ggt_diagonal": diagonal,
    "ggt_ridge": ridge,
    "ggt_sgd_limit": sgd_limit,
    "ggt_exponent": exponent,
}
