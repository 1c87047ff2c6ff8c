"""What every one of our own optimizers shares: restoring state, telemetry, refusals."""

import copy
import math

import pytest
import torch

from optimizers import GGT, FullMatrixAdagrad, GGTAuthors, ReportsSpectra, build, state_bytes
from optimizers.base import require_common

OURS = [GGT, GGTAuthors, FullMatrixAdagrad]
each = pytest.mark.parametrize("cls", OURS)


def stepped(cls, **options):
    x = torch.ones(4, requires_grad=True)
    optimizer = cls([x], **options)
    for t in range(3):
        x.grad = torch.sin(torch.arange(4.0) + t)
        optimizer.step()
    return x, optimizer


def tensors(state):
    return {k: v for k, v in next(iter(state.values())).items() if isinstance(v, torch.Tensor)}


@each
def test_state_keeps_its_dtype_and_is_not_shared(cls):
    dtypes = {} if cls is FullMatrixAdagrad else {"window_dtype": "bfloat16"}
    x, optimizer = stepped(cls, **dtypes)
    saved = optimizer.state_dict()
    restored = cls([x.detach().clone().requires_grad_()])
    restored.load_state_dict(saved)
    for name, tensor in tensors(restored.state).items():
        assert tensor.dtype == tensors(optimizer.state)[name].dtype
        assert torch.equal(tensor, tensors(optimizer.state)[name])
        assert tensor.data_ptr() != tensors(optimizer.state)[name].data_ptr() or not len(tensor)
    assert torch.float64 in {tensor.dtype for tensor in tensors(restored.state).values()}


@each
def test_a_copied_optimizer_goes_on_by_itself(cls):
    x, optimizer = stepped(cls)
    twin = copy.deepcopy(optimizer)
    y = twin.param_groups[0]["params"][0]
    y.grad = x.grad = torch.ones(4)
    twin.step()
    assert not torch.equal(x, y)
    optimizer.step()
    assert torch.equal(x, y)


@each
def test_reports_spectra_only_after_a_step(cls):
    optimizer = cls([torch.ones(4, requires_grad=True)])
    assert isinstance(optimizer, ReportsSpectra)
    assert optimizer.spectra() == []
    spectrum = stepped(cls)[1].spectra()[0]
    assert spectrum.eigenvalues.dtype == torch.float64
    assert torch.equal(spectrum.eigenvalues, spectrum.eigenvalues.sort().values)
    assert 0 < spectrum.resolution < float(spectrum.eigenvalues[-1])
    assert not isinstance(torch.optim.SGD([torch.ones(1)]), ReportsSpectra)


@each
def test_sparse_and_complex_are_refused(cls):
    x = torch.ones(3, requires_grad=True)
    x.grad = torch.ones(3).to_sparse()
    with pytest.raises(ValueError, match=r"^gradient of parameter 0 must be dense"):
        cls([x]).step()
    with pytest.raises(ValueError, match=r"^dtype of parameter 0 must be real"):
        cls([torch.ones(3, dtype=torch.complex64, requires_grad=True)]).step()


@each
def test_non_contiguous_and_low_precision_parameters(cls):
    grad = torch.tensor([[1.0, 2.0, 3.0], [-4.0, 5.0, 6.0]])
    x = torch.zeros(2, 3, requires_grad=True)
    y = torch.zeros(3, 2).t().requires_grad_()
    z = torch.zeros(2, 3, dtype=torch.bfloat16, requires_grad=True)
    for parameter in (x, y, z):
        parameter.grad = grad.to(parameter.dtype)
        cls([parameter], lr=0.1).step()
    assert torch.equal(x, y)
    # bfloat16 parameters round a step that is computed in float32: 2^-8 of it.
    torch.testing.assert_close(z.float(), x, rtol=2**-8, atol=0)


def test_state_bytes_counts_nested_and_shared_storage_once():
    optimizer = torch.optim.SGD([torch.ones(1)], lr=0.1)
    base = torch.zeros(100)
    optimizer.state["a"] = {"x": base[:10], "y": [base[50:], {"z": torch.zeros(3)}], "n": 5}
    assert state_bytes(optimizer) == 400 + 12


@each
def test_parameters_have_names(cls):
    model = torch.nn.Linear(3, 2)
    optimizer = build(model, cls, [{"names": ["bias"], "lr": 0.1}])
    assert [group["param_names"] for group in optimizer.param_groups] == [["weight"], ["bias"]]
    extra = torch.ones(2, requires_grad=True)
    optimizer.add_param_group({"params": extra})
    assert optimizer.param_groups[2]["param_names"] == ["parameter 2"]
    optimizer.add_param_group({"params": [("named", torch.ones(1, requires_grad=True))]})
    assert optimizer.param_groups[3]["param_names"] == ["named"]
    unnamed = cls(model.parameters())
    assert "param_names" not in unnamed.param_groups[0]
    # Names are no option: where they come from changes no step.
    optimizer = build(model, cls)
    twin = torch.nn.Linear(3, 2)
    twin.load_state_dict(model.state_dict())
    other = cls(twin.parameters())
    for step in range(3):
        for parameter in (*model.parameters(), *twin.parameters()):
            parameter.grad = torch.full_like(parameter, 1.0 + step)
        optimizer.step()
        other.step()
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True)
    )


def test_a_class_that_needs_the_model_gets_it():
    class Knows(torch.optim.SGD):
        needs_model = True

        def __init__(self, params, model, **options):
            super().__init__(params, **options)
            self.model = model

    model = torch.nn.Linear(3, 2)
    assert build(model, Knows, lr=0.1).model is model
    rule = {"names": ["bias"], "cls": torch.optim.SGD}
    assert build(model, Knows, [rule], lr=0.1).members[0].model is model


@pytest.mark.parametrize(
    ("name", "least", "bad"),
    [
        ("update_freq", 1, [0, 1.5, True, "1", math.nan]),
        ("start_step", 0, [-1, 0.5, False, None]),
        ("block_size", 1, [0, -3, 2.0]),
    ],
)
def test_counts_are_integers(name, least, bad):
    require_common({name: least})
    for value in bad:
        with pytest.raises(ValueError, match=f"^{name} must be an integer >= {least}, got {value}"):
            require_common({name: value})
