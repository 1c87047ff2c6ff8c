"""Which optimizers take the gradients of tables that hold the rows looked up, and no others."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from optimizers.routing import members_of


def require_dense_tables(optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
    """Refuse a table with sparse gradients to an optimizer, or its options, that take none.

    Raises:
        ValueError: naming the optimizer and the table.
    """
    tables = {
        id(module.weight): f"{path}.weight" if path else "weight"
        for path, module in model.named_modules()
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and module.sparse
    }
    if not tables:
        return
    # What torch does anyway, said aloud: else its Adagrad warns of it in the first step.
    torch.sparse.check_sparse_tensor_invariants.disable()
    for member in members_of(optimizer):
        for group in member.param_groups:
            found = [tables[id(p)] for p in group["params"] if id(p) in tables]
            if found and not takes_sparse(type(member), {k: group[k] for k in member.defaults}):
                others = f" and of {len(found) - 1} more" if len(found) > 1 else ""
                raise ValueError(
                    f"sparse must be false for {type(member).__name__} with its options, or a rule "
                    f"in groups must send the tables to another optimizer, got the sparse "
                    f"gradients of {found[0]}{others}"
                )


def takes_sparse(cls: type[torch.optim.Optimizer], options: dict[str, Any]) -> bool:
    """Whether an optimizer can go on with sparse gradients: found by two steps on a tiny table.

    No, too, if its state becomes sparse, as the momentum of torch's SGD does: each step adds the
    rows that it has looked up, and none ever leave.
    """
    table = nn.Embedding(3, 2, sparse=True, _weight=torch.zeros(3, 2))
    more = {"model": table} if getattr(cls, "needs_model", False) else {}
    try:
        optimizer = cls([{"params": [table.weight], **options}], **more)
        for row in (0, 1):
            table.weight.grad = torch.sparse_coo_tensor(
                [[row]], [[1.0, 1.0]], (3, 2), check_invariants=True
            )
            optimizer.step()
    except Exception:  # each package has errors of its own; two steps on six numbers have one cause
        return False
    kept = [value for state in optimizer.state.values() for value in state.values()]
    return not any(isinstance(value, Tensor) and value.is_sparse for value in kept)
