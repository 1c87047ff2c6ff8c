"""NG+ against its transcription, in its limits, and on hard input."""

import copy
import io

import pytest
import torch
from torch import nn

from optimizers import NGPlus, NGPlusAuthors, NGPlusAuthorsOnline, Shampoo, state_bytes
from tests.optimizers import reference_ng_plus as reference
from tests.optimizers.ng_plus_models import Dense, Images, Tensors, Text, backward, train

FLOAT64 = dict.fromkeys(("statistics_dtype", "root_dtype", "apply_dtype"), "float64")
COMMON = {"lr": 0.02, "momentum": 0.8, "damping": 0.3}
NUM_STEPS = 20
# float64 against float64 in another order of summation; a damped inverse has condition 1e4 at most.
CLOSE = {"rtol": 1e-9, "atol": 1e-11}


@pytest.fixture(autouse=True)
def one_thread():
    """Small tensors gain nothing from two threads and lose much where others need the core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make(model, **options):
    return NGPlus(model.parameters(), model=model, **{**COMMON, **FLOAT64, **options})


def assert_same(model, other, **close):
    for (name, ours), theirs in zip(model.named_parameters(), other.parameters(), strict=True):
        assert torch.allclose(ours, theirs, **{**CLOSE, **close}), name


READINGS = {
    "eqs. 4-7": {},
    "weight decay": {"weight_decay": 0.1},
    "left": {"side": "left"},
    "right": {"side": "right"},
    "eq. 11": {"beta2": 0.7},
    "eq. 12": {"statistic": "minibatch", "beta2": 0.9, "gamma": 0.5, "initial": 0.1},
    "eq. 18": {"block_size": 3},
    "eq. 18 right": {"block_size": 4, "side": "right"},
    "eq. 18 of 12": {"block_size": 2, "statistic": "minibatch", "beta2": 1.0},
    "eq. 19": {
        "statistic": "minibatch",
        "beta2": 1.0,
        "initial": 0.5,
        "damping": 0.0,
        "momentum": 0.0,
        "radius": 1.5,
    },
    "S_k": {"curvature_samples": 2},
    "eq. 14": {"method": "low_rank"},
}


@pytest.mark.parametrize("update_freq", [1, 5])
@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("cls", [Dense, Images, Text, Tensors])
def test_twenty_steps_of_the_equations(cls, reading, update_freq):
    options = {**COMMON, **READINGS[reading], "update_freq": update_freq}
    model, other = cls(), cls()
    train(model, make(model, **options), range(NUM_STEPS))
    options.pop("method", None)
    batches = [other.batch(step) for step in range(NUM_STEPS)]
    reference.ng_plus(other, other.losses, batches, list(other.matrices), **options)
    assert_same(model, other)
    assert not torch.allclose(next(model.parameters()), next(cls().parameters()))


@pytest.mark.parametrize("update_freq", [1, 5])
@pytest.mark.parametrize("cls", [Dense, Images])
def test_twenty_steps_of_the_authors_code(cls, update_freq):
    options = {"lr": 0.02, "momentum": 0.8, "damping": 0.3, "update_freq": update_freq}
    options["weight_decay"] = 0.01
    model, other = cls(), cls()
    optimizer = NGPlusAuthors(model.parameters(), model, curvature_momentum=0.9, **options)
    train(model, optimizer, range(NUM_STEPS))
    batches = [other.batch(step) for step in range(NUM_STEPS)]
    areas = list(getattr(other, "areas", (1, 1)))
    reference.authors(
        other, other.losses, batches, list(other.matrices), areas, alpha=0.9, **options
    )
    assert_same(model, other)
    assert len(optimizer.spectra()) == len(other.matrices)


@pytest.mark.parametrize("update_freq", [1, 5])
def test_twenty_steps_of_the_authors_online_code(update_freq):
    options = {"lr": 0.05, "momentum": 0.9, "damping": 0.02, "weight_decay": 0.01}
    generator = torch.Generator().manual_seed(3)
    starts = [torch.randn(s, generator=generator, dtype=torch.float64) for s in Tensors.shapes]
    slopes = [torch.randn(s, generator=generator, dtype=torch.float64) for s in Tensors.shapes]

    def gradients(parameters, step):
        return [(p + step * s).sin() for p, s in zip(parameters, slopes, strict=True)]

    expected = reference.authors_online(
        starts,
        gradients,
        NUM_STEPS,
        alpha=0.99,
        epsilon=1e-8,
        cov_freq=10,
        update_freq=update_freq,
        **options,
    )
    parameters = [start.clone().requires_grad_() for start in starts]
    optimizer = NGPlusAuthorsOnline(parameters, update_freq=update_freq, **options)
    for step in range(NUM_STEPS):
        with torch.no_grad():
            for p, g in zip(parameters, gradients(parameters, step), strict=True):
                p.grad = g
        optimizer.step()
    for p, q in zip(parameters, expected, strict=True):
        assert torch.allclose(p, q, rtol=1e-10)
    assert {spectrum.staleness for spectrum in optimizer.spectra()} == {
        (NUM_STEPS - 1) % update_freq
    }


@pytest.mark.parametrize("options", [{}, {"statistic": "minibatch", "beta2": 1.0}])
def test_single_precision_stays_close(options):
    """Five steps: round-off of float32, 6e-8, times the condition of L + damping I, below 1e3."""
    model, other = Text(), Text()
    train(model, make(model, update_freq=2, **options), range(5))
    names = ("statistics_dtype", "root_dtype", "apply_dtype")
    other.float()
    train(other, make(other, update_freq=2, **options, **dict.fromkeys(names, "float32")), range(5))
    assert_same(model, other.double(), rtol=1e-4, atol=1e-5)


def test_tokens_as_samples():
    """For the read-out each position is a sample: L = mean |[h; 1]|^2 g g^T over all of them."""
    model = Text()
    optimizer = make(model, sample="token", side="left")
    seen = {}
    model.readout.register_forward_hook(lambda m, args, out: seen.update(h=args[0], z=out))
    backward(model, optimizer, model.batch(0))
    h, z = seen["h"].detach().flatten(0, 1), seen["z"].detach().flatten(0, 1)
    targets = nn.functional.one_hot(model.batch(0)[:, 1:].flatten(), 7)
    g = z.softmax(1) - targets
    L = (g.T * (h.square().sum(1) + 1)) @ g / len(g)
    optimizer.step()
    spectrum = next(s for s in optimizer.spectra() if s.name == "readout.weight")
    assert torch.allclose(spectrum.eigenvalues, torch.linalg.eigvalsh(L), rtol=1e-9, atol=1e-13)


# ---------------------------------------------------------------- limits and identities


@pytest.mark.parametrize("options", [{}, {"method": "low_rank"}, {"block_size": 4}])
def test_large_damping_is_scaled_sgd(options):
    """(L + damping I)^-1 is I / damping up to |L| / damping, 1e-9 a step here."""
    model, other = Dense(), Dense()
    train(model, make(model, damping=1e10, lr=1e8, **options), range(10))
    sgd = torch.optim.SGD(other.parameters(), lr=1e-2, momentum=0.8)
    for step in range(10):
        sgd.zero_grad()
        other.losses(other.batch(step)).mean().backward()
        sgd.step()
    assert_same(model, other, atol=1e-8)


def test_eq_12_with_beta_and_gamma_1_has_shampoos_left_statistic():
    """On weights without biases, since Shampoo knows no [W b]."""
    model, other = Dense(), Dense()
    for name, parameter in (*model.named_parameters(), *other.named_parameters()):
        parameter.requires_grad_("weight" in name)
    statistic = {"statistic": "minibatch", "beta2": 1.0, "gamma": 1.0, "initial": 0.1}
    weights = [p for p in model.parameters() if p.requires_grad]
    ours = NGPlus(weights, model, lr=0.0, side="left", **statistic, **FLOAT64)
    named = [(name, p) for name, p in other.named_parameters() if p.requires_grad]
    sums = {"initial_scale": 0.1, "beta2": 1.0, "merge_dims": False, "update_freq": 1}
    theirs = Shampoo(named, lr=0.0, **sums, **FLOAT64)
    for step in range(3):
        for m, optimizer in ((model, ours), (other, theirs)):
            optimizer.zero_grad()
            m.losses(m.batch(step)).mean().backward()
            optimizer.step()
    found = {s.name: s.eigenvalues for s in theirs.spectra() if s.name.endswith("mode0")}
    assert len(found) == len(ours.spectra()) == 2
    for spectrum, values in zip(ours.spectra(), found.values(), strict=True):
        assert torch.allclose(spectrum.eigenvalues, values, rtol=1e-9)


def test_l_of_a_linear_layer_needs_no_per_sample_gradients():
    """L = mean |a_i|^2 g_i g_i^T, exactly, a_i with a 1 for the bias."""
    model = nn.Linear(5, 4).double()
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    optimizer = make(model)
    with optimizer.record(6, 0, torch.full((6,), 1 / 6, dtype=x.dtype)):
        z = model(x)
        z.cos().sum(1).mean().backward()
    optimizer.step()
    g = -z.detach().sin()
    L = (g.T * (x.square().sum(1) + 1)) @ g / 6
    (spectrum,) = optimizer.spectra()
    # The other order of the products, in float64.
    assert torch.allclose(spectrum.eigenvalues, torch.linalg.eigvalsh(L), rtol=1e-12, atol=0)


@pytest.mark.parametrize("cls", [Dense, Images, Text])
@pytest.mark.parametrize("options", [{}, {"beta2": 0.5}, {"method": "low_rank"}])
def test_two_halves_of_a_batch_are_the_batch(cls, options):
    model, other = cls(), cls()
    train(model, make(model, update_freq=2, **options), range(4))
    train(other, make(other, update_freq=2, **options), range(4), accumulate=2)
    assert_same(model, other)


def test_s_k_counts_the_first_samples_of_the_step():
    model, other = Dense(), Dense()
    train(model, make(model, curvature_samples=3), range(2))
    train(other, make(other, curvature_samples=3), range(2), accumulate=2)
    assert_same(model, other)


# ---------------------------------------------------------------- contract


VARIANTS = {
    "samples": {},
    "momentum": {"beta2": 0.5},
    "minibatch": {"statistic": "minibatch", "beta2": 0.9},
    "low_rank": {"method": "low_rank"},
    "sketched": {"method": "low_rank", "sketch_size": 3},
    "blocks": {"block_size": 3},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_restored_optimizer_goes_on_bit_identically(variant):
    options = {"update_freq": 3, **VARIANTS[variant]}
    model = Images()
    optimizer = make(model, **options)
    train(model, optimizer, range(7))
    file = io.BytesIO()
    torch.save([model.state_dict(), optimizer.state_dict()], file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    twin = Images()
    twin.load_state_dict(saved[0])
    restored = make(twin, update_freq=1)
    restored.load_state_dict(saved[1])
    copied = copy.deepcopy(optimizer)
    train(copied.model, copied, range(7, 12))
    train(model, optimizer, range(7, 12))
    train(twin, restored, range(7, 12))
    for p, q, r in zip(
        model.parameters(), twin.parameters(), copied.model.parameters(), strict=True
    ):
        assert torch.equal(p, q) and torch.equal(p, r)


@pytest.mark.parametrize("variant", VARIANTS)
def test_state_bytes_follow_the_formula(variant):
    model = Dense()  # [W b]: 9 x 7, so k = 7, and 8 x 10, so k = 8
    optimizer = make(model, **VARIANTS[variant])
    train(model, optimizer, range(2))
    momentum = sum(p.numel() for p in model.parameters())
    curvature = {
        "low_rank": 4 * (7 + 8) + 2 * 4**2,  # k b + b^2 of 4 samples
        "sketched": 4 * (7 + 8) + 2 * 4**2 + 2 * 3,  # and the numbers of the rows
        "blocks": 2 * (3 * 9 + 3 * 9),  # the last block is padded
    }.get(variant, 2 * (7**2 + 8**2))
    assert state_bytes(optimizer) == 8 * (momentum + curvature)


def test_state_bytes_of_the_authors_readings_follow_their_formulas():
    for dtype in (torch.float32, torch.float64):
        size = dtype.itemsize
        model = Dense().to(dtype)
        optimizer = NGPlusAuthors(model.parameters(), model, update_freq=2)
        for step in range(3):
            optimizer.zero_grad()
            with optimizer.record(4, 0, torch.full((4,), 0.25)):
                model.losses(model.batch(step).to(dtype)).mean().backward()
            optimizer.step()
        momentum = sum(p.numel() for p in model.parameters())
        assert state_bytes(optimizer) == size * (2 * (9**2 + 8**2) + momentum)

        shapes = ((12, 4, 3), (7, 5), (6,), (1,), ())
        parameters = [torch.ones(s, dtype=dtype, requires_grad=True) for s in shapes]
        online = NGPlusAuthorsOnline(parameters)
        for _ in range(2):
            for p in parameters:
                p.grad = torch.full_like(p, 0.5)
            online.step()
        rows = (12, 7, 6, 1, 1)
        formula = sum(2 * m**2 + p.numel() for m, p in zip(rows, parameters, strict=True))
        assert state_bytes(online) == size * formula


def test_a_step_that_is_not_finite_changes_nothing():
    model = Images()
    optimizer = make(model, update_freq=2)
    train(model, optimizer, range(4))
    state = copy.deepcopy(optimizer.state_dict()["state"])
    before = [p.detach().clone() for p in model.parameters()]
    optimizer.zero_grad()
    backward(model, optimizer, model.batch(4))
    model.net[0].weight.grad[0, 0, 0, 0] = torch.nan
    optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    after = optimizer.state_dict()["state"]
    assert after["shared"] == {"steps": 4, "fallbacks": 1}
    del after["shared"], state["shared"]
    flat = [torch.utils._pytree.tree_leaves(s) for s in (state, after)]
    for old, new in zip(*flat, strict=True):
        assert torch.equal(old, new) if isinstance(old, torch.Tensor) else old == new
    other = Images()
    train(other, make(other, update_freq=2), range(5))
    train(model, optimizer, range(4, 5))
    assert_same(model, other, rtol=0, atol=0)


def test_statistics_that_overflow_are_not_committed():
    """Gradients of 1e20 have no float32 square, but are finite themselves."""
    model = Dense().float()
    optimizer = NGPlus(model.parameters(), model=model)
    before = [p.detach().clone() for p in model.parameters()]
    weights = torch.full((4,), 0.25)
    with optimizer.record(4, 0, weights):
        (1e20 * weights * model.losses(model.batch(0).float())).sum().backward()
    optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    assert optimizer.state["shared"] == {"steps": 0, "fallbacks": 1}
    assert optimizer.spectra() == []


@pytest.mark.parametrize("scale", [0.0, 1e-20])
def test_vanishing_gradients(scale):
    model = Dense().float()
    optimizer = NGPlus(model.parameters(), model=model, lr=0.16, momentum=0.0)
    before = [p.detach().clone() for p in model.parameters()]
    weights = torch.full((4,), 0.25)
    with optimizer.record(4, 0, weights):
        (scale * weights * model.losses(model.batch(0).float())).sum().backward()
    optimizer.step()
    # L is 0 and the damping 0.16: plain descent.
    for p, q in zip(model.parameters(), before, strict=True):
        assert torch.allclose(p, q - p.grad)
    assert optimizer.state["shared"]["fallbacks"] == 0


def test_a_step_without_a_record_says_what_to_do():
    model = Dense()
    optimizer = make(model, update_freq=2)
    assert optimizer.wants_samples()
    model.losses(model.batch(0)).mean().backward()
    message = (
        r"^step 0 must follow a pass inside optimizer.record\(num_samples, batch_dim, weights\)"
    )
    with pytest.raises(ValueError, match=message):
        optimizer.step()
    backward(model, optimizer, model.batch(0))
    optimizer.step()
    assert not optimizer.wants_samples()
    model.losses(model.batch(0)).mean().backward()
    optimizer.step()
    assert optimizer.wants_samples()
    backward(model, optimizer, model.batch(0))
    model.net[2].weight.grad = None
    optimizer.step()


def test_a_layer_used_outside_its_module_is_named():
    model = Dense()
    optimizer = make(model)
    with optimizer.record(4, 0, torch.full((4,), 0.25)):
        x = model.net[1](model.net[0](model.batch(0)))
        (x @ model.net[2].weight.T).sum().backward()
    with pytest.raises(ValueError, match=r"^net\.2 must be called inside optimizer.record"):
        optimizer.step()


def test_groups_have_options_of_their_own():
    """Damping and frequency from the group of the weight, lr and decay from each parameter's."""
    options = {"lr": 0.02, "momentum": 0.8, "damping": 0.3, "update_freq": 2}
    model, single = Dense(), Dense()
    weights = [model.net[0].weight, model.net[2].weight]
    biases = [model.net[0].bias, model.net[2].bias]
    groups = [{"params": weights}, {"params": biases, "lr": 0.0, "damping": 5.0}]
    optimizer = NGPlus(groups, model=model, **options, **FLOAT64)
    train(model, optimizer, range(1))
    train(single, NGPlus(single.parameters(), single, **options, **FLOAT64), range(1))
    for index in (0, 2):
        assert torch.equal(model.net[index].weight, single.net[index].weight)
        assert torch.equal(model.net[index].bias, Dense().net[index].bias)


