"""Matrices of known spectrum and their powers, float64, one at a time."""

import math

import torch


def basis(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))[0]


def from_eigenvalues(eigenvalues, seed=0):
    """Q diag(eigenvalues) Q^T, exactly symmetric."""
    Q = basis(len(eigenvalues), seed)
    A = (Q * eigenvalues) @ Q.T
    return (A + A.T) / 2


def exact_power(eigenvalues, exponent, seed=0):
    return from_eigenvalues(eigenvalues**exponent, seed)


def logarithmic(n, kappa):
    """n eigenvalues from 1 / kappa to 1, equally spaced in the logarithm."""
    return torch.logspace(-math.log10(kappa), 0, n, dtype=torch.float64)


def batch(*shape, n, dtype=torch.float64, seed=0):
    """Random positive definite matrices, condition numbers of a few hundreds at most."""
    generator = torch.Generator().manual_seed(seed)
    X = torch.randn(*shape, n, 3 * n, generator=generator, dtype=torch.float64)
    return (X @ X.mT / (3 * n)).to(dtype)


def relative_error(X, expected):
    return float((X.double() - expected).norm() / expected.norm())
