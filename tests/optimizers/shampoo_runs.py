"""A few parameters, random gradients and steps, for the tests of Shampoo."""

import torch

FLOAT64 = dict.fromkeys(("statistics_dtype", "root_dtype", "apply_dtype"), "float64")
SHAPES = [(), (1,), (5,), (6, 5), (3, 2, 5)]


def parameters(dtype=torch.float32, shapes=SHAPES):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]


def give(params, t, scale=1.0):
    generator = torch.Generator().manual_seed(100 + t)
    for parameter in params:
        grad = scale * torch.randn(parameter.shape, generator=generator)
        parameter.grad = grad.to(parameter.dtype)


def run(optimizer, params, steps, scale=1.0):
    for t in steps:
        give(params, t, scale)
        optimizer.step()


def values(params):
    return [parameter.detach().clone() for parameter in params]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def tensors(state):
    return {
        (str(key), name): value
        for key, entry in state.items()
        for name, value in entry.items()
        if isinstance(value, torch.Tensor)
    }
