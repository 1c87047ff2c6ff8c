"""ResNet-50 and its start, which are those of torchvision."""

import pytest
import torch

from tasks.models.resnet_imagenet import ResNetImageNet
from tasks.models.torchvision_ops import import_torchvision
from tests.tasks.small_imagenet import make


def test_at_scale_paper_the_model_is_torchvisions():
    task = make(scale="paper")
    model = task.build_model()
    assert sum(p.numel() for p in model.parameters()) == 25_557_032
    torch.manual_seed(task.seed)
    theirs = import_torchvision().models.resnet50(zero_init_residual=True)
    ours, expected = model.state_dict(), theirs.state_dict()
    assert list(ours) == list(expected)
    assert all(torch.equal(ours[name], expected[name]) for name in expected)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        for mode in (True, False):
            assert torch.equal(model.train(mode)(images), theirs.train(mode)(images))


def test_a_block_starts_as_its_shortcut():
    torch.manual_seed(0)
    model = ResNetImageNet(10, width=8, num_blocks=(2, 1, 1, 1))
    x = torch.randn(2, 32, 5, 5).relu()
    assert torch.equal(model.layer1[1](x), x)
    weight = model.layer4[0].conv2.weight
    # The variance of 36,864 normal numbers is off by 0.7 % (one sigma).
    assert weight.var().item() == pytest.approx(2 / (9 * 64), rel=0.03)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": 0}, "num_classes must be >= 1, got 0"),
        ({"width": 0}, "width must be >= 1, got 0"),
        ({"num_blocks": (3, 4, 6)}, r"num_blocks must be four integers >= 1, got \[3, 4, 6\]"),
        ({"num_blocks": (3, 4, 0, 3)}, r"num_blocks must be four integers >= 1, got \[3, 4, 0, 3"),
    ],
)
def test_sizes_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        ResNetImageNet(**{"num_classes": 10, **changes})
