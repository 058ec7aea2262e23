from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from scalegan.config.models import GANsformerConfig
from scalegan.config.schema import Config
from scalegan.errors import ConfigError
from scalegan.interfaces import (
    Discriminator,
    Generator,
    MixesStyles,
    TracksStyle,
    TruncatesStyle,
)
from scalegan.losses.penalties import exact, path_lengths
from scalegan.models.gansformer import GANsformerDiscriminator, GANsformerGenerator
from scalegan.planning.cost import Task, count

SMALL = GANsformerConfig(
    num_components=3, latent_width=8, channel_base=64, channel_max=12, mapping_depth=3
)
STYLEGAN = replace(SMALL, num_components=0, synthesis="skip", mapping="plain")
VARIANTS = {
    "published": SMALL,
    "simplex": replace(SMALL, attention="simplex"),
    "heads": replace(SMALL, attention="simplex", num_heads=2, mapping_heads=2),
    "gates": replace(SMALL, component_gate=True, pixel_gate=True, norm="instance"),
    "both": replace(SMALL, integration="both", clusterings=3, discriminator="plain"),
    "carried": replace(SMALL, carries_assignments=True, integration="add"),
    "carried from queries": replace(SMALL, num_components=8, carries_assignments=True),
    "skip": replace(SMALL, synthesis="skip", discriminator="skip", mapping="plain"),
    "some sides": replace(SMALL, min_attention_side=8, max_attention_side=8, synthesis="plain"),
    "no positions": replace(SMALL, component_positions=False, z_width=12),
    "blind components": replace(SMALL, component_attention=False),
    "unstyled": replace(SMALL, is_styled=False),
    "four directions": replace(SMALL, grid_directions=4, attention="simplex"),
    "StyleGAN2": STYLEGAN,
}


def pair(
    config: GANsformerConfig = SMALL, side: int = 16, channels: int = 3, num_classes: int = 0
) -> tuple[GANsformerGenerator, GANsformerDiscriminator]:
    torch.manual_seed(0)
    shape = (channels, side, side)
    generator = GANsformerGenerator(config, shape, num_classes)
    for layer in generator.layers():  # zero at the start, where it would hide
        torch.nn.init.constant_(layer.noise_strength, 0.3)
    return generator, GANsformerDiscriminator(config, shape, num_classes)


def draw(generator: GANsformerGenerator, count: int = 4) -> tuple[Tensor, Tensor]:
    z = torch.randn(count, *generator.z_shape, generator=torch.Generator().manual_seed(1))
    return z, torch.arange(count) % max(1, generator.num_classes)


def test_reduced_precision_stays_finite() -> None:
    generator, discriminator = pair(num_classes=3)
    generator.eval()
    z, labels = draw(generator)
    exact = generator(z, labels)
    with torch.autocast("cpu", torch.bfloat16):
        levels = generator(z, labels)
        logits = discriminator(levels, labels).logits
    assert levels.dtype == logits.dtype == torch.float32
    assert (levels - exact).abs().max() < 0.1 * exact.abs().max()
    logits.sum().backward()
    assert all(p.grad.isfinite().all() for p in generator.parameters())


def conditional(config: GANsformerConfig) -> int:
    return 3 if config.is_styled else 0


