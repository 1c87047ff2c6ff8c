"""Full-matrix methods do not see a rotation of the coordinates; diagonal methods do."""

import pytest
import torch

from optimizers import GGT, FullMatrixAdagrad

D = 12


def path_end(make, rotation):
    """Minimise f(Q x) from Q^T x0 and return Q x."""
    scales = torch.logspace(0, 2, D, dtype=torch.float64)
    x = (rotation.T @ torch.ones(D, dtype=torch.float64)).requires_grad_()
    optimizer = make([x])
    for t in range(60):
        optimizer.zero_grad()
        y = rotation @ x
        noise = torch.cos(torch.arange(D, dtype=torch.float64) * (t + 1))
        (0.5 * (scales * y**2).sum() + y @ noise).backward()
        optimizer.step()
    return rotation @ x.detach()


def relative_gap(make):
    generator = torch.Generator().manual_seed(0)
    square = torch.randn(D, D, generator=generator, dtype=torch.float64)
    plain = path_end(make, torch.eye(D, dtype=torch.float64))
    rotated = path_end(make, torch.linalg.qr(square).Q)
    return float((plain - rotated).norm() / (plain - 1).norm())


@pytest.mark.parametrize(
    "make",
    [
        lambda p: GGT(p, lr=0.05, window=5, window_dtype="float64"),
        lambda p: GGT(
            p,
            lr=0.02,
            window=5,
            window_source="gradient",
            beta2=0.9,
            outside_scale=0.01,
            window_dtype="float64",
        ),
        lambda p: FullMatrixAdagrad(p, lr=0.1),
        lambda p: FullMatrixAdagrad(p, lr=0.02, beta2=0.9),
    ],
)
def test_full_matrix_methods_follow_the_rotation(make):
    assert relative_gap(make) < 1e-8


@pytest.mark.parametrize("cls", [torch.optim.Adam, torch.optim.Adagrad])
def test_diagonal_methods_do_not(cls):
    assert relative_gap(lambda p: cls(p, lr=0.05)) > 0.1
