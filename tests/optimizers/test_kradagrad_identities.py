"""What KrADagrad's proofs rest on, checked in float64 on the kernels that the optimizers use."""

import pytest
import torch

from optimizers import Shampoo
from optimizers.linalg.geometric_mean import geometric_mean
from optimizers.linalg.krad import MAX_FORMED, T_RULES, age_, krad_, woodbury_

RULES = list(T_RULES)
NORMS = ["spectral", "frobenius"]
M, N = 5, 8
# Enough for the power iteration to converge to round-off on matrices of this size.
NUM_ITERATIONS = 200
# Eigenvalues here are of order 1 to 1e3, float64: a margin of 1e-9 is far above their round-off.
ROUND_OFF = 1e-9


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def positive(n, seed):
    X = normal(n, n, seed=seed)
    return X @ X.T / n + 0.1 * torch.eye(n, dtype=torch.float64)


def smallest(matrix):
    return float(torch.linalg.eigvalsh((matrix + matrix.mT) / 2)[..., 0].min())


def root(matrix, exponent):
    eigenvalues, V = torch.linalg.eigh(matrix)
    return V @ torch.diag(eigenvalues**exponent) @ V.T


def run(grads, rule, update=krad_):
    """Factors after each step and the t of each step, from the identity, A = G G^T."""
    factor = torch.eye(grads[0].shape[0], dtype=torch.float64)[None]
    factors, bounds = [], []
    for G in grads:
        bounds.append(float(update(factor, G[None], rule, NUM_ITERATIONS)))
        factors.append(factor[0].clone())
    return factors, bounds


def cut_rank(G, rank):
    return normal(G.shape[0], rank, seed=7) @ normal(rank, G.shape[1], seed=8)


