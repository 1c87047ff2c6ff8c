"""Every configuration of ours on a CUDA device: the numbers of the CPU, few host synchronisations.

Additional to the CPU tests; skipped where there is no device.
"""

import warnings

import pytest
import torch
from torch import Tensor, nn

from scripts.bench_steps import SYNCHRONISES
from tests.optimizers.table import (
    FLOAT64_ONLY,
    LR,
    OURS,
    Network,
    Shapes,
    closure_of,
    config_of,
    make,
    make_small,
    names,
)

DEVICE = torch.device("cuda")
NUM_STEPS = 10

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]

# Host synchronisations of a step that renews nothing. One tells whether the step is finite.
MOST_SYNCS = {
    # The L x L algebra is on the CPU: block sums go there, corrections come back.
    "AdagradBMA": 4,
    # So is the r x r algebra: a product of each pass over the window, coefficients, norms.
    **dict.fromkeys(("GGT", "GGTAuthors", "GGTHardWindow"), 8),
    # Its statistics are new in every step, and so is the root.
    "FullMatrixAdagrad": 4,
    # A side for each shape of a layer, and lengths of what was recorded.
    **dict.fromkeys(("NGPlus", "NGPlusAuthors", "NGPlusAuthorsOnline", "KFAC"), 6),
}
FEW_SYNCS = 2

# A step of these is a search or an exact Hessian, made of values that the host reads.
HOST_BOUND = ("ExactLineSearchGD", "Newton")


def class_name(name: str) -> str:
    """Of a configuration's class, without its package."""
    return config_of(name).cls.path.split(".")[-1]


@pytest.fixture(autouse=True)
def full_precision():
    """Products of convolutions with all of float32's digits."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


class Twice(nn.Module):
    """Two models of the same shapes in one."""

    def __init__(self, model_of, dtype: torch.dtype) -> None:
        super().__init__()
        self.parts = nn.ModuleList([model_of(dtype), model_of(dtype)])
        self.num_samples = self.parts[0].num_samples

    def forward(self) -> Tensor:
        return sum(part() for part in self.parts)


def moved(model: nn.Module, device: torch.device) -> nn.Module:
    """The model with the data that it holds on a device."""
    for module in model.modules():
        for name in ("inputs", "targets"):
            if hasattr(module, name):
                setattr(module, name, getattr(module, name).to(device))
        if hasattr(module, "scales"):
            module.scales = [scale.to(device) for scale in module.scales]
    return model.to(device)


def wide(name: str, dtype: torch.dtype) -> dict[str, str]:
    """Every working dtype as that of the model, where it is float64."""
    options = config_of(name) if dtype == torch.float64 else ()
    return {option: "float64" for option in options if option.endswith("_dtype")}


def trained(name, model_of, dtype, device) -> list[Tensor]:
    """Parameters after NUM_STEPS, float64 on the CPU."""
    model = moved(model_of(dtype), device)
    optimizer = make_small(name, model, dtype, lr=LR, **wide(name, dtype))
    for _ in range(NUM_STEPS):
        one_step(optimizer, model)
    return [parameter.detach().double().cpu() for parameter in model.parameters()]


def one_step(optimizer, model) -> None:
    closure = closure_of(optimizer, model, model.num_samples)
    if optimizer.needs_closure:
        optimizer.step(closure)
    else:
        closure()
        optimizer.step()


def distance(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """The largest difference of an entry."""
    return max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("model_of", [Shapes, Network])
@pytest.mark.parametrize("name", names(OURS))
def test_float64_is_that_of_the_cpu(name, model_of):
    expected = trained(name, model_of, torch.float64, "cpu")
    found = trained(name, model_of, torch.float64, DEVICE)
    # Entries are of the order of 1; sums in another order, through inverse roots: 1e-16 to 1e-8.
    assert distance(found, expected) < 1e-8


@pytest.mark.parametrize("model_of", [Shapes, Network])
@pytest.mark.parametrize("name", names([name for name in OURS if name not in FLOAT64_ONLY]))
def test_float32_is_no_worse_than_that_of_the_cpu(name, model_of):
    exact = trained(name, model_of, torch.float64, "cpu")
    of_cpu = distance(trained(name, model_of, torch.float32, "cpu"), exact)
    found = distance(trained(name, model_of, torch.float32, DEVICE), exact)
    # Round-off of the same kind, summed in another order; 1e-6 where the CPU's cancels by luck.
    assert found < 10 * of_cpu + 1e-6


def syncs(name: str, model: nn.Module) -> int:
    """Host synchronisations of one step that renews nothing, the gradients not counted."""
    rare = {key: 1000 for key in ("update_freq", "statistics_freq") if key in config_of(name)}
    optimizer = make(name, model, torch.float32, lr=LR, **rare)
    for _ in range(2):
        one_step(optimizer, model)
    closure_of(optimizer, model, model.num_samples)()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            optimizer.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum(SYNCHRONISES in str(warning.message) for warning in caught)


@pytest.mark.parametrize("model_of", [Shapes, Network])
@pytest.mark.parametrize("name", names([x for x in OURS if class_name(x) not in HOST_BOUND]))
def test_few_host_synchronisations_whatever_the_number_of_layers(name, model_of, record_property):
    count = syncs(name, moved(model_of(torch.float32), DEVICE))
    record_property("host_syncs", count)
    assert count <= MOST_SYNCS.get(class_name(name), FEW_SYNCS)
    assert syncs(name, moved(Twice(model_of, torch.float32), DEVICE)) == count