@pytest.mark.parametrize("side", [8, 16, 32, 64])
@pytest.mark.parametrize("num_classes", [0, 3])
def test_shapes(side: int, num_classes: int) -> None:
    generator, discriminator = pair(replace(SMALL, channel_base=256), side, 4, num_classes)
    assert isinstance(generator, Generator) and isinstance(discriminator, Discriminator)
    for ability in (TracksStyle, TruncatesStyle, MixesStyles):
        assert isinstance(generator, ability)
    assert (generator.z_shape, generator.num_levels) == ((4, 8), 1)
    z, labels = draw(generator)
    w = generator.map(z, labels)
    assert w.shape == (4, 4, 2 * side.bit_length() - 3, 8)  # 32: 9 layers; 256: 15
    levels = generator(z, labels)
    assert levels.shape == (4, 1, 4, side, side)
    assert discriminator(levels, labels).logits.shape == (4, 1)
    maps = generator.attention_maps(w)
    assert maps.shape == (4, 3, len(generator.layers()), 1, side, side)
    assert torch.allclose(maps.sum(dim=1), torch.ones(()))


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_gets_a_gradient(variant: str) -> None:
    config = VARIANTS[variant]
    generator, discriminator = pair(config, num_classes=conditional(config))
    z, labels = draw(generator)
    discriminator(generator(z, labels), labels).logits.square().sum().backward()
    for network in (generator, discriminator):
        for name, parameter in network.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
            else:
                assert name.startswith("mapping.for_global.") and not config.is_styled


@pytest.mark.parametrize("variant", VARIANTS)
def test_second_order_terms_reach_both_networks(variant: str) -> None:
    config = VARIANTS[variant]
    generator, discriminator = pair(config, num_classes=conditional(config))
    z, labels = draw(generator)
    w = generator.map(z, labels)
    images = generator.synthesize(w)[:, -1]
    lengths = path_lengths(images, w, torch.randn_like(images))
    lengths.square().mean().backward()
    assert all(lengths > 0) and generator.constant.grad.abs().sum() > 0
    real = torch.randn(4, 1, 3, 16, 16, requires_grad=True)
    exact(discriminator(real, labels).logits, real).mean().backward()
    assert discriminator.blocks[0].first.weight.grad.abs().sum() > 0


def test_evaluation_draws_nothing_and_training_does() -> None:
    generator, _ = pair()
    z, labels = draw(generator)
    first, second = generator(z, labels), generator(z, labels)
    assert not torch.equal(first, second)
    generator.eval()
    before = torch.get_rng_state()
    whole = generator(z, labels)
    assert torch.equal(torch.get_rng_state(), before)
    one = torch.cat([generator(z[i : i + 1], labels[i : i + 1]) for i in range(4)])
    assert torch.allclose(whole, one, atol=1e-5)  # no sample sees another


def test_draws_can_be_repeated() -> None:
    generator, _ = pair()
    z, labels = draw(generator)
    of_mapping = generator.mapping.draw_dropout(4)
    of_synthesis = generator.draw_noise(4), generator.draw_dropout(4)
    made = [
        generator.synthesize(generator.map(z, labels, of_mapping), *of_synthesis) for _ in range(2)
    ]
    assert torch.equal(*made)
    other = generator.synthesize(generator.map(z, labels, of_mapping), generator.draw_noise(4))
    assert not torch.equal(made[0], other)


def test_labels_decide_where_there_are_classes() -> None:
    generator, discriminator = pair(num_classes=3)
    generator.eval()
    z, labels = draw(generator)
    assert not torch.allclose(generator(z, labels), generator(z, (labels + 1) % 3))
    levels = torch.randn(4, 1, 3, 16, 16)
    every = torch.cat([discriminator(levels, torch.full((4,), k)).logits for k in range(3)], dim=1)
    assert torch.equal(discriminator(levels, labels).logits[:, 0], every[torch.arange(4), labels])
    assert every.std(dim=1).min() > 0
    generator, _ = pair()
    generator.eval()
    assert torch.equal(generator(z, labels), generator(z, 0 * labels))


def test_mixing_joins_layers() -> None:
    generator, _ = pair()
    generator.eval()
    z, labels = draw(generator)
    w, other = generator.map(z, labels), generator.map(-z, labels)
    whole = w.shape[2]
    assert torch.equal(generator.mix(w, other, whole), w)
    assert torch.equal(generator.mix(w, other, 0), other)
    mixed = generator.mix(w, other, 3)
    assert torch.equal(mixed[:, :, :3], w[:, :, :3])
    assert torch.equal(mixed[:, :, 3:], other[:, :, 3:])
    # The image's own style is the last row; all rows are read.
    for row in range(whole):
        changed = w.clone()
        changed[:, :, row] = other[:, :, row]
        assert not torch.equal(generator.synthesize(changed), generator.synthesize(w))


