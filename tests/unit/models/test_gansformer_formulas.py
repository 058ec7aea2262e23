"""Both networks in every combination of options, against their formulas written plainly."""

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from scalegan.config.models import GANsformerConfig
from scalegan.layers.resample import convolve, downsample, upsample
from scalegan.models.gansformer import GANsformerGenerator

from .test_gansformer import SMALL, draw, pair


def leaky(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x) * 2**0.5


def styled(conv: Any, x: Tensor, w: Tensor, resample: str = "") -> Tensor:
    """A convolution with a kernel of its own for every sample, from StyleGAN2's formulas."""
    if conv.affine is None:
        weight = conv.weight / conv.weight[0].numel() ** 0.5
        out = convolve(x, weight, resample)
        return out if conv.bias is None else out + conv.bias[:, None, None]
    parts = []
    for sample, row in zip(x, w, strict=True):
        style = conv.affine.weight @ row / row.numel() ** 0.5 + conv.affine.bias
        kernel = conv.weight * style[:, None, None] / conv.weight[0].numel() ** 0.5
        if conv.bias is None:
            kernel = kernel / kernel.square().sum(dim=(1, 2, 3), keepdim=True).sqrt()
        part = convolve(sample[None], kernel, resample)
        parts.append(part if conv.bias is None else part + conv.bias[:, None, None])
    return torch.cat(parts)


def formula(network: GANsformerGenerator, w: Tensor, config: GANsformerConfig) -> Tensor:
    """The synthesis layer by layer; the attention of a layer is its own."""
    x, image, carried, index = network.constant.expand(len(w), -1, -1, -1), None, None, 0
    for i, block in enumerate(network.blocks):
        start = x
        for j, layer in enumerate(block.layers):
            x = styled(layer.conv, x, w[:, -1, index], "up" if i and not j else "")
            if layer.attention is not None:
                tokens, _, carried = layer.attention(
                    x.flatten(2).mT, w[:, :-1, index], layer.grid, network.positions, None, carried
                )
                x = tokens.mT.reshape(x.shape)
            noise = layer.noise_strength * layer.noise
            x, index = leaky(x + noise + layer.bias[:, None, None]), index + 1
        if i and config.synthesis == "residual":
            skip = block.skip.weight / block.skip.weight.shape[1] ** 0.5
            x = (x + upsample(torch.nn.functional.conv2d(start, skip))) / 2**0.5
        is_last = i == len(network.blocks) - 1
        if is_last:
            x, index = styled(block.last, x, w[:, -1, index]), index + 1
        if is_last or config.synthesis == "skip":
            detail = styled(block.to_image, x, w[:, -1, index])
            image = detail if image is None else upsample(image) + detail
    assert index + 1 == w.shape[2] == network.num_styles
    return image


STYLES = {"styled": {}, "unstyled": {"is_styled": False}, "no components": {"num_components": 0}}
ATTENTIONS = {
    "duplex": {},
    "simplex": {"attention": "simplex"},
    "gated, carried": {"carries_assignments": True, "component_gate": True, "pixel_gate": True},
    "one side": {"min_attention_side": 8, "max_attention_side": 8},
}


@torch.no_grad()
@pytest.mark.parametrize("synthesis", ["residual", "skip", "plain"])
@pytest.mark.parametrize(
    ("style", "attention"),
    [*itertools.product(("styled", "unstyled"), ATTENTIONS), ("no components", "duplex")],
)
def test_every_kind_of_synthesis_is_the_formula(synthesis: Any, style: str, attention: str) -> None:
    config = replace(SMALL, synthesis=synthesis, **STYLES[style] | ATTENTIONS[attention])
    generator, _ = pair(config)
    generator.eval()
    z, labels = draw(generator)
    w = generator.map(z, labels)
    other = generator.map(-z, labels)
    w = torch.where(torch.rand(w.shape[2])[:, None] < 0.5, w, other)  # styles differ by layer
    expected = formula(generator, w, config)
    torch.testing.assert_close(generator.synthesize(w)[:, 0], expected, rtol=1e-3, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["residual", "skip", "plain"])
