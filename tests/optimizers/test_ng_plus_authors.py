"""The readings of NG+ in the authors' code: against its transcription, memory, options."""

import pytest
import torch

from optimizers import NGPlusAuthors, NGPlusAuthorsOnline, state_bytes
from tests.optimizers import reference_ng_plus as reference
from tests.optimizers.ng_plus_models import Dense, Images, Tensors, train
from tests.optimizers.ng_plus_runs import NUM_STEPS, assert_same


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
