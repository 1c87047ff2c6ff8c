"""The equations of NG+ against plain float64 [Yang et al. 2021, sections 2, 2.2, 3.1 and 3.2]."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from optimizers import NGPlus
from optimizers.capture.samples import OuterSamples
from optimizers.linalg.sketch import draw_rows, sketch_scale, sketched_core, sketched_product
from optimizers.linalg.woodbury import woodbury_core, woodbury_product
from scripts.measurements import kit

NUM_CASES = 100
NUM_DIRECTIONS = 200
DOUBLE = {"statistics_dtype": "float64", "root_dtype": "float64", "apply_dtype": "float64"}


def steepest() -> list[dict[str, object]]:
    """How far other directions of unit length in the norm of B stay behind (3).

    case "others": the least of (<G, D> - <G, D*>) / |<G, D*>| over random D and D near D*, >= 0
    where D* = -B^-1 G / |G|_{B^-1} is the steepest; "optimizer": 1 - cosine between D* and the
    first step of NG+ with B = L + damping I.
    """
    rows = []
    for seed, generator in kit.cases(NUM_CASES):
        m, n = 2 + seed % 7, 3 + seed % 5
        B = kit.random_spd(m, 100.0, generator)
        G = kit.gaussian(m, n, generator=generator)
        best = -torch.linalg.solve(B, G)
        best /= norm_in(B, best)
        least = float((G * best).sum())
        others = kit.gaussian(NUM_DIRECTIONS, m, n, generator=generator)
        others[::2] = best + 1e-3 * others[::2]
        others /= norm_in(B, others)[:, None, None]
        gap = float(((G * others).sum((1, 2)) - least).min()) / abs(least)
        rows.append({"case": "others", "seed": seed, "value": gap})
        rows.append({"case": "optimizer", "seed": seed, "value": step_angle(generator)})
    return rows


def norm_in(B: Tensor, D: Tensor) -> Tensor:
    """tr(D^T B D)^{1/2} of D (..., m, n)."""
    return ((B @ D) * D).sum((-2, -1)).sqrt()


def step_angle(generator: torch.Generator) -> float:
    """1 - cosine between a step of NG+ on a linear layer and the steepest direction in its norm."""
    layer, inputs, targets = linear_layer(4, 6, 10, generator)
    samples = per_sample_gradients(layer, inputs, targets)
    before = layer.weight.detach().clone()
    options = {"lr": 0.1, "momentum": 0.0, "damping": 0.3, "update_freq": 1, **DOUBLE}
    first_step(layer, inputs, targets, NGPlus(layer.parameters(), model=layer, **options))
    B = (samples @ samples.mT).mean(0) + 0.3 * torch.eye(4, dtype=torch.float64)
    D = -torch.linalg.solve(B, samples.mean(0))
    step = layer.weight.detach() - before
    return float(1 - (step * D).sum() / step.norm() / D.norm())


def fully_connected() -> list[dict[str, object]]:
    """Relative errors of L from activations and output gradients, by per-sample gradients.

    case: "formula", mean |a|^2 g g^T; "optimizer", the statistic that NG+ keeps.
    """
    rows = []
    for seed, generator in kit.cases(NUM_CASES):
        m = 2 + seed % 6
        n, b = m + seed % 5, 3 + seed % 11
        layer, inputs, targets = linear_layer(m, n, b, generator)
        samples = per_sample_gradients(layer, inputs, targets)
        reference = (samples @ samples.mT).mean(0)
        deltas = 2 * (layer(inputs) - targets).detach()
        formula = torch.einsum("i,ij,ik->jk", inputs.square().sum(1), deltas, deltas) / b
        optimizer = NGPlus(layer.parameters(), model=layer, update_freq=1, **DOUBLE)
        first_step(layer, inputs, targets, optimizer)
        (kept,) = [t for _, quantity, t in optimizer.matrices() if quantity == "statistic"]
        for case, value in (("formula", formula), ("optimizer", kept[0])):
            error = kit.relative_error(value, reference)
            rows.append({"case": case, "seed": seed, "value": error})
    return rows


def linear_layer(
    m: int, n: int, b: int, generator: torch.Generator
) -> tuple[nn.Linear, Tensor, Tensor]:
    """A layer without bias, m x n, and b samples of a least-squares problem."""
    layer = nn.Linear(n, m, bias=False, dtype=torch.float64)
    layer.weight.data.copy_(kit.gaussian(m, n, generator=generator))
    inputs = kit.gaussian(b, n, generator=generator)
    return layer, inputs, kit.gaussian(b, m, generator=generator)


def per_sample_gradients(layer: nn.Linear, inputs: Tensor, targets: Tensor) -> Tensor:
    """Gradient of each sample's squared error by automatic differentiation, (b, m, n)."""
    weight = layer.weight.detach().requires_grad_()
    errors = (inputs @ weight.T - targets).square().sum(1)
    return torch.stack(
        [torch.autograd.grad(error, weight, retain_graph=True)[0] for error in errors]
    )


