"""The window's ring buffer and its incrementally kept Gram matrix."""

import pytest
import torch

from optimizers.linalg import LowRankWindow
from optimizers.linalg import window as module


def vectors(num, d, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num, d, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("num_pushed", [1, 3, 4, 5, 11])
def test_gram_and_products_are_those_of_the_last_vectors(num_pushed):
    pushed, other = vectors(num_pushed, 9), vectors(1, 9, seed=1)[0]
    window = LowRankWindow.create(4, 9, torch.float64)
    for vector in pushed:
        products = window.push(vector, other)
    last = pushed[-4:].flip(0)  # by age
    ages = window.ages()
    assert sorted(ages.tolist()) == list(range(len(last)))
    G = last[ages].T
    torch.testing.assert_close(window.gram(), G.T @ G)
    torch.testing.assert_close(products, torch.stack([G.T @ pushed[-1], G.T @ other]))
    coefficients = torch.arange(1.0, len(last) + 1, dtype=torch.float64)
    out = window.combine(coefficients, torch.empty(9, dtype=torch.float64))
    torch.testing.assert_close(out, G @ coefficients)


# Lengths around one chunk of 8, around one block (32; 16 where it is converted), and beyond.
@pytest.mark.parametrize("d", [7, 8, 25, 32, 35, 100])
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    # Round-off of the working dtype; bfloat16 rounds stored entries by at most 2^-8.
    [(torch.float32, 1e-6), (torch.float64, 1e-14), (torch.bfloat16, 8e-3)],
)
def test_chunks_and_blocks_cover_every_column_once(monkeypatch, d, dtype, tolerance):
    for name, width in {"CHUNK": 8, "BLOCK": 32, "CONVERTED_BLOCK": 16}.items():
        monkeypatch.setattr(module, name, width)
    pushed, other = vectors(3, d), vectors(1, d, seed=1)[0]
    window = LowRankWindow.create(2, d, dtype)
    for vector in pushed:
        products = window.push(vector, other)
    G = pushed[-2:].flip(0)[window.ages()].T
    scale = float(pushed.norm(dim=1).max())
    assert (window.gram() - G.T @ G).abs().max() < tolerance * scale**2
    assert (products[1] - G.T @ other).abs().max() < tolerance * scale * other.norm()
    coefficients = torch.tensor([2.0, -1.0], dtype=torch.float64)
    expected = G @ coefficients
    # `out` rounds to its own dtype, and each entry carries the rounding of the stored one.
    roundings = {torch.float32: 1e-6, torch.float64: 1e-14, torch.bfloat16: 8e-3}
    for out_dtype in (torch.float32, torch.float64):
        out = window.combine(coefficients, torch.full((d,), 7.0, dtype=out_dtype)).double()
        allowed = max(roundings[out_dtype], roundings[dtype])
        assert (out - expected).norm() < allowed * expected.norm()


def test_sums_over_chunks_are_float64(monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 1)
    entry = torch.tensor(0.1)
    product = LowRankWindow.create(1, 3000).push(entry.expand(3000))[0, 0]
    # Each product is rounded to float32; adding up 3000 of them in float32 would err by 1e-6.
    assert float(product) == pytest.approx(3000 * float(entry * entry), rel=1e-12)


def test_gram_is_exactly_that_of_the_stored_vectors():
    window = LowRankWindow.create(3, 50, torch.bfloat16)
    for vector in vectors(5, 50):
        window.push(vector)
    stored = window.state["rows"].float()
    # The same float32 products, added up in another order.
    torch.testing.assert_close(window.gram(), (stored @ stored.T).double(), rtol=1e-6, atol=1e-5)


def test_state_goes_on_where_it_was():
    window = LowRankWindow.create(3, 6)
    for vector in vectors(4, 6):
        window.push(vector)
    state = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in window.state.items()}
    twin = LowRankWindow(state)
    for vector in vectors(5, 6, seed=2):
        assert torch.equal(window.push(vector), twin.push(vector))
    assert torch.equal(window.eigenvalues(), twin.eigenvalues())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 5), "window must be >= 1, got 0"),
        ((5, 0), "dim must be >= 1, got 0"),
        ((5, 5, torch.float16), "window_dtype must be float32, float64 or bfloat16"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        LowRankWindow.create(*arguments)
