"""Several optimizers behind the contract of one."""

import contextlib
import copy
import io
import json

import pytest
import torch
from hydra.utils import instantiate
from torch import nn

from optimizers import GGT, Routed, build, describe_groups, numerics_versions, state_bytes
from runners.schedules import Exponential, Schedule

ADAM = {"cls": torch.optim.AdamW, "ndim": [1], "lr": 0.01, "betas": (0.8, 0.9)}
RULES = [ADAM, {"cls": GGT, "names": ["2.weight"], "window": 3, "window_dtype": "bfloat16"}]


def small_model():
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))


def make(model, rules=RULES, cls=GGT, **options):
    return build(model, cls, rules, **{"window": 4, "lr": 0.1, **options})


def fill(model, step):
    inputs = torch.sin(torch.arange(15.0).view(5, 3) + step)
    loss = model(inputs).square().mean()
    model.zero_grad()
    loss.backward()
    return loss


def walk(model, optimizer, steps):
    for step in steps:
        fill(model, step)
        optimizer.step()


def equal(model, twin):
    pairs = zip(model.parameters(), twin.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_each_member_moves_its_share_as_it_does_alone():
    model, twin = small_model(), small_model()
    walk(model, make(model), range(5))
    alone = [
        GGT([twin[0].weight], lr=0.1, window=4),
        torch.optim.AdamW([p for p in twin.parameters() if p.ndim == 1], lr=0.01, betas=(0.8, 0.9)),
        GGT([twin[2].weight], window=3, window_dtype="bfloat16"),
    ]
    for step in range(5):
        fill(twin, step)
        for optimizer in alone:
            optimizer.step()
    assert equal(model, twin)


def test_groups_are_the_members_own_and_say_whose():
    model = small_model()
    optimizer = make(model)
    assert isinstance(optimizer, Routed) and isinstance(optimizer, torch.optim.Optimizer)
    described = json.loads(json.dumps(describe_groups(optimizer, model)))
    assert [group["optimizer"] for group in described] == ["GGT", "AdamW", "GGT"]
    assert described[1]["names"] == ["0.bias", "1.weight", "1.bias", "2.bias"]
    assert [group["options"]["lr"] for group in described] == [0.1, 0.01, 1e-3]
    optimizer.param_groups[1]["lr"] = 0.5
    assert optimizer.members[1].param_groups[0]["lr"] == 0.5


def test_rules_without_a_class_stay_with_the_first():
    model = small_model()
    optimizer = make(model, [{"names": ["0.bias"], "lr": 0.3}, ADAM])
    described = describe_groups(optimizer, model)
    assert [group["optimizer"] for group in described] == ["GGT", "GGT", "AdamW"]
    assert described[1]["names"] == ["0.bias"] and described[1]["options"]["lr"] == 0.3


def test_a_schedule_drives_every_member_in_proportion():
    model = small_model()
    optimizer = make(model)
    half = Exponential(rate=0.5, period=1)
    schedule = Schedule({key: {"by": "step", "shape": half} for key in ("lr", "damping")})
    schedule.attach(optimizer, 10, 10)
    schedule.set(2)
    assert [group["lr"] for group in optimizer.param_groups] == [0.025, 0.0025, 0.00025]
    # Only the GGTs have a damping.
    assert [group.get("damping") for group in optimizer.param_groups] == [2.5e-5, None, 2.5e-5]
    resumed = Schedule({key: {"by": "step", "shape": half} for key in ("lr", "damping")})
    resumed.attach(optimizer, 10, 10)
    resumed.load_state_dict(json.loads(json.dumps(schedule.state_dict())))
    resumed.set(0)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.01, 1e-3]
    with pytest.raises(ValueError, match=r"rules\.dampin must name a number"):
        Schedule({"dampin": {"by": "step", "shape": half}}).attach(optimizer, 10, 10)


def test_torch_schedulers_drive_every_member():
    model = small_model()
    optimizer = make(model)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    walk(model, optimizer, [0])
    scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.005, 0.0005]


def test_a_closure_is_called_once_and_hooks_see_the_step():
    model = small_model()
    optimizer = make(model)
    calls = []
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))

    def closure():
        calls.append(torch.is_grad_enabled())
        return fill(model, 0)

    expected = fill(small_model(), 0).item()
    assert optimizer.step(closure).item() == expected
    assert calls == ["before", True, "after"]


def test_zero_grad_reaches_all():
    model = small_model()
    optimizer = make(model)
    fill(model, 0)
    optimizer.zero_grad()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_checkpoint_goes_on_bit_identically_with_exact_dtypes():
    model, twin = small_model(), small_model()
    optimizer, restored = make(model), make(twin, lr=0.7)
    walk(model, optimizer, range(4))
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    twin.load_state_dict(saved["model"])
    restored.load_state_dict(saved["optimizer"])
    assert state_bytes(restored) == state_bytes(optimizer) > 0
    rows = [restored.state[f"{i}.window"]["rows"].dtype for i in (0, 2)]
    assert rows == [torch.float32, torch.bfloat16]
    walk(model, optimizer, range(4, 8))
    walk(twin, restored, range(4, 8))
    assert equal(model, twin)