def first_step(layer: nn.Linear, inputs: Tensor, targets: Tensor, optimizer: NGPlus) -> None:
    """One recorded pass and the step after it, in place."""
    b = len(inputs)
    weights = torch.full((b,), 1 / b, dtype=torch.float64)
    with optimizer.record(num_samples=b, batch_dim=0, weights=weights):
        ((layer(inputs) - targets).square().sum() / b).backward()
    optimizer.step()


# ---------------------------------------------------------------- section 3.1


def low_rank() -> list[dict[str, object]]:
    """Relative errors of (14), (15) and (16) without loss, against a dense solve.

    case "inverse": (damping I + U U^T)^-1 by (14), readings "printed" and "corrected"; "least
    squares": G = damping X + U Y with Y of (15), corrected, and Y taken for the direction X itself,
    printed, where its shape allows that (b = m); "kernel": the project's direction.
    """
    rows = []
    for seed, generator in kit.cases(NUM_CASES):
        m, b, n = 6 + seed % 20, 2 + seed % 7, 3 + seed % 4
        damping = 10 ** float(2 * torch.rand((), generator=generator, dtype=torch.float64) - 2)
        samples = OuterSamples(
            kit.gaussian(b, 1, n, generator=generator), kit.gaussian(b, 1, m, generator=generator)
        )
        a, g = samples.rank_one()
        U = (g * a.norm(dim=1, keepdim=True) / b**0.5).T
        G = samples.gradients().mean(0)
        eye = torch.eye(m, dtype=torch.float64)
        exact = torch.linalg.inv(damping * eye + U @ U.T)
        inner = torch.linalg.inv(damping * torch.eye(b, dtype=torch.float64) + U.T @ U)
        X, Y = exact @ G, least_squares(U, G, damping)
        found = woodbury_product(U, woodbury_core(U, damping).inverse, G, damping)
        square = kit.gaussian(m, m, generator=generator)
        solved = torch.linalg.solve(damping * eye + square @ square.T, G)
        errors = {
            ("inverse", "printed"): (eye / damping - U @ inner @ U.T, exact),
            ("inverse", "corrected"): ((eye - U @ inner @ U.T) / damping, exact),
            ("least squares", "corrected"): (damping * X + U @ Y, G),
            ("least squares", "printed"): (least_squares(square, G, damping), solved),
            ("kernel", "corrected"): (found, X),
        }
        for (case, reading), pair in errors.items():
            error = kit.relative_error(*pair)
            rows.append({"case": case, "reading": reading, "seed": seed, "value": error})
    return rows


def least_squares(U: Tensor, G: Tensor, damping: float) -> Tensor:
    """argmin_Y |U Y - G|^2 + damping |Y|^2 as a stacked least-squares problem."""
    b = U.shape[1]
    below = damping**0.5 * torch.eye(b, dtype=torch.float64)
    zeros = torch.zeros(b, G.shape[1], dtype=torch.float64)
    return torch.linalg.lstsq(torch.cat([U, below]), torch.cat([G, zeros])).solution