GRADS = {
    "random": [normal(M, N, seed=k) for k in range(60)],
    "rank one": [cut_rank(normal(M, N, seed=k), 1) for k in range(20)],
    "ten I": [10 * torch.eye(M, dtype=torch.float64)] * 20,
    "tiny and large": [10.0 ** ((-1) ** k * 3) * normal(M, N, seed=k) for k in range(20)],
    "zero": [torch.zeros(M, N, dtype=torch.float64)] * 3,
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("shape", [(M, N), (N, M), (6, 1), (1, 4)])
def test_t_is_what_it_says(rule, shape):
    L, G = positive(shape[0], seed=1), normal(*shape, seed=2)
    AL = G @ G.T @ L
    expected = {
        "spectral": 1 + torch.linalg.matrix_norm(AL, 2),
        "frobenius": 1 + torch.linalg.matrix_norm(AL),
        "trace": 1 + torch.trace(AL),
        "trace_dim": shape[0] * (1 + torch.trace(AL)),
    }[rule]
    t = T_RULES[rule](G[None], (L @ G)[None], NUM_ITERATIONS)
    assert t.shape == (1,)
    assert float(t) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("num_iterations", [2, 3, 10])
@pytest.mark.parametrize("scale", [0.0, 1.0])
@pytest.mark.parametrize("shape", [(40, 60), (MAX_FORMED + 6, 90), (40, 8), (40, 1)])
def test_an_unconverged_norm_is_too_large_rather_than_too_small(shape, scale, num_iterations):
    """The factor turns indefinite where t falls below the spectral radius of A L.

    Where A L is formed, where it is not as F is large or narrow, and of rank one.
    """
    n = shape[0]
    L = torch.stack([torch.eye(n).double() + scale * positive(n, seed=k) for k in range(30)])
    G = normal(30, *shape, seed=3)
    radius = torch.linalg.eigvals(G @ G.mT @ L).abs().amax(-1)
    t = T_RULES["spectral"](G, L @ G, num_iterations)
    assert bool((t > radius).all())
    # Nor by much: the residual of two iterations is 0.4 at most.
    assert bool((t < 1.4 * (1 + torch.linalg.matrix_norm(G @ G.mT @ L, 2))).all())


def test_the_power_iteration_finds_a_norm_that_hides():
    """Rows of sum zero, a block of its own, a single entry: no start vector may miss them."""
    hidden = torch.zeros(4, 12, 12, dtype=torch.float64)
    hidden[0] = torch.eye(12).double() - 1 / 12
    hidden[1, :2, :2], hidden[1, 2:, 2:] = 5 * torch.eye(2), 1.0
    hidden[2, 11, 11] = 3.0
    eye = torch.eye(12, dtype=torch.float64).expand(4, 12, 12)
    t = T_RULES["spectral"](hidden, eye @ hidden, 20)
    expected = 1 + torch.linalg.matrix_norm(hidden, 2) ** 2
    # The second has the eigenvalues 100 and 25, the others converge at once.
    torch.testing.assert_close(t, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("case", GRADS)
@pytest.mark.parametrize("rule", RULES)
def test_factor_stays_positive_and_never_grows(rule, case):
    """Corollary 3.3: 0 < L_k <= L_{k-1}."""
    factors, _ = run(GRADS[case], rule)
    before = torch.eye(M, dtype=torch.float64)
    for factor in factors:
        # 1e6 for "tiny and large": eigenvalues down to 1e-7 of L, still above 1e-16.
        assert smallest(factor) > 0
        assert smallest(before - factor) > -ROUND_OFF * float(before.norm())
        before = factor


@pytest.mark.parametrize("rule", NORMS)
@pytest.mark.parametrize("shape", [(M, N), (N, M), (M, M)])
def test_proposition_3_2(rule, shape):
    """M = L^{1/2} G R G^T L^{1/2} / t < I with t from either norm of L G R G^T."""
    for seed in range(20):
        L, R = positive(shape[0], seed), positive(shape[1], 100 + seed)
        G = 10.0 ** (seed % 5 - 1) * normal(*shape, seed=200 + seed)
        columns = G @ root(R, 0.5)
        t = T_RULES[rule](columns[None], (L @ columns)[None], NUM_ITERATIONS)
        half = root(L, 0.5) @ columns
        assert smallest(torch.eye(shape[0], dtype=torch.float64) - half @ half.T / t) > 0


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("case", ["random", "rank one", "ten I"])
def test_inverse_lies_between_two_sums(rule, case):
    """I + sum A/t <= L^{-1} <= I + sum A, undamped from L = I."""
    grads = GRADS[case]
    factors, bounds = run(grads, rule)
    lower = upper = torch.eye(M, dtype=torch.float64)
    for G, t in zip(grads, bounds, strict=True):
        lower, upper = lower + G @ G.T / t, upper + G @ G.T
    inverse = torch.linalg.inv(factors[-1])
    scale = float(torch.linalg.matrix_norm(upper, 2))
    assert smallest(inverse - lower) > -ROUND_OFF * scale
    assert smallest(upper - inverse) > -ROUND_OFF * scale


def test_trace_times_dimension_barely_adapts():
    """The released t divides by n too often: the trace of L^{-1} stays far below the others'."""
    grads = [0.5 * normal(20, 20, seed=k) / 20**0.5 for k in range(300)]
    traces = {rule: float(torch.linalg.inv(run(grads, rule)[0][-1]).trace()) for rule in RULES}
    assert traces["trace_dim"] < 0.25 * traces["trace"]
    assert traces["trace"] < traces["frobenius"] < traces["spectral"]


def test_spectral_t_tracks_the_inverse_of_the_sum():
    """Small gradients: t stays near 1, so that L follows (I + sum G G^T)^{-1}."""
    grads = [0.1 * normal(20, 20, seed=k) for k in range(300)]
    exact = torch.linalg.inv(torch.eye(20, dtype=torch.float64) + sum(G @ G.T for G in grads))
    errors = {}
    for rule in RULES:
        factor = run(grads, rule)[0][-1]
        errors[rule] = float(torch.linalg.matrix_norm(factor - exact) / exact.norm())
    assert errors["spectral"] < 0.3
    assert errors["spectral"] < errors["frobenius"] < errors["trace"] < errors["trace_dim"]
    # The released rule leaves the factor several times too large.
    assert errors["trace_dim"] > 3


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("shape", [(M, N), (N, M), (M, 1)])
def test_woodbury_is_the_exact_inverse_and_bounds_eq_13(rule, shape):
    """Eq. 12 = (L^{-1} + A/t)^{-1}, and eq. 13 never exceeds it."""
    L, G = positive(shape[0], seed=4)[None], 3 * normal(1, *shape, seed=5)
    exact, lower = L.clone(), L.clone()
    t = woodbury_(exact, G, rule, NUM_ITERATIONS)
    assert torch.equal(krad_(lower, G, rule, NUM_ITERATIONS), t)
    expected = torch.linalg.inv(torch.linalg.inv(L) + G @ G.mT / t)
    # Condition numbers of L are about 1e2.
    torch.testing.assert_close(exact, expected, rtol=0, atol=1e-12)
    assert smallest(exact - lower) > -ROUND_OFF
    assert float((exact - lower).norm()) > 1e-3


def test_damping_is_first_order_in_the_inverse():
    """L - eps L L^T = (L^{-1} + eps I)^{-1} + O(eps^2)."""
    L, eye = positive(M, seed=6)[None], torch.eye(M, dtype=torch.float64)
    errors = []
    for eps in (1e-2, 1e-3):
        exact = torch.linalg.inv(torch.linalg.inv(L) + eps * eye)
        errors.append(float((age_(L.clone(), 1.0, eps) - exact).norm()))
    assert errors[0] / errors[1] == pytest.approx(100, rel=0.2)


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4)])
def test_lemma_3_1(shape):
    """C (x) B >= U U^T / min(m, n) with B = sum U_i C^{-1} U_i^T; 1/n is not the best constant."""
    m, n = shape
    for seed in range(20):
        C = positive(n, seed)
        columns = [normal(m, n, seed=50 + seed + k) for k in range(1 + seed % 4)]
        B = sum(U @ torch.linalg.inv(C) @ U.T for U in columns)
        vectors = torch.stack([U.T.reshape(-1) for U in columns], dim=1)  # vec stacks columns
        outer = vectors @ vectors.T
        assert smallest(torch.kron(C, B) - outer / min(m, n)) > -ROUND_OFF * float(outer.norm())


