"""Gate gradients of nn.LSTM, whose fused kernels let no hook see them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from optimizers.capture.call import Call

# Largest difference between the recorded output and the recomputed one, relative to the largest
# value: another dropout mask differs by its order, round-off of the narrowest dtype by 2^-8.
SAME = 0.02


def gate_deltas(module: nn.LSTM, call: Call) -> dict[str, tuple[Tensor, Tensor]]:
    """What each weight of an LSTM is multiplied with, and its gates' gradients, by its name.

    The steps are computed once more from the recorded input and state, by plain tensors, and
    differentiated with the recorded output gradients, without the fused kernels: on one CPU core a
    recorded pass of 50 symbols takes 3.4 times a plain one at 3 layers of 480, 5 times at 2 of 64.
    Dropout between layers is drawn again from the generator's recorded state.

    Returns:
        name of the weight: (activations (B, T, n), deltas (B, T, 4 hidden)).
    Raises:
        ValueError: if the input is packed, or its dropout cannot be drawn again, as with cuDNN.
    """
    key = f"gates {call.start} {call.stop} {call.dtype}"
    if key not in call.memo:
        call.memo.clear()
        call.memo[key] = _unrolled(module, call)
    return call.memo[key]


def rng_state(device: torch.device) -> Tensor:
    """State of the device's default generator."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _unrolled(module: nn.LSTM, call: Call) -> dict[str, tuple[Tensor, Tensor]]:
    x, h0, c0, dims = _given(module, call)
    weights = {name: p.detach().to(call.dtype) for name, p in module.named_parameters()}
    ends = ("", "_reverse") if module.bidirectional else ("",)
    masks = list(_dropout_masks(module, call, x.shape[0]))
    offsets: dict[str, Tensor] = {}
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    last_h, last_c = [], []
    with torch.enable_grad():
        for layer in range(module.num_layers):
            outputs = []
            for end in ends:
                name = f"l{layer}{end}"
                index = len(last_h)
                offset = x.new_zeros(*x.shape[:2], 4 * module.hidden_size).requires_grad_()
                output, before, c = _direction(
                    x, h0[index], c0[index], offset, weights, name, reverse=end != ""
                )
                offsets[name], seen[name] = offset, (x.detach(), before)
                outputs.append(output)
                last_h.append(output[0] if end else output[-1])
                last_c.append(c)
            x = torch.cat(outputs, dim=-1)
            x = x * masks[layer] if layer < len(masks) else x
        results = [x, torch.stack(last_h), torch.stack(last_c)]
        _verify(call, x, dims[0])
        deltas = [
            None if grad is None else call.deltas(index, dim).movedim(0, 1)
            for index, (grad, dim) in enumerate(zip(call.grads, dims, strict=True))
        ]
        used = [(y, d) for y, d in zip(results, deltas, strict=True) if d is not None]
        grads = torch.autograd.grad(
            [y for y, _ in used], list(offsets.values()), [d for _, d in used], allow_unused=True
        )
    found = {}
    for (name, offset), grad in zip(offsets.items(), grads, strict=True):
        delta = (torch.zeros_like(offset) if grad is None else grad).transpose(0, 1)
        found[f"weight_ih_{name}"] = seen[name][0].transpose(0, 1), delta
        found[f"weight_hh_{name}"] = seen[name][1].transpose(0, 1), delta
    return found


def _direction(
    x: Tensor,
    h: Tensor,
    c: Tensor,
    offset: Tensor,
    weights: dict[str, Tensor],
    name: str,
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """One direction of one layer; `offset` is added to its gates, to be differentiated by.

    Returns:
        Outputs (T, B, hidden), the hidden states that each step began with, and the last cell.
    """
    biases = (weights.get(f"bias_ih_{name}"), weights.get(f"bias_hh_{name}"))
    pre = F.linear(x, weights[f"weight_ih_{name}"], biases[0]) + offset
    outputs, before = [], []
    for t in reversed(range(len(x))) if reverse else range(len(x)):
        before.append(h.detach())
        gates = pre[t] + F.linear(h, weights[f"weight_hh_{name}"], biases[1])
        i, f, g, o = gates.chunk(4, dim=-1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        outputs.append(h)
    if reverse:
        outputs.reverse()
        before.reverse()
    return torch.stack(outputs), torch.stack(before), c


def _given(module: nn.LSTM, call: Call) -> tuple[Tensor, Tensor, Tensor, tuple[int, int, int]]:
    """Input (T, B, n) and states (layers, B, hidden) of the wanted samples; where samples lie.

    The third tells the dimension of samples in output, last hidden and last cell state.
    """
    given = dict(zip(("input", "hx"), call.args, strict=False)) | call.kwargs
    x = given["input"]
    if not isinstance(x, Tensor):
        raise ValueError(f"{call.path} must be given padded sequences, got a packed one")
    dim = 0 if module.batch_first else 1
    if x.ndim == 2:
        raise ValueError(
            f"{call.path} must be given sequences with a batch dimension, got {tuple(x.shape)}"
        )
    inputs = call.batch_first(x, dim).to(call.dtype).transpose(0, 1)
    directions = 2 if module.bidirectional else 1
    shape = (module.num_layers * directions, inputs.shape[1], module.hidden_size)
    if given.get("hx") is None:
        return inputs, inputs.new_zeros(shape), inputs.new_zeros(shape), (dim, 1, 1)
    states = [call.batch_first(s, 1).to(call.dtype).transpose(0, 1) for s in given["hx"]]
    return inputs, states[0], states[1], (dim, 1, 1)


def _dropout_masks(module: nn.LSTM, call: Call, length: int) -> Iterator[Tensor]:
    """Factors of the outputs of all layers but the last, of the wanted samples."""
    if not (module.dropout and module.training):
        return
    output = call.output[0]
    width = output.shape[-1]
    devices = [output.device] if output.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        if devices:
            torch.cuda.set_rng_state(call.generator_state, output.device)
        else:
            torch.set_rng_state(call.generator_state)
        ones = torch.ones(length, call.num_samples, width, dtype=output.dtype, device=output.device)
        for _ in range(module.num_layers - 1):
            mask = F.dropout(ones, module.dropout, training=True)
            yield mask[:, call.start : call.stop].to(call.dtype)


def _verify(call: Call, output: Tensor, dim: int) -> None:
    """Check dropout that was drawn again by the output that came of it."""
    if call.generator_state is None:
        return
    recorded = call.batch_first(call.output[0], dim).transpose(0, 1).to(output.dtype)
    error = (recorded - output.detach()).abs().max()
    if not error <= SAME * recorded.abs().max():
        raise ValueError(
            f"{call.path} must have dropout 0 between its layers where cuDNN draws it (put "
            f"nn.Dropout between layers of their own), got dropout that cannot be drawn again"
        )