@pytest.mark.parametrize("num_classes", [0, 3])
@pytest.mark.parametrize("group", [1, 2])
def test_every_kind_of_discriminator_is_the_formula(
    kind: Any, num_classes: int, group: int
) -> None:
    _, d = pair(replace(SMALL, discriminator=kind, deviation_group=group), num_classes=num_classes)
    image, labels = torch.randn(4, 3, 16, 16), torch.arange(4) % max(1, num_classes)

    def conv(layer: Any, x: Tensor, resample: str = "") -> Tensor:
        x = convolve(x, layer.weight / layer.weight[0].numel() ** 0.5, resample)
        return x if layer.bias is None else leaky(x + layer.bias[:, None, None])

    def linear(layer: Any, x: Tensor) -> Tensor:
        return x @ layer.weight.T / x.shape[1] ** 0.5 + layer.bias

    found = d(image[:, None], labels).logits
    x = conv(d.from_image[0], image)
    for i, block in enumerate(d.blocks):
        start, x = x, conv(block.second, conv(block.first, x), "down")
        if kind == "residual":
            x = (x + conv(block.skip, start, "down")) / 2**0.5
        if kind == "skip":
            image = downsample(image)
            x = x + conv(d.from_image[i + 1], image)
    deviation = torch.empty(4, 1, 4, 4)
    for i in range(4):  # image i is in group i modulo the number of groups
        others = x[i % (4 // group) :: 4 // group]
        deviation[i] = (others.var(dim=0, correction=0) + 1e-8).sqrt().mean()
    x = conv(d.conv, torch.cat([x, deviation], dim=1)).flatten(1)
    logits = linear(d.out, leaky(linear(d.hidden, x)))
    expected = logits[torch.arange(4), labels] if num_classes else logits[:, 0]
    torch.testing.assert_close(found[:, 0], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("mapping", ["residual", "plain"])
@pytest.mark.parametrize("attends", [False, True])
@pytest.mark.parametrize("z_width", [0, 12])
@pytest.mark.parametrize("num_classes", [0, 3])
@pytest.mark.parametrize("depth", [1, 4, 5])
def test_every_kind_of_mapping_is_the_formula(
    mapping: Any, attends: bool, z_width: int, num_classes: int, depth: int
) -> None:
    config = replace(
        SMALL,
        mapping=mapping,
        component_attention=attends,
        z_width=z_width,
        mapping_depth=depth,
        attention_dropout=0.0,
    )
    generator, _ = pair(config, num_classes=num_classes)
    z, labels = draw(generator)

    def unit(x: Tensor, dims: tuple[int, ...]) -> Tensor:
        return x / (x.square().mean(dim=dims, keepdim=True) + 1e-8).sqrt()

    def linear(layer: Any, x: Tensor) -> Tensor:
        rate = 0.01  # of the learning rate
        return x @ (rate * layer.weight).T / x.shape[-1] ** 0.5 + rate * layer.bias

    def network(part: Any, x: Tensor) -> Tensor:
        width = config.latent_width
        x = leaky(linear(part.stem, x)) if mapping == "residual" and x.shape[-1] != width else x
        blocks = (depth + 1) // 2 if mapping == "residual" else depth
        assert len(part.first) == blocks
        for i in range(blocks):
            skip = x
            if part.attention:
                x = part.attention[i](x, x, generator.positions, generator.positions)[0]
            x = leaky(linear(part.first[i], x))
            if mapping == "residual":
                x = linear(part.second[i], x) + skip
                x = torch.where(x > 0, x, 0.2 * x)
        return leaky(linear(part.out, x))

    whole = unit(z[:, -1:], (2,))
    if num_classes:
        label = generator.mapping.labels
        rows = label.weight.T[labels] / num_classes**0.5 + label.bias
        whole = torch.cat([whole, unit(rows[:, None], (2,))], dim=2)
    local = network(generator.mapping.for_components, unit(z[:, :-1], (1, 2)))
    expected = torch.cat([local, network(generator.mapping.for_global, whole)], dim=1)
    found = generator.map(z, labels)
    torch.testing.assert_close(found, expected[:, :, None].expand_as(found), rtol=1e-4, atol=1e-5)


def test_without_styles_the_mean_still_reads_the_global_latent() -> None:
    generator, _ = pair(replace(SMALL, is_styled=False))
    z, labels = draw(generator)
    w = generator.map(z, labels)
    assert w[:, -1].std() > 0
    generator.track(w, labels)
    step = 1 - SMALL.style_decay
    torch.testing.assert_close(generator.mapping.mean, step * w.detach().mean(dim=(0, 1, 2)))
