"""How the per-sample gradients of each kind of module follow from what it was given and gave.

A new kind of module needs one `weights_of` and one `samples_of`, and nothing elsewhere.
"""

from __future__ import annotations

from functools import singledispatch

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from optimizers.capture.call import Call, first_input
from optimizers.capture.generic import gradients_by_sample
from optimizers.capture.lstm import gate_deltas
from optimizers.capture.samples import (
    DenseSamples,
    LookupSamples,
    OuterSamples,
    Samples,
    bias_column,
)

# ---------------------------------------------------------------- which weights a module has


@singledispatch
def weights_of(module: nn.Module) -> list[tuple[str, ...]]:
    """Names of the module's own weights that form matrices, each with that of its bias.

    Parameters in a list or dict belong to the module that holds it, as a list is never called.
    """
    own = list(module.named_parameters(recurse=False))
    for holder, child in module.named_children():
        if isinstance(child, (nn.ParameterList, nn.ParameterDict)):
            own += [(f"{holder}.{name}", p) for name, p in child.named_parameters()]
    return [(name,) for name, parameter in own if parameter.ndim >= 2]


@weights_of.register(nn.Linear)
@weights_of.register(nn.Conv1d)
@weights_of.register(nn.Conv2d)
@weights_of.register(nn.Conv3d)
def _(module: nn.Module) -> list[tuple[str, ...]]:
    return [("weight",) if module.bias is None else ("weight", "bias")]


@weights_of.register(nn.modules.batchnorm._NormBase)
@weights_of.register(nn.LayerNorm)
@weights_of.register(nn.GroupNorm)
@weights_of.register(nn.RMSNorm)
@weights_of.register(nn.ParameterList)
@weights_of.register(nn.ParameterDict)
@weights_of.register(nn.utils.parametrize.ParametrizationList)
def _(module: nn.Module) -> list[tuple[str, ...]]:
    return []


@weights_of.register(nn.Embedding)
def _(module: nn.Embedding) -> list[tuple[str, ...]]:
    # Divided by how often the whole batch looks a row up, a gradient belongs to no sample.
    return [] if module.scale_grad_by_freq else [("weight",)]


@weights_of.register(nn.LSTM)
def _(module: nn.LSTM) -> list[tuple[str, ...]]:
    if module.proj_size:
        return []
    kinds = [("weight_ih", "bias_ih"), ("weight_hh", "bias_hh")]
    return [
        tuple(f"{name}_l{layer}{end}" for name in (kind if module.bias else kind[:1]))
        for layer in range(module.num_layers)
        for end in (("", "_reverse") if module.bidirectional else ("",))
        for kind in kinds
    ]


@weights_of.register(nn.MultiheadAttention)
def _(module: nn.MultiheadAttention) -> list[tuple[str, ...]]:
    # It reads the weights of its child `out_proj` without calling it.
    names = ["in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"]
    weights = [(name,) for name in names if getattr(module, name) is not None]
    biased = module.in_proj_bias is not None
    if biased and module.in_proj_weight is not None:
        weights[0] = ("in_proj_weight", "in_proj_bias")
    return [*weights, ("out_proj.weight", "out_proj.bias") if biased else ("out_proj.weight",)]


# ---------------------------------------------------------------- what its samples are


@singledispatch
def samples_of(module: nn.Module, names: tuple[str, ...], call: Call) -> Samples:
    """Per-sample gradients of the matrix with these names, from one call of the module.

    Here, for modules without a rule of their own, by calling them again.
    """
    gradients = gradients_by_sample(module, names, call)
    matrices = gradients[0].flatten(2)
    if len(names) > 1:
        matrices = torch.cat([matrices, gradients[1].unsqueeze(-1)], dim=2)
    return DenseSamples(matrices)


@samples_of.register(nn.Linear)
def _(module: nn.Linear, names: tuple[str, ...], call: Call) -> Samples:
    dim = call.batch_dim
    x = call.batch_first(first_input(call), dim).to(call.dtype)
    return outer(x.flatten(1, -2) if x.ndim > 2 else x[:, None], call.deltas(0, dim), names)


@samples_of.register(nn.Conv2d)
def _(module: nn.Conv2d, names: tuple[str, ...], call: Call) -> Samples:
    x = call.batch_first(first_input(call), 0).to(call.dtype)
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    x = F.pad(x, module._reversed_padding_repeated_twice, mode=mode)
    patches = F.unfold(x, module.kernel_size, dilation=module.dilation, stride=module.stride)
    deltas = call.deltas(0, 0).flatten(2).mT
    if module.groups == 1:
        return outer(patches.mT, deltas, names, sequential=False)
    num_samples, kappa, m = deltas.shape
    by_group = deltas.reshape(num_samples, kappa, module.groups, -1).permute(0, 2, 3, 1)
    gradients = by_group @ patches.view(num_samples, module.groups, -1, kappa).mT
    gradients = gradients.reshape(num_samples, m, -1)
    if len(names) > 1:
        gradients = torch.cat([gradients, deltas.sum(1)[..., None]], dim=2)
    return DenseSamples(gradients, area=kappa)


@samples_of.register(nn.Embedding)
def _(module: nn.Embedding, names: tuple[str, ...], call: Call) -> Samples:
    indices = call.batch_first(first_input(call), call.batch_dim).flatten(1)
    if module.padding_idx is not None:
        indices = torch.where(indices == module.padding_idx, -1, indices)
    deltas = call.deltas(0, call.batch_dim).reshape(*indices.shape, -1)
    return LookupSamples(indices, deltas, module.num_embeddings)


@samples_of.register(nn.LSTM)
def _(module: nn.LSTM, names: tuple[str, ...], call: Call) -> Samples:
    activations, deltas = gate_deltas(module, call)[names[0]]
    return outer(activations, deltas, names)


def outer(
    activations: Tensor, deltas: Tensor, names: tuple[str, ...], sequential: bool = True
) -> OuterSamples:
    """Samples of [W b] from activations (B, kappa, n) and deltas (B, ..., m)."""
    deltas = deltas.flatten(1, -2) if deltas.ndim > 2 else deltas[:, None]
    inputs = bias_column(activations) if len(names) > 1 else activations
    return OuterSamples(inputs, deltas, sequential)