def test_truncation_pulls_towards_the_tracked_mean() -> None:
    generator, _ = pair()
    generator.eval()
    z, labels = draw(generator)
    w = generator.map(z, labels)
    assert torch.equal(generator.truncate(w, labels, 0.0), w)  # nothing has been seen
    generator.track(w, labels)
    mean = w.mean(dim=(0, 1, 2))
    assert torch.allclose(generator.truncate(w, labels, 0.0), mean.expand_as(w), atol=1e-5)
    assert torch.equal(generator.truncate(w, labels, 1.0), w)
    half = generator.truncate(w, labels, 0.5)
    assert torch.allclose(half, (w + mean) / 2, atol=1e-5)
    generator.track(w + 1, labels)
    decay = SMALL.style_decay
    expected = (mean * decay + mean + 1) / (1 + decay)
    assert torch.allclose(generator.truncate(w, labels, 0.0)[0, 0, 0], expected, atol=1e-4)


def test_the_discriminator_compares_images_of_a_group() -> None:
    _, discriminator = pair(replace(SMALL, deviation_group=2))
    levels, labels = torch.randn(4, 1, 3, 16, 16), torch.zeros(4, dtype=torch.int64)
    before = discriminator(levels, labels).logits
    for image in (0, 1):  # groups are 0, 2 and 1, 3
        changed = levels.clone()
        changed[image] += 1
        after = discriminator(changed, labels).logits
        assert torch.equal(before[1 - image :: 2], after[1 - image :: 2])
        assert not torch.equal(before[image + 2], after[image + 2])
    for some in (1, 3, 5):  # groups are smaller where the batch does not divide
        assert discriminator(levels.repeat(2, 1, 1, 1, 1)[:some], labels.repeat(2)[:some])


def flops(network: nn.Module, *inputs: Any) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.requires_grad_(False)(*inputs)
    return counter.get_total_flops()


PUBLISHED = GANsformerConfig(attention="simplex")
DUPLEX = GANsformerConfig()
CLEVR = replace(DUPLEX, num_components=8, latent_width=16, is_styled=False)
AT_32 = replace(PUBLISHED, num_components=8)
BASELINE = replace(PUBLISHED, num_components=0, latent_width=512, synthesis="skip", mapping="plain")
DEAD = {  # parameters of the reference that have no effect and that we leave out
    # Keys and positions of latents in duplex layers.
    "duplex 256": 9 * 2 * (32 * 512 + 512) + 2 * 2 * (32 * 256 + 256),
    "duplex 32": 7 * 2 * (32 * 512 + 512),
    # The same, and 17 numbers per channel for styles.
    "unstyled 256": 9 * 2 * 17 * 512 + 2 * 2 * 17 * 256 + 17 * 6016,
}


@pytest.mark.parametrize(
    ("config", "side", "parameters", "gmac"),
    [
        pytest.param(
            DUPLEX, 256, 30_903_632 - DEAD["duplex 256"], 68.9, marks=pytest.mark.slow
        ),
        pytest.param(PUBLISHED, 256, 30_729_552, 68.0, marks=pytest.mark.slow),
        pytest.param(CLEVR, 256, 30_364_464 - DEAD["unstyled 256"], 67.8, marks=pytest.mark.slow),
        (BASELINE, 256, 30_510_114, 55.0),
        (DUPLEX, 32, 24_143_178 - DEAD["duplex 32"], 8.1),
        (replace(AT_32, channel_base=8192), 32, 18_289_738, 3.2),
        (replace(AT_32, channel_base=4096), 32, 12_225_098, 1.1),
    ],
)  # fmt: skip
def test_published_sizes_of_generators(
    config: GANsformerConfig, side: int, parameters: int, gmac: float
) -> None:
    """Measured on the authors' code, whose operations include what has no effect."""
    with torch.device("meta"):
        generator = GANsformerGenerator(config, (3, side, side), 0)
        inputs = torch.empty(1, *generator.z_shape), torch.zeros(1, dtype=torch.int64)
        assert sum(p.numel() for p in generator.parameters()) == parameters
        assert flops(generator, *inputs) / 2e9 == pytest.approx(gmac, rel=0.02)