def test_a_state_of_other_groups_is_refused():
    model = small_model()
    state = make(model, [ADAM]).state_dict()
    with pytest.raises(ValueError, match="the saved state's parameter groups must be 3, got 2"):
        make(small_model()).load_state_dict(state)


def test_hooks_may_change_a_saved_state():
    model = small_model()
    optimizer = make(model)
    optimizer.register_state_dict_post_hook(lambda _, state: {**state, "extra": 1})
    saved = optimizer.state_dict()
    assert saved["extra"] == 1
    optimizer.register_load_state_dict_pre_hook(
        lambda _, state: {**state, "param_groups": state["param_groups"][:1]}
    )
    with pytest.raises(ValueError, match="must be 3, got 1"):
        optimizer.load_state_dict(saved)


def test_a_copy_goes_on_by_itself():
    model = small_model()
    optimizer = make(model)
    walk(model, optimizer, range(2))
    twin, other = copy.deepcopy((model, optimizer))
    walk(model, optimizer, [2])
    assert not equal(model, twin)
    walk(twin, other, [2])
    assert equal(model, twin)


def test_spectra_of_the_same_name_are_told_apart():
    model = small_model()
    optimizer = make(model)
    walk(model, optimizer, range(2))
    assert [spectrum.name for spectrum in optimizer.spectra()] == ["0.window", "2.window"]
    optimizer = make(model, [ADAM])
    walk(model, optimizer, range(2))
    assert [spectrum.name for spectrum in optimizer.spectra()] == ["window"]


def test_added_groups_go_to_the_first_member():
    model = small_model()
    optimizer = build(model, torch.optim.SGD, [ADAM], lr=0.1)
    extra = torch.ones(2, requires_grad=True)
    optimizer.add_param_group({"params": [extra], "lr": 0.2})
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.2, 0.01]
    extra.grad = torch.ones(2)
    optimizer.step()
    assert extra.tolist() == pytest.approx([0.8, 0.8])


class Watcher(torch.optim.SGD):
    """Wants samples in every second step, and notes what it is given."""

    def __init__(self, params, **options):
        super().__init__(params, **options)
        self.log, self.count = [], 0

    def step(self, closure=None):
        self.count += 1
        return super().step(closure)

    def wants_samples(self):
        return self.count % 2 == 0

    def record(self, num_samples, batch_dim, weights):
        self.log.append((num_samples, batch_dim, weights.tolist()))
        return contextlib.nullcontext()


def test_samples_reach_the_members_that_want_them():
    model = small_model()
    optimizer = build(model, Watcher, [ADAM], lr=0.1)
    for _ in range(3):
        if optimizer.wants_samples():
            with optimizer.record(5, 0, torch.full((2,), 0.5)):
                fill(model, 0)
        optimizer.step()
    assert optimizer.members[0].log == [(5, 0, [0.5, 0.5])] * 2
    assert not hasattr(make(model), "wants_samples")


def test_optional_rules_may_take_nothing_and_a_member_may_be_left_alone():
    model = nn.Linear(3, 2, bias=False)
    with pytest.raises(ValueError, match="must match a parameter"):
        make(model, [ADAM])
    assert type(make(model, [{**ADAM, "optional": True}])) is GGT
    everything = make(model, [{**ADAM, "ndim": [2]}])
    assert type(everything) is torch.optim.AdamW
    assert everything.param_groups[0]["lr"] == 0.01


@pytest.mark.parametrize(
    ("rule", "error", "message"),
    [
        ({**ADAM, "lr": -1.0}, ValueError, "^lr must be >= 0, got -1.0$"),
        ({**ADAM, "window": 3}, TypeError, "unexpected keyword argument 'window'"),
    ],
)
def test_bad_options_of_a_member(rule, error, message):
    with pytest.raises(error, match=message):
        make(small_model(), [rule])


def test_what_cannot_be_routed():
    class Searching(torch.optim.SGD):
        needs_closure = True

    model = small_model()
    with pytest.raises(ValueError, match="one that needs no closure, got Searching"):
        build(model, Searching, [ADAM], lr=0.1)
    x = torch.ones(2, requires_grad=True)
    with pytest.raises(ValueError, match="a parameter must be in one optimizer only, got one in 2"):
        Routed([torch.optim.SGD([x]), torch.optim.SGD([x])])
    with pytest.raises(ValueError, match="members must be two optimizers or more, got 1"):
        Routed([torch.optim.SGD([x])])


def test_versions_of_all_members_are_known_from_the_configuration():
    config = {
        "_target_": "optimizers.build",
        "_partial_": True,
        "cls": {"_target_": "hydra.utils.get_class", "path": "torch.optim.SGD"},
        "groups": [
            {"ndim": [2], "lr": 0.2},
            {"ndim": 1, "cls": {"_target_": "hydra.utils.get_class", "path": "optimizers.GGT"}},
        ],
        "lr": 0.1,
    }
    made = instantiate(config)
    assert numerics_versions(**made.keywords) == {"optimizer": 0, "optimizer.groups.1": 1}
    model = small_model()
    assert [type(m) for m in made(model).members] == [torch.optim.SGD, GGT]
