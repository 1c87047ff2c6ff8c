"""La-MAML's meta-gradient: by hand, and against finite differences."""

import pytest
import torch
from torch.nn import functional as F

from tasks.lookahead import chunks, cut, look_ahead, look_ahead_gradients

FAR = 1e9  # a clip that clips nothing


def scalar(value):
    return torch.tensor(value, dtype=torch.float64)


def squares(curvature):
    return lambda values: 0.5 * curvature * values[0] ** 2


def test_one_step_on_parabolas_by_hand():
    # Inner a/2 t^2, outer b/2 t^2: the step ends at t (1 - r a), the meta-loss is b/2 its square.
    theta, rate, a, b = 3.0, 0.1, 2.0, 5.0
    left = 1 - rate * a
    for second_order, slope in ((True, b * theta * left**2), (False, b * theta * left)):
        parameter = scalar(theta).requires_grad_()
        found = look_ahead_gradients(
            [parameter], [scalar(rate)], [squares(a)], squares(b), FAR, second_order
        )
        assert found.loss.item() == pytest.approx(b / 2 * (theta * left) ** 2, rel=1e-14)
        assert found.grads[0].item() == pytest.approx(slope, rel=1e-14)
        assert found.rate_grads[0].item() == pytest.approx(-a * theta * b * theta * left, rel=1e-14)


def test_two_steps_are_averaged():
    theta, rate, a, b = 3.0, 0.1, 2.0, 5.0
    parameter = scalar(theta).requires_grad_()
    loss = look_ahead(
        [parameter], [scalar(rate)], [squares(a), squares(2 * a)], squares(b), FAR, True
    )
    first = theta * (1 - rate * a)
    second = first * (1 - rate * 2 * a)
    assert loss.item() == pytest.approx(b / 4 * (first**2 + second**2), rel=1e-14)


def test_a_clamped_step_is_a_constant():
    # The inner gradient 6 counts as 1, whatever the parameter.
    parameter = scalar(3.0).requires_grad_()
    found = look_ahead_gradients(
        [parameter], [scalar(0.1)], [squares(2.0)], squares(5.0), 1.0, True
    )
    assert found.loss.item() == pytest.approx(2.5 * 2.9**2, rel=1e-14)
    # 5 * 2.9 and -5 * 2.9, cut to length 1; torch adds 1e-6 to the length.
    assert found.grads[0].item() == pytest.approx(1, rel=1e-6)
    assert found.rate_grads[0].item() == pytest.approx(-1, rel=1e-6)


def network():
    """A smooth network of two layers with one input too many for its data, and its losses."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    parameters = [draw(4, 3), draw(4), draw(2, 4), draw(2), draw(3)]  # the last is not used
    rates = [0.1 + 0.05 * draw(*p.shape) for p in parameters]
    inputs, targets = draw(6, 3), torch.tensor([0, 1, 1, 0, 1, 0])

    def loss(part):
        def of(values):
            hidden = torch.tanh(inputs[part] @ values[0].T + values[1])
            return F.cross_entropy(hidden @ values[2].T + values[3], targets[part])

        return of

    inner = [loss(part) for part in chunks(4, 2)]
    return [p.requires_grad_() for p in parameters], rates, inner, loss(slice(None))


def test_the_meta_gradient_is_that_of_finite_differences():
    parameters, rates, inner, outer = network()
    found = look_ahead_gradients(parameters, rates, inner, outer, FAR, True)

    def value():
        return look_ahead(parameters, rates, inner, outer, FAR, True).item()

    step = 1e-5
    for tensors, grads in ((parameters, found.grads), (rates, found.rate_grads)):
        for tensor, grad in zip(tensors, grads, strict=True):
            flat, expected = tensor.detach().view(-1), torch.zeros(tensor.numel())
            expected = expected.double()
            for index in range(len(flat)):
                kept = flat[index].item()
                flat[index] = kept + step
                up = value()
                flat[index] = kept - step
                down = value()
                flat[index] = kept
                expected[index] = (up - down) / (2 * step)
            # Round-off 1e-16 / 1e-5, and third derivatives of order 1 times 1e-10.
            torch.testing.assert_close(grad.view(-1), expected, rtol=1e-6, atol=1e-9)
    assert found.grads[0].abs().max() > 1e-2
    assert (found.grads[4] == 0).all() and (found.rate_grads[4] == 0).all()


def test_without_the_second_order_the_gradient_is_another():
    parameters, rates, inner, outer = network()
    full = look_ahead_gradients(parameters, rates, inner, outer, FAR, True)
    first = look_ahead_gradients(parameters, rates, inner, outer, FAR, False)
    assert torch.equal(full.loss, first.loss)
    assert (full.grads[0] - first.grads[0]).norm() > 1e-2 * full.grads[0].norm()
    # Rates of the last step meet no second derivative, those of the first do.
    assert not torch.allclose(full.rate_grads[0], first.rate_grads[0])


def test_cutting():
    tensors = [torch.tensor([3.0]), torch.tensor([[0.0, 4.0]])]
    assert all(torch.equal(a, b) for a, b in zip(cut(tensors, 6.0), tensors, strict=True))
    shorter = cut(tensors, 1.0)
    torch.testing.assert_close(shorter[0], torch.tensor([0.6]))
    torch.testing.assert_close(shorter[1], torch.tensor([[0.0, 0.8]]))


@pytest.mark.parametrize(
    ("count", "steps", "sizes"), [(10, 5, [2] * 5), (7, 3, [3, 3, 1]), (3, 5, [1, 1, 1])]
)
def test_every_sample_is_in_one_step(count, steps, sizes):
    parts = chunks(count, steps)
    assert [len(range(count)[part]) for part in parts] == sizes
    assert [i for part in parts for i in range(count)[part]] == list(range(count))