@pytest.mark.parametrize(
    ("base", "side", "parameters", "gmac"),
    [
        (32768, 256, 28_864_129, 47.0),
        (32768, 32, 21_507_073, 4.1),
        (8192, 32, 18_425_601, 2.0),
        (4096, 32, 13_918_849, 0.7),
    ],
)
def test_published_sizes_of_discriminators(
    base: int, side: int, parameters: int, gmac: float
) -> None:
    with torch.device("meta"):
        network = GANsformerDiscriminator(GANsformerConfig(channel_base=base), (3, side, side), 0)
        inputs = torch.empty(1, 1, 3, side, side), torch.zeros(1, dtype=torch.int64)
        assert sum(p.numel() for p in network.parameters()) == parameters
        assert flops(network, *inputs) / 2e9 == pytest.approx(gmac, rel=0.025)


def channels_at(config: GANsformerConfig, side: int) -> int:
    return min(config.channel_base // side, config.channel_max)


def of_discriminator(config: GANsformerConfig, channels: int, side: int) -> int:
    """Multiply-accumulates of the residual network without classes; filters have 16 taps."""
    total = side**2 * channels * channels_at(config, side)
    while side > 4:
        wide, narrow, half = channels_at(config, side // 2), channels_at(config, side), side // 2
        total += side**2 * 9 * narrow * narrow  # first convolution
        total += (side + 1) ** 2 * 16 * narrow + half**2 * 9 * narrow * wide  # second
        total += half**2 * (16 * narrow + narrow * wide)  # skip
        side = half
    width = channels_at(config, 4)
    return total + 16 * 9 * (width + 1) * width + 16 * width * width + width


def of_layer(config: GANsformerConfig, inputs: int, side: int, is_up: bool) -> int:
    k, latent, width = config.num_components, config.latent_width, channels_at(config, side)
    is_simplex = config.attention == "simplex"
    total = latent * inputs + inputs * width  # style and demodulation
    total += (side // 2 if is_up else side) ** 2 * 9 * inputs * width
    total += side**2 * 16 * width if is_up else 0
    total += side**2 * (2 * width**2 + latent * width)  # queries and modulation, grid
    total += k * latent * width * (3 if is_simplex else 1)  # values; keys and positions
    return total + side**2 * k * width * (2 if is_simplex else 3)  # scores and context


def of_generator(config: GANsformerConfig, channels: int, side: int) -> int:
    """Multiply-accumulates without classes, residual, with attention on all sides."""
    k, latent, first = config.num_components, config.latent_width, channels_at(config, 4)
    depth = (config.mapping_depth + 1) // 2
    total = (1 + k) * (2 * depth + 1) * latent**2
    total += depth * (6 * k * latent**2 + 2 * k**2 * latent)  # components look at each other
    total += of_layer(config, first, 4, is_up=False)
    for s in (2**i for i in range(3, side.bit_length())):
        inputs, width = channels_at(config, s // 2), channels_at(config, s)
        total += of_layer(config, inputs, s, is_up=True) + of_layer(config, width, s, is_up=False)
        total += (s // 2) ** 2 * (inputs * width + 16 * width)  # skip
    width = channels_at(config, side)
    total += latent * width + width**2 + side**2 * 9 * width**2  # the last convolution
    return total + latent * width + side**2 * width * channels


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("variant", ["published", "simplex", "heads"])
def test_counted_operations_are_the_closed_forms(device: str, variant: str) -> None:
    config = VARIANTS[variant]
    with torch.device(device):
        generator = GANsformerGenerator(config, (2, 16, 16), 0)
        discriminator = GANsformerDiscriminator(config, (2, 16, 16), 0)
        labels = torch.zeros(1, dtype=torch.int64)
        found = flops(generator, torch.zeros(1, *generator.z_shape), labels)
        assert found == 2 * of_generator(config, 2, 16)
        found = flops(discriminator, torch.zeros(1, 1, 2, 16, 16), labels)
        assert found == 2 * of_discriminator(config, 2, 16)


def test_a_step_is_counted_as_for_any_architecture() -> None:
    config = Config()
    object.__setattr__(config, "model", SMALL)  # no config may name it yet
    counts = count(config, Task((1, 16, 16), 3, 24, 16))
    generator, discriminator = pair(channels=1, num_classes=3)
    sizes = [sum(t.numel() for t in n.state_dict().values()) for n in (generator, discriminator)]
    assert [counts.generator, counts.discriminator] == sizes
    assert counts.discriminator_forward == 2 * (of_discriminator(SMALL, 1, 16) + 2 * 12)
    assert counts.step > 3 * counts.generator_forward + 9 * counts.discriminator_forward


@pytest.mark.parametrize(
    ("changes", "shape", "message"),
    [
        ({}, (3, 16, 8), "samples of 16x8 do not fit GANsformer"),
        ({}, (3, 24, 24), "samples of 24x24 do not fit GANsformer"),
        ({}, (3, 4, 4), "samples of 4x4 do not fit GANsformer"),
        (
            {"channel_base": 15},
            (3, 16, 16),
            "`model.channel_base` 15 leaves no channels at side 16",
        ),
        (
            {"grid_directions": 3},
            (3, 16, 16),
            "`model.latent_width` 8 is not a multiple of twice `model.grid_directions` 3",
        ),
        ({"num_heads": 5}, (3, 16, 16), "`model.num_heads` 5 does not divide a map of 12 channels"),
        (
            {"mapping_heads": 3},
            (3, 16, 16),
            "`model.mapping_heads` 3 does not divide the latents' width",
        ),
        (
            {"min_attention_side": 32},
            (3, 16, 16),
            "`model.num_components` is set but no side of the maps has attention",
        ),
        (
            {"attention": "simplex", "clusterings": 2},
            (3, 16, 16),
            "`model.clusterings` and `model.carries_assignments` have no effect on simplex "
            "attention",
        ),
        (
            {"component_gate": True, "num_components": 0},
            (3, 16, 16),
            "gates and `model.mapping_heads` have no effect without attention",
        ),
        (
            {"mapping_heads": 2, "component_attention": False},
            (3, 16, 16),
            "gates and `model.mapping_heads` have no effect without attention",
        ),
        (
            {"is_styled": False, "num_components": 0},
            (3, 16, 16),
            "without `model.is_styled` nothing reads the global latent, which labels act through",
        ),
    ],
)
def test_wrong_sizes_are_named(
    changes: dict[str, Any], shape: tuple[int, int, int], message: str
) -> None:
    config = replace(SMALL, **changes)
    for network in (GANsformerGenerator, GANsformerDiscriminator):
        with pytest.raises(ConfigError) as error:
            network(config, shape, 0)
        assert str(error.value) == message


def test_what_it_cannot_do_is_said() -> None:
    with pytest.raises(ConfigError, match="no features to align with a teacher's"):
        GANsformerDiscriminator(SMALL, (3, 16, 16), 0, features=5)
    generator, _ = pair(STYLEGAN)
    with pytest.raises(ConfigError, match="the generator has no attention"):
        generator.attention_maps(generator.map(*draw(generator)))
