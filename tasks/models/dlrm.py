"""DLRM [Naumov et al. 2019]: embeddings of categories, and the dot product of each two of them.

In plain torch: the reference code is a program and no package, and torchrec's tables, made for
many devices, have no gradient of one sample.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tasks.checks import check_at_least, check_flag, check_integers


class DLRM(nn.Module):
    """Click-through from counts and categories.

    A network of counts (the bottom one) gives a vector of as many numbers as an embedding has; this
    vector and the embeddings of a row's categories, F + 1 in all, are multiplied with each other,
    and their F (F + 1) / 2 products go, behind the vector itself, into a second network (the top
    one), which gives the logit of a click. All layers but the last are followed by a ReLU.

    Initial values are those of the reference code: tables of n rows from U(-1/sqrt(n), 1/sqrt(n)),
    weights (m, n) of a layer with variance 2 / (m + n), and its biases with 1 / m, which makes the
    logit's own bias a draw from N(0, 1).

    Args:
        table_rows: rows of the table of each category.
        num_integers: counts in a row.
        dim: length of an embedding.
        bottom, top: widths of the hidden layers.
        sparse: gradients of the tables hold the rows looked up, and no others. Few optimizers take
            such.
    Raises:
        ValueError: on a size that is no integer >= 1.
    """

    def __init__(
        self,
        table_rows: Sequence[int],
        num_integers: int,
        dim: int = 16,
        bottom: Sequence[int] = (512, 256, 64),
        top: Sequence[int] = (512, 256),
        sparse: bool = False,
    ) -> None:
        super().__init__()
        for name, widths in {"bottom": bottom, "top": top}.items():
            check_integers(name, widths, "be a list of widths >= 1", least=0)
        check_integers("table_rows", table_rows, "be a list of integers >= 1", least=1)
        check_at_least("dim", dim, 1)
        check_flag("sparse", sparse)
        self.bottom = _perceptron([num_integers, *bottom, dim], last_relu=True)
        self.tables = nn.ModuleList(_Table(rows, dim, sparse) for rows in table_rows)
        count = len(table_rows) + 1
        products = count * (count - 1) // 2
        self.top = _perceptron([dim + products, *top, 1], last_relu=False)
        self.register_buffer("pairs", torch.tril_indices(count, count, -1), persistent=False)

    def forward(self, integers: Tensor, categories: Tensor) -> Tensor:
        """Logits (batch,) from counts (batch, num_integers) and rows of the tables (batch, F)."""
        dense = self.bottom(integers)
        # Each table is given (batch, 1), so that what it gives has the field as a dimension.
        columns = categories.split(1, dim=1)
        found = [table(column) for table, column in zip(self.tables, columns, strict=True)]
        vectors = torch.cat([dense.unsqueeze(1), *found], dim=1)
        return self.top(torch.cat([dense, self.interactions(vectors)], dim=1)).squeeze(1)

    def interactions(self, vectors: Tensor) -> Tensor:
        """Products v_i . v_j with i > j of vectors (batch, F, dim), (batch, F (F - 1) / 2)."""
        products = vectors @ vectors.mT
        return products[:, self.pairs[0], self.pairs[1]]


class _Table(nn.Embedding):
    """An embedding with the reference code's initial values."""

    def __init__(self, rows: int, dim: int, sparse: bool) -> None:
        super().__init__(rows, dim, sparse=sparse)

    def reset_parameters(self) -> None:
        bound = 1 / math.sqrt(self.num_embeddings)
        nn.init.uniform_(self.weight, -bound, bound)


def _perceptron(widths: Sequence[int], last_relu: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n, m in itertools.pairwise(widths):
        layer = nn.Linear(n, m)
        nn.init.normal_(layer.weight, std=math.sqrt(2 / (m + n)))
        nn.init.normal_(layer.bias, std=math.sqrt(1 / m))
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*(layers if last_relu else layers[:-1]))
