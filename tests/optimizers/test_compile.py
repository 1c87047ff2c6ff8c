"""torch.compile changes no number, of a compiled model or of a compiled step.

The backend runs the traced graphs as they are: what is asked is whether tracing loses hooks,
recorded samples or a decision of the step; what a code generator does to sums is torch's affair.
"""

import pytest
import torch
from hydra.utils import get_class
from torch import Tensor, nn

from optimizers import RecordsSamples
from tests.optimizers.table import (
    LR,
    OURS,
    Network,
    closure_of,
    config_of,
    make_small,
    names,
)

# What SMALL renews every second step is renewed and left alone.
NUM_STEPS = 2

# Tracing a step takes seconds, so one reading of each class: the first. A search calls back into
# the model, which is compiled by itself.
FIRST = {config_of(name).cls.path: name for name in reversed(OURS)}
STEPPED = sorted(name for path, name in FIRST.items() if not get_class(path).needs_closure)


class Small(nn.Module):
    """Regression by a linear layer: every line of a step is traced for each new shape."""

    num_samples = 4

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.linear = nn.Linear(3, 2, bias=False)
        self.linear.weight.data = torch.randn(2, 3, generator=generator)
        self.inputs = torch.randn(self.num_samples, 3, generator=generator)

    def forward(self) -> Tensor:
        return self.linear(self.inputs).square().mean()


@pytest.fixture(autouse=True)
def fresh_compiler():
    # What is compiled for one optimizer would count against the next one's limit.
    torch.compiler.reset()
    yield
    torch.compiler.reset()


class Backend:
    """Runs graphs as they are and counts them."""

    num_graphs = 0

    def __call__(self, graph, inputs):
        self.num_graphs += 1
        return graph.forward


def run(name, model, loss, compiled=lambda step: step):
    """Parameters after some steps, and the number of passes whose samples were recorded."""
    optimizer = make_small(name, model, torch.float32, lr=LR)
    step, num_recorded = compiled(optimizer.step), 0
    for _ in range(NUM_STEPS):
        num_recorded += isinstance(optimizer, RecordsSamples) and optimizer.wants_samples()
        closure = closure_of(optimizer, loss, model.num_samples)
        if optimizer.needs_closure:
            step(closure)
        else:
            closure()
            step()
    return [parameter.detach().clone() for parameter in model.parameters()], num_recorded


@pytest.mark.parametrize("name", names(OURS))
def test_a_compiled_model_trains_alike(name):
    plain = Network(torch.float32)
    expected, num_recorded = run(name, plain, plain)
    model, backend = Network(torch.float32), Backend()
    found, same_number = run(name, model, torch.compile(model, backend=backend))
    assert all(map(torch.equal, found, expected))
    assert num_recorded == same_number
    assert backend.num_graphs > 0
    start = Network(torch.float32).parameters()
    assert not any(map(torch.equal, found, start))


# Ours keeps layouts by shape: traced anew, they are the same.
@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`:UserWarning")
@pytest.mark.parametrize("name", names(STEPPED))
def test_a_compiled_step_is_the_same_step(name):
    model = Small()
    expected, _ = run(name, model, model)
    again, backend = Small(), Backend()
    found, _ = run(name, again, again, lambda step: torch.compile(step, backend=backend))
    assert all(map(torch.equal, found, expected))
    assert backend.num_graphs > 0
    assert not any(map(torch.equal, found, Small().parameters()))