def test_parameters_may_be_added():
    model = Dense()
    optimizer = NGPlus(model.net[2].parameters(), model, **COMMON, **FLOAT64, update_freq=100)
    train(model, optimizer, range(2))
    assert not optimizer.wants_samples()
    optimizer.add_param_group({"params": list(model.net[0].parameters()), "damping": 0.1})
    assert optimizer.wants_samples()
    train(model, optimizer, range(2, 4))
    assert not optimizer.wants_samples()
    assert [s.staleness for s in optimizer.spectra()] == [3, 1]


def test_what_is_preconditioned_is_said():
    model = Images()
    found = make(model).describe()
    assert found["preconditioned"] == ["net.0.weight", "net.2.weight", "net.5.weight"]
    assert found["plain"] == ["net.4.weight", "net.4.bias"]
    authors = NGPlusAuthors(Text().parameters(), model := Text())
    assert authors.describe()["preconditioned"] == []
    assert NGPlusAuthors(model.parameters(), model).describe()["preconditioned"] == [
        "readout.weight"
    ]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision(dtype):
    model = Dense().to(dtype)
    kept = {"statistics_dtype": "bfloat16", "apply_dtype": "bfloat16"}
    optimizer = NGPlus(model.parameters(), model, lr=0.1, **kept)
    for step in range(3):
        optimizer.zero_grad()
        x = model.batch(step).to(dtype)
        with optimizer.record(4, 0, torch.full((4,), 0.25)):
            model.losses(x).mean().backward()
        optimizer.step()
    states = [s for key, s in optimizer.state.items() if isinstance(key, str) and key != "shared"]
    assert {s[name].dtype for s in states for name in ("factor", "inverse")} == {torch.bfloat16}
    assert {p.dtype for p in model.parameters()} == {dtype}
    assert all(s.fallbacks == 0 for s in optimizer.spectra())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"damping": 0.0}, "damping must be > 0, got 0.0"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
        ({"update_freq": 0}, "update_freq must be an integer >= 1, got 0"),
        ({"beta2": 1.0}, r"beta2 must be in \[0, 1\), got 1.0"),
        ({"statistic": "minibatch", "beta2": 1.1}, r"beta2 must be in \[0, 1\], got 1.1"),
        ({"statistic": "all"}, "statistic must be one of samples, minibatch, got all"),
        ({"side": "both"}, "side must be one of smaller, left, right, got both"),
        ({"method": "sparse"}, "method must be one of dense, low_rank, got sparse"),
        ({"method": "low_rank", "beta2": 0.5}, "method must be dense unless statistic is samples"),
        ({"sample": "word"}, "sample must be one of sequence, token, got word"),
        ({"radius": 1.0}, "radius must be null, or > 0 with statistic minibatch, got 1.0"),
        ({"block_size": 0}, "block_size must be an integer >= 1, got 0"),
        ({"sketch_size": 2.5}, "sketch_size must be an integer >= 1, got 2.5"),
        ({"curvature_samples": 0}, "curvature_samples must be an integer >= 1, got 0"),
        ({"gamma": 0.0}, "gamma must be > 0, got 0.0"),
        ({"initial": -1.0}, "initial must be >= 0, got -1.0"),
        ({"root_dtype": "bfloat16"}, "root_dtype must be one of float32, float64, got bfloat16"),
        ({"model": 3}, "model must be the torch.nn.Module that is trained, got int"),
    ],
)
def test_bad_options_are_refused(options, message):
    model = Dense()
    with pytest.raises(ValueError, match=f"^{message}"):
        NGPlus(model.parameters(), **{"model": model, **options})


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (NGPlusAuthors, {"curvature_momentum": 0.0}, "curvature_momentum must be in"),
        (NGPlusAuthorsOnline, {"beta2": 1.0}, "beta2 must be in"),
        (NGPlusAuthorsOnline, {"initial": 0.0}, "initial must be > 0, got 0.0"),
        (NGPlusAuthorsOnline, {"statistic_freq": 0}, "statistic_freq must be an integer >= 1"),
    ],
)
def test_bad_options_of_the_authors_readings_are_refused(cls, options, message):
    model = Dense()
    given = {"model": model} if cls.needs_model else {}
    with pytest.raises(ValueError, match=f"^{message}"):
        cls(model.parameters(), **given, **options)