def sketched() -> list[dict[str, object]]:
    """Relative errors of the direction by (16) with q of m = 64 rows, 40 draws each.

    replacement: whether rows are drawn as in (17); without it, q = m takes each row once. The
    damping is 0.1, a tenth of the largest eigenvalue or less.
    """
    m, b, n, damping = 64, 8, 5, 0.1
    generator = torch.Generator().manual_seed(0)
    U = kit.gaussian(m, b, generator=generator) / b**0.5
    U /= kit.largest_eigenvalue(U.T @ U) ** 0.5
    # A gradient in the span of U, as that of the samples is, and a part outside of it.
    G = U @ kit.gaussian(b, n, generator=generator) + 0.1 * kit.gaussian(m, n, generator=generator)
    exact = torch.linalg.solve(damping * torch.eye(m, dtype=torch.float64) + U @ U.T, G)
    rows = []
    for seed in range(40):
        drawn = {q: draw_rows(m, q, seed, 0) for q in (8, 16, 32, 64, 256)}
        shuffled = torch.randperm(m, generator=torch.Generator().manual_seed(seed))
        for q, picked, again in [(q, d, True) for q, d in drawn.items()] + [(m, shuffled, False)]:
            core = sketched_core(U, picked, damping).inverse
            error = kit.relative_error(sketched_product(U, core, G, picked, damping), exact)
            rows.append({"q": q, "replacement": again, "seed": seed, "value": error})
    return rows


def row_sampling() -> list[dict[str, object]]:
    """Whether the row sampling of (17) is unbiased: n = 50, 10^4 draws of q columns, ten streams.

    case "diagonal": the diagonal of the mean of Omega Omega^T against I, the sum of squared
    deviations in standard errors, standardised as a chi-square of n - 1 degrees of freedom;
    "off the diagonal": largest entry, 0 as columns are multiples of unit vectors; "single draw":
    relative error of one sketched product, and "mean of 40" of the mean of forty.
    """
    n, num_draws, rows = 50, 10_000, []
    for q in (10, 50):
        share = 1 / n
        error = (share * (1 - share) / (q * num_draws)) ** 0.5 * n  # of an entry of the mean
        for seed in range(10):
            drawn = draw_rows(n, q * num_draws, seed, q)
            diagonal = torch.bincount(drawn, minlength=n).double() * n / (q * num_draws)
            # n counts with a fixed sum: n - 1 degrees of freedom, hence 1 - 1/n in the variance.
            squares = float(((diagonal - 1) / error).square().sum()) * (1 - share)
            standard = (squares - (n - 1)) / (2 * (n - 1)) ** 0.5
            rows.append({"case": "diagonal", "q": q, "seed": seed, "value": abs(standard)})
            one = omega(n, draw_rows(n, q, seed, q))
            square = one @ one.T
            off = float((square - torch.diag(square.diagonal())).abs().max())
            rows.append({"case": "off the diagonal", "q": q, "seed": seed, "value": off})
            G = kit.gaussian(20, n, generator=torch.Generator().manual_seed(seed))
            products = torch.stack([product(G, q, seed, draw) for draw in range(40)])
            for case, value in (("single draw", products[0]), ("mean of 40", products.mean(0))):
                error_of = kit.relative_error(value, G @ G.T)
                rows.append({"case": case, "q": q, "seed": seed, "value": error_of})
    return rows


def omega(n: int, drawn: Tensor) -> Tensor:
    """Omega (n, q) of (17)."""
    matrix = torch.zeros(n, len(drawn), dtype=torch.float64)
    matrix[drawn, torch.arange(len(drawn))] = sketch_scale(n, len(drawn))
    return matrix


def product(G: Tensor, q: int, seed: int, draw: int) -> Tensor:
    """(G Omega)(G Omega)^T of one draw."""
    sketched = G @ omega(G.shape[1], draw_rows(G.shape[1], q, seed, q, draw))
    return sketched @ sketched.T


EXACT = {
    "ngplus_steepest": steepest,
    "ngplus_fully_connected": fully_connected,
    "ngplus_low_rank": low_rank,
    "ngplus_sketch": sketched,
    "ngplus_row_sampling": row_sampling,
}
