"""Projection of a gradient onto those that do not undo what was learned."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor


def project(grad: Tensor, references: Tensor, strength: float, ridge: float) -> Tensor:
    """Move a gradient as little as needed to agree with reference gradients.

    With the references as the rows of R, the answer where no reference disagrees (R g >= 0) is g
    itself, else g + R' v, with v the solution of the dual programme

        min 1/2 v' (R R' + ridge I) v + (R g)' v   over   v >= strength.
                                                 [Lopez-Paz and Ranzato 2017, section 3]

    With ridge = strength = 0 that is the nearest vector to g whose products with all references
    are >= 0. A positive strength moves it further along the references; the ridge lets a product
    be as low as -ridge v. The programme is solved exactly, by an active-set method, on the
    products alone, in float64: O(num_references^2 n).

    Args:
        grad: g, shape (n,).
        references: R, shape (num_references, n), dtype of grad.
        strength: least multiple v of each reference that is added; >= 0.
        ridge: added to the squared lengths of the references; >= 0. Where they are dependent and
            it is 0, the programme has several solutions, and all give the same answer.
    Returns:
        The projected gradient, shape (n,), dtype of grad; grad itself where it agrees, and not a
        number where a reference is none.
    """
    if (references @ grad >= 0).all():  # false of what is no number
        return grad
    rows = references.double()
    products, gram = (rows @ grad.double()).cpu().numpy(), (rows @ rows.mT).cpu().numpy()
    if not (np.isfinite(products).all() and np.isfinite(gram).all()):
        return torch.full_like(grad, torch.nan)
    weights = solve_dual(gram + ridge * np.eye(len(gram)), products, strength)
    return grad + torch.as_tensor(weights).to(references) @ references


def solve_dual(matrix: np.ndarray, linear: np.ndarray, least: float) -> np.ndarray:
    """Solve min 1/2 v' P v + q' v over v >= least, for P positive semi-definite, as NNLS.

    With v = least + u and P = A' A, u >= 0 minimises |A u - b|, where A' b = -(q + least P 1).

    Args:
        matrix: P, shape (k, k), float64, symmetric.
        linear: q, shape (k,), in the range of P, so that there is a minimum.
    Returns:
        v, shape (k,).
    """
    eigenvalues, vectors = np.linalg.eigh(matrix)
    # Below the round-off of the largest an eigenvalue is 0: its direction changes nothing.
    kept = eigenvalues > len(matrix) * np.finfo(np.float64).eps * max(eigenvalues[-1], 0.0)
    roots, basis = np.sqrt(eigenvalues[kept]), vectors[:, kept]
    wanted = -(linear + least * matrix.sum(1))
    solution, _ = nnls(roots[:, None] * basis.T, basis.T @ wanted / roots)
    return least + solution
