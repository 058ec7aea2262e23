"""Both networks in every combination of options, against their formulas written plainly."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from scalegan.errors import ConfigError
from scalegan.models.biggan import BigGANDiscriminator, BigGANGenerator

from .test_biggan import NUM_CLASSES, SMALL


@torch.no_grad()
@pytest.mark.parametrize("is_deep", [False, True])
@pytest.mark.parametrize("shared", [0, 5])
@pytest.mark.parametrize("is_hierarchical", [False, True])
@pytest.mark.parametrize("num_classes", [0, NUM_CLASSES])
def test_noise_and_class_reach_the_layers_that_the_paper_says(
    is_deep: bool, shared: int, is_hierarchical: bool, num_classes: int
) -> None:
    config = replace(
        SMALL, is_deep=is_deep, shared_width=shared, is_hierarchical=is_hierarchical, z_width=24
    )
    if (is_deep and not is_hierarchical) or (num_classes and is_hierarchical and not shared):
        with pytest.raises(ConfigError):
            BigGANGenerator(config, (3, 32, 32), num_classes)
        return
    network = BigGANGenerator(config, (3, 32, 32), num_classes).eval()
    seen: list[Tensor] = []
    network.stem.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    for block in network.blocks:
        block.register_forward_pre_hook(lambda _, given: seen.append(given[1]))
    z, labels = torch.randn(2, 24), torch.tensor([1, 0])
    network(z, labels)
    classes = torch.zeros(2, 0)
    if num_classes and shared:
        classes = network.shared.weight[labels]
    elif num_classes:
        classes = torch.eye(num_classes)[labels]
    if is_deep:  # class and noise, whole, to the first layer and to every block
        expected = [torch.cat([classes, z], dim=1)] * (1 + len(network.blocks))
    elif is_hierarchical:  # the first part to the first layer, one more to each block
        first, *parts = z.split(24 // (1 + len(network.blocks)), dim=1)
        expected = [first, *(torch.cat([classes, part], dim=1) for part in parts)]
    else:
        expected = [z] + [classes] * len(network.blocks)
    for found, wanted in zip(seen, expected, strict=True):
        assert torch.equal(found, wanted)


@torch.no_grad()
@pytest.mark.parametrize("is_wide", [False, True])
@pytest.mark.parametrize("num_classes", [0, NUM_CLASSES])
def test_every_kind_of_discriminator_is_the_formula(is_wide: bool, num_classes: int) -> None:
    config = replace(SMALL, is_wide=is_wide)
    network = BigGANDiscriminator(config, (3, 32, 32), num_classes).eval()
    x, labels = torch.randn(2, 1, 3, 32, 32), torch.tensor([1, 0])
    found, x = network(x, labels).logits[:, 0], x[:, 0]
    pool = nn.AvgPool2d(2)
    for i, block in enumerate(network.blocks):
        inside = block.conv1(x if i == 0 else x.relu())
        assert inside.shape[1] == (16 if is_wide or i else 3)
        inside = block.conv2(inside.relu())
        has_shortcut = i < 2  # the first two halve the side; the widths of all others are equal
        short = block.shortcut(x) if has_shortcut else x
        x = pool(inside) + pool(short) if i < 2 else inside + short
    features = x.relu().sum(dim=(2, 3))
    expected = network.head(features)[:, 0]
    if num_classes:
        expected = expected + (network.classes(labels) * features).sum(dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