def test_lemma_3_1_is_tight():
    """U of full rank with C = I and equal singular values attains 1 / min(m, n)."""
    U = torch.eye(3, 5, dtype=torch.float64)
    kron = torch.kron(torch.eye(5, dtype=torch.float64), U @ U.T)
    outer = torch.outer(U.T.reshape(-1), U.T.reshape(-1))
    assert smallest(kron - outer / 3) > -ROUND_OFF
    assert smallest(kron - outer / 2.9) < -1e-2


def domination_margins(grads, rule, rank):
    """Least eigenvalue of R^{-1/2} (x) L^{-1/2} - S / (rank max_k sqrt(t_L t_R)), by step."""
    lefts, t_left = run(grads, rule)
    rights, t_right = run([G.T.contiguous() for G in grads], rule)
    S, scale, margins = 0.0, 0.0, []
    for G, L, R, a, b in zip(grads, lefts, rights, t_left, t_right, strict=True):
        S = S + torch.outer(G.T.reshape(-1), G.T.reshape(-1))
        scale = max(scale, (a * b) ** 0.5)
        margins.append(smallest(torch.kron(root(R, -0.5), root(L, -0.5)) - S / (rank * scale)))
    return margins


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("case", ["random", "ten I"])
def test_krad_domination(rule, case):
    """R^{-1/2} (x) L^{-1/2} >= S / (r max_k sqrt(t_L t_R)), r = min(m, n), at every step."""
    grads = GRADS[case]
    norm = float(sum(G.norm() ** 2 for G in grads))
    margins = domination_margins(grads, rule, min(grads[0].shape))
    assert len(margins) == len(grads)
    assert min(margins) > -ROUND_OFF * norm


@pytest.mark.parametrize(
    ("rule", "multiple", "steps"),
    [
        ("frobenius", 10.0, [1, 2, 3]),
        ("trace", 10.0, list(range(2, 11))),
        ("trace_dim", 10.0, list(range(7, 21))),
        ("spectral", 10.0, []),
        ("spectral", 1.0, list(range(1, 21))),
    ],
)
def test_domination_needs_the_rank(rule, multiple, steps):
    """With 1 in the place of 1/r, as eq. 4 has it, G = 10 I repeated refutes it in these steps.

    With the spectral t, 101 at first, t hides the error; G = I refutes it in each.
    """
    margins = domination_margins([multiple * torch.eye(M, dtype=torch.float64)] * 20, rule, 1)
    assert [step for step, margin in enumerate(margins, start=1) if margin < 0] == steps
    # None is decided by round-off.
    assert min(map(abs, margins)) > 0.01


@pytest.mark.parametrize("rule", RULES)
def test_domination_needs_t(rule):
    """G = 10 I repeated: without r and t, as section 3.3 has it, it fails at the first step."""
    lefts, _ = run(GRADS["ten I"][:1], rule)
    dominating = torch.kron(root(lefts[0], -0.5), root(lefts[0], -0.5))
    S = torch.outer(GRADS["ten I"][0].reshape(-1), GRADS["ten I"][0].reshape(-1))
    assert smallest(dominating - S) < -1.0


def test_shampoo_combines_two_inverse_krad_estimates():
    """Section 3.3.1: B_c = M_g(B_1, I) and C_c = M_g(I, C_2), applied with the exponent -1/2.

    One estimate updates B_1 with C_1 = I, the other C_2 with B_2 = I: each dominates S / r by Lemma
    3.1, and so does their geometric mean.
    """
    grads, damping = GRADS["random"][:5], 0.5
    x = torch.zeros(M, N, dtype=torch.float64, requires_grad=True)
    float64 = dict.fromkeys(("statistics_dtype", "root_dtype", "apply_dtype"), "float64")
    options = {"lr": 1.0, "momentum": 0.0, "damping": damping, "update_freq": 1}
    optimizer = Shampoo([x], merge_dims=False, **options, **float64)
    B, C = (damping * torch.eye(n, dtype=torch.float64) for n in (M, N))
    left, right = torch.eye(M, dtype=torch.float64), torch.eye(N, dtype=torch.float64)
    S = torch.zeros(M * N, M * N, dtype=torch.float64)
    expected = torch.zeros(M, N, dtype=torch.float64)
    for G in grads:
        B, C = B + G @ right @ G.T, C + G.T @ left @ G
        S += torch.outer(G.T.reshape(-1), G.T.reshape(-1))
        B_c, C_c = geometric_mean(B, left).power, geometric_mean(right, C).power
        expected -= root(B_c, -0.5) @ G @ root(C_c, -0.5)
        assert smallest(torch.kron(C_c, B_c) - S / M) > 0
        x.grad = G
        optimizer.step()
    torch.testing.assert_close(x.detach(), expected, rtol=0, atol=1e-11)