def test_what_is_kept_is_told_by_name():
    model = Dense()
    optimizer = make(model)
    assert list(optimizer.matrices()) == []
    train(model, optimizer, range(1))
    found = [(name, quantity, tuple(t.shape)) for name, quantity, t in optimizer.matrices()]
    assert found[:2] == [
        ("net.0.weight", "statistic", (1, 7, 7)),
        ("net.0.weight", "root", (1, 7, 7)),
    ]
    assert [name for name, quantity, _ in found if quantity == "momentum"] == [
        name for name, _ in model.named_parameters()
    ]


def test_a_failed_step_leaves_nothing_behind():
    """Samples of a pass whose step was refused do not enter the next step."""
    model, other = Dense(), Dense()
    optimizer = make(model)
    backward(model, optimizer, model.batch(7))
    model.net[0].weight.grad = model.net[0].weight.grad.to_sparse()
    with pytest.raises(ValueError, match=r"^gradient of parameter 0 must be dense, got layout"):
        optimizer.step()
    train(model, optimizer, range(1))
    train(other, make(other), range(1))
    assert_same(model, other, rtol=0, atol=0)


def test_curvature_that_single_precision_cannot_invert():
    """L of rank 4 with eigenvalues near 1e12 against a damping of 0.01: done again, and counted."""
    model = Dense().float()
    optimizer = NGPlus(model.parameters(), model, lr=1.0, damping=0.01, momentum=0.0)
    before = [p.detach().clone() for p in model.parameters()]
    weights = torch.full((4,), 0.25)
    with optimizer.record(4, 0, weights):
        (1e6 * weights * model.losses(model.batch(0).float())).sum().backward()
    optimizer.step()
    steps = [p.detach() - q for p, q in zip(model.parameters(), before, strict=True)]
    assert all(step.isfinite().all() for step in steps)
    assert optimizer.state["shared"]["fallbacks"] > 0
    slope = sum((step * p.grad).sum() for step, p in zip(steps, model.parameters(), strict=True))
    assert slope < 0


def test_a_long_side_in_blocks():
    model = nn.Linear(2, 5000, bias=False).double()
    options = {"statistic": "minibatch", "side": "left", "block_size": 1024, "momentum": 0.0}
    optimizer = make(model, lr=1.0, **options)
    before, X = model.weight.detach().clone(), torch.linspace(-1, 1, 10_000).double().view(5000, 2)
    (model.weight * X).sum().backward()
    optimizer.step()
    # The last block, 5000 = 4 x 1024 + 904, by Woodbury's formula on its 904 x 2 gradient.
    part = X[4096:]
    D = torch.linalg.solve(0.3 * torch.eye(2, dtype=X.dtype) + part.T @ part, part.T).T
    assert torch.allclose(model.weight[4096:], before[4096:] - D, rtol=1e-9, atol=1e-12)


def test_complex_parameters_are_refused():
    model = nn.Linear(2, 2, dtype=torch.complex64)
    with pytest.raises(ValueError, match=r"^dtype of parameter 0 must be real, got torch"):
        NGPlus(model.parameters(), model)
    with pytest.raises(ValueError, match=r"^dtype of parameter 0 must be real, got torch"):
        NGPlusAuthorsOnline(model.parameters())
