import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from scalegan.config.models import BigGANConfig
from scalegan.errors import ConfigError
from scalegan.interfaces import (
    Calibrates,
    Discriminator,
    Generator,
    GuidesStyle,
    TracksStyle,
    TruncatesNoise,
    TruncatesStyle,
)
from scalegan.layers.spectral import SpectralNorm
from scalegan.models.biggan import (
    BigGANDiscriminator,
    BigGANGenerator,
    Layer,
    discriminator_layers,
    generator_layers,
)

NUM_CLASSES = 3
SMALL = BigGANConfig(channels=4, z_width=24, shared_width=5)
DEEP = replace(SMALL, is_deep=True)
FLAT = replace(SMALL, shared_width=0, is_hierarchical=False)
ATTENDED = BigGANConfig(generator_attention=(64,), discriminator_attention=(64,))
CIFAR = BigGANConfig(channels=96, z_width=80, generator_attention=(16,))

# config, side, classes: parameters of both networks, and billions of multiplications with
# additions, counted on the authors' code.
PUBLISHED = [
    (replace(ATTENDED, channels=96), 128, 1000, (70_433_988, 87_982_370), (21.3, 11.1)),
    (ATTENDED, 128, 1000, (31_978_628, 39_448_258), (9.6, 5.0)),
    (
        replace(ATTENDED, z_width=128, shared_width=0, is_hierarchical=False),
        128,
        1000,
        (42_017_412, 39_448_258),
        (9.6, 5.0),
    ),
    (
        replace(ATTENDED, channels=96, z_width=140),
        256,
        1000,
        (82_235_844, 99_225_890),
        (73.5, 37.6),
    ),
    (
        BigGANConfig(generator_attention=(32,), discriminator_attention=(32,)),
        64,
        1000,
        (31_969_540, 20_571_842),
        (7.4, 1.2),
    ),
    (
        BigGANConfig(z_width=128, shared_width=0, is_hierarchical=False),
        32,
        10,
        (4_304_387, 4_207_361),
        (1.69, 1.09),
    ),
    (CIFAR, 32, 10, (9_416_196, 9_456_769), (3.86, 2.5)),
    (replace(CIFAR, discriminator_attention=(16,)), 32, 10, (9_416_196, 9_641_090), (3.86, 2.5)),
    (
        replace(CIFAR, discriminator_attention=(16, 8)),
        32,
        10,
        (9_416_196, 10_194_053),
        (3.86, 2.5),
    ),
    (
        replace(ATTENDED, is_deep=True, channels=128, z_width=128),
        128,
        1000,
        (50_244_484, 34_590_210),
        (9.1, 9.3),
    ),
    (
        replace(ATTENDED, is_deep=True, channels=128, z_width=128),
        256,
        1000,
        (55_736_708, 38_247_426),
        (29.6, 30.4),
    ),
]


def networks(
    config: BigGANConfig, side: int = 32, num_classes: int = NUM_CLASSES, channels: int = 3
) -> tuple[BigGANGenerator, BigGANDiscriminator]:
    """Both networks, their attention switched on where there is any."""
    torch.manual_seed(0)
    shape = (channels, side, side)
    pair = (
        BigGANGenerator(config, shape, num_classes),
        BigGANDiscriminator(config, shape, num_classes),
    )
    for network in pair:
        for name, parameter in network.named_parameters():
            if name.endswith("gamma"):
                nn.init.constant_(parameter, 0.7)
    return pair


def noise(generator: BigGANGenerator, images: int = 3) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(images, *generator.z_shape), torch.arange(images) % NUM_CLASSES


def products(layers: list[Layer], side: int, config: BigGANConfig, is_published: bool) -> int:
    """Multiplications with additions of the blocks; `side` is that of the first one's input."""
    total, is_generator = 0, side == 4
    for number, (inputs, outputs, resizes, attends) in enumerate(layers):
        after = side * 2 if resizes and is_generator else side // 2 if resizes else side
        large, small = max(side, after) ** 2, min(side, after) ** 2
        if config.is_deep:
            hidden = inputs // 4 if is_generator else outputs // 4
            first, last = (side**2, after**2)
            middle = large
            total += hidden * (inputs * first + outputs * last + 18 * hidden * middle)
            total += 0 if is_generator else inputs * (outputs - inputs) * after**2
        else:
            total += 9 * outputs * (inputs + outputs) * large
            has_shortcut = resizes or inputs != outputs
            # As published, all but a discriminator's first shortcut convolve the larger side.
            is_large = is_published and (is_generator or number > 0)
            total += has_shortcut * inputs * outputs * (large if is_large else small)
        side = after
        if attends:
            tokens = side**2
            total += tokens * outputs * (outputs // 4 + outputs // 2 + outputs // 2)
            total += tokens * (tokens // 4) * (outputs // 8 + outputs // 2)
    return total


def closed_forms(
    config: BigGANConfig, side: int, num_classes: int, is_published: bool
) -> tuple[int, int]:
    shape = (3, side, side)
    made, judged = generator_layers(config, shape), discriminator_layers(config, shape)
    classes = config.shared_width or num_classes
    part = config.z_width
    if config.is_hierarchical and not config.is_deep:
        part //= len(made) + 1
    condition = classes + part * config.is_hierarchical
    generator = (condition if config.is_deep else part) * 16 * made[0].inputs
    for inputs, outputs, _, _ in made:
        normed = inputs + 3 * (inputs // 4) if config.is_deep else inputs + outputs
        generator += 2 * condition * normed
    generator += products(made, 4, config, is_published) + 27 * made[-1].outputs * side**2
    discriminator = products(judged, side, config, is_published) + judged[-1].outputs
    discriminator += 27 * judged[0].inputs * side**2 * config.is_deep
    return generator, discriminator


def cost(network: nn.Module, *inputs: Tensor) -> int:
    """Multiplications with additions of one forward."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(*inputs)
    return counter.get_total_flops() // 2


def normalized(network: nn.Module) -> int:
    """Numbers in weights that are divided by a singular value."""
    return sum(
        module.weight.numel()
        for module in network.modules()
        if isinstance(getattr(module, "normal", None), SpectralNorm)
    )


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(("config", "side", "classes", "sizes", "costs"), PUBLISHED)
def test_published_sizes_and_costs(
    config: BigGANConfig,
    side: int,
    classes: int,
    sizes: tuple[int, int],
    costs: tuple[float, float],
) -> None:
    shape = (3, side, side)
    with torch.device("meta"):
        generator = BigGANGenerator(config, shape, classes)
        discriminator = BigGANDiscriminator(config, shape, classes)
    assert (parameters(generator), parameters(discriminator)) == sizes
    # The published costs have three products with every weight for its spectral norm.
    forms = closed_forms(config, side, classes, True)
    published = [
        (form + 3 * normalized(network)) / 1e9
        for form, network in zip(forms, (generator, discriminator), strict=True)
    ]
    assert published == pytest.approx(costs, abs=0.0501)
    with torch.device("meta"):
        z, labels = torch.empty(1, config.z_width), torch.zeros(1, dtype=torch.int64)
        counted = cost(generator, z, labels), cost(discriminator, torch.empty(1, 1, *shape), labels)
    # Products of a matrix and a vector, which spectral norm makes once per batch, do not count.
    assert counted == closed_forms(config, side, classes, False)


@pytest.mark.parametrize("side", [8, 16, 32, 64, 128, 256])
@pytest.mark.parametrize("is_deep", [False, True])
def test_shapes(side: int, is_deep: bool) -> None:
    config = replace(SMALL, is_deep=is_deep, z_width=420)
    with torch.device("meta"):
        generator, discriminator = networks(config, side, channels=4)
        z, labels = torch.empty(3, 420), torch.zeros(3, dtype=torch.int64)
        levels = generator(z, labels)
        output = discriminator(levels, labels)
    assert levels.shape == (3, 1, 4, side, side)
    assert output.logits.shape == (3, 1) and output.features is None


def test_interfaces_and_abilities() -> None:
    generator, discriminator = networks(SMALL)
    assert isinstance(generator, Generator) and isinstance(discriminator, Discriminator)
    assert isinstance(generator, TruncatesNoise) and isinstance(generator, Calibrates)
    for ability in (TracksStyle, TruncatesStyle, GuidesStyle):
        assert not isinstance(generator, ability)


@pytest.mark.parametrize(
    "config",
    [SMALL, DEEP, FLAT, replace(SMALL, generator_attention=(16,), discriminator_attention=(16, 8))],
)
@pytest.mark.parametrize("num_classes", [0, NUM_CLASSES])
def test_every_parameter_gets_a_gradient(config: BigGANConfig, num_classes: int) -> None:
    generator, discriminator = networks(config, 32, num_classes)
    z, labels = noise(generator)
    discriminator(generator(z, labels), labels).logits.square().sum().backward()
    for network in (generator, discriminator):
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None and parameter.grad.any(), name


@pytest.mark.parametrize("config", [SMALL, DEEP, FLAT])
def test_in_evaluation_nothing_is_drawn_and_no_buffer_moves(config: BigGANConfig) -> None:
    generator, discriminator = (network.eval() for network in networks(config))
    z, labels = noise(generator)
    before = copy.deepcopy([generator.state_dict(), discriminator.state_dict()])
    dice = torch.get_rng_state()
    levels = generator(z, labels)
    assert torch.equal(levels, generator(z, labels))
    one = generator(z[:1], labels[:1])  # no layer looks across the batch
    torch.testing.assert_close(levels[:1], one, rtol=1e-4, atol=1e-5)
    discriminator(levels, labels)
    assert torch.equal(dice, torch.get_rng_state())
    for network, state in zip((generator, discriminator), before, strict=True):
        for name, value in network.state_dict().items():
            assert torch.equal(value, state[name]), name


def test_in_training_statistics_and_vectors_move_even_without_gradients() -> None:
    generator, discriminator = networks(DEEP)
    z, labels = noise(generator)
    before = copy.deepcopy([generator.state_dict(), discriminator.state_dict()])
    with torch.no_grad():
        discriminator(generator(z, labels), labels)
    for network, state in zip((generator, discriminator), before, strict=True):
        parameter_names = {name for name, _ in network.named_parameters()}
        for name, value in network.state_dict().items():
            if not name.endswith(".sigma"):  # 1 of orthogonal weights, as at the start
                moved = not torch.equal(value, state[name])
                assert moved == (name not in parameter_names), name


@pytest.mark.parametrize("config", [SMALL, DEEP, FLAT])
def test_styles_mix_classes(config: BigGANConfig) -> None:
    generator, _ = networks(config)
    generator.eval()
    z, labels = noise(generator)
    first, last = (generator.map(z, torch.full_like(labels, label)) for label in (0, 1))
    ends = generator.synthesize(first), generator.synthesize(last)
    assert torch.equal(ends[0], generator(z, torch.zeros_like(labels)))
    between = generator.synthesize((first + last) / 2)
    assert not torch.allclose(ends[0], ends[1], atol=1e-4)
    for end in ends:
        assert not torch.allclose(between, end, atol=1e-4)


def test_each_part_of_the_noise_goes_to_its_block() -> None:
    generator, _ = networks(SMALL)
    z, labels = noise(generator)
    first, conditions = generator.split(generator.map(z, labels))
    chunks = z.chunk(4, dim=1)
    assert torch.equal(first, chunks[0])
    for condition, chunk in zip(conditions, chunks[1:], strict=True):
        # The class comes first.
        assert torch.equal(condition, torch.cat([generator.shared(labels), chunk], dim=1))


def test_a_class_moves_the_verdict_and_none_is_looked_at_without() -> None:
    for num_classes in (0, NUM_CLASSES):
        _, discriminator = networks(SMALL, num_classes=num_classes)
        samples, labels = torch.randn(3, 1, 3, 32, 32), torch.zeros(3, dtype=torch.int64)
        discriminator.eval()
        a, b = discriminator(samples, labels).logits, discriminator(samples, labels + 1).logits
        assert torch.equal(a, b) == (num_classes == 0)


def test_start_values() -> None:
    generator, discriminator = networks(replace(SMALL, generator_attention=(16,)))
    weights = [*generator.named_parameters(), *discriminator.named_parameters()]
    for name, weight in weights:
        if weight.ndim < 2:
            continue
        matrix = weight.detach().flatten(1)
        gram = matrix @ matrix.mT if len(matrix) <= matrix.shape[1] else matrix.mT @ matrix
        torch.testing.assert_close(gram, torch.eye(len(gram)), rtol=0, atol=1e-5, msg=name)
    fresh = BigGANGenerator(replace(SMALL, generator_attention=(16,)), (3, 32, 32), NUM_CLASSES)
    assert fresh.blocks[1].attention.gamma.item() == 0
    for module in generator.modules():
        if isinstance(module, SpectralNorm):
            assert module.sigma.item() == 1


def test_normal_start_values() -> None:
    for network in networks(replace(SMALL, start="normal")):
        weights = [m.weight for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        deviation = torch.cat([weight.flatten() for weight in weights]).std()
        assert deviation.item() == pytest.approx(0.02, rel=0.03)


def test_latents_are_not_squashed() -> None:
    for has_tanh in (True, False):
        generator, _ = networks(replace(SMALL, has_tanh=has_tanh))
        nn.init.constant_(generator.head.bias, 9.0)
        assert (generator(*noise(generator)).max() > 1) == (not has_tanh)


def test_reduced_precision_keeps_statistics_and_logits_exact() -> None:
    generator, discriminator = networks(replace(SMALL, generator_attention=(16,)))
    z, labels = noise(generator, 8)
    exact = discriminator(generator(z, labels), labels).logits
    generator, discriminator = networks(replace(SMALL, generator_attention=(16,)))
    with torch.autocast("cpu", torch.bfloat16):
        levels = generator(z, labels)
        logits = discriminator(levels, labels).logits
    assert levels.dtype == logits.dtype == torch.float32
    torch.testing.assert_close(logits, exact, rtol=0.05, atol=0.05)
    for network in (generator, discriminator):
        assert all(buffer.dtype == torch.float32 for buffer in network.buffers())
    logits.sum().backward()


def test_calibration_sets_the_statistics_of_what_is_sampled() -> None:
    generator, _ = networks(SMALL)
    generator.eval()
    z, labels = noise(generator, 32)
    vectors = {k: v.clone() for k, v in generator.state_dict().items() if k.endswith(".u")}
    generator.calibrate(z, labels, batch_size=32)
    calibrated = generator(z, labels)
    twin = copy.deepcopy(generator).train()
    torch.testing.assert_close(calibrated, twin(z, labels), rtol=1e-4, atol=1e-5)
    generator.calibrate(generator.truncate_noise(z, 0.5), labels, batch_size=16)
    assert not torch.allclose(calibrated, generator(z, labels), atol=1e-4)
    for name, value in vectors.items():
        assert torch.equal(generator.state_dict()[name], value), name


def test_truncation_redraws_each_number_from_itself() -> None:
    generator, _ = networks(SMALL)
    z = torch.randn(1000, 24)
    cut = generator.truncate_noise(z, 0.5)
    assert cut.abs().max() <= 0.5
    inside = z.abs() <= 0.5
    assert torch.equal(cut[inside], z[inside])
    assert torch.equal(cut[:7], generator.truncate_noise(z[:7], 0.5))
    with pytest.raises(ConfigError, match="it must be positive"):
        generator.truncate_noise(z, 0.0)


WRONG: list[tuple[dict[str, Any], tuple[int, int, int], str]] = [
    ({}, (3, 32, 64), "BigGAN makes no samples of 32x64"),
    ({}, (3, 48, 48), "BigGAN makes no samples of 48x48"),
    ({"z_width": 26}, (3, 32, 32), "`model.z_width` 26 is not a multiple of 4"),
    (
        {"generator_attention": (64,)},
        (3, 32, 32),
        "attention is asked for at side 64, which no block's output has",
    ),
    (
        {"channels": 1, "generator_attention": (32,)},
        (3, 32, 32),
        "`model.channels` 1 makes a block of 4 channels, too few for attention (8) or "
        "bottlenecks (4)",
    ),
    (
        {"is_deep": True, "channels": 1},
        (3, 128, 128),
        "`model.channels` 1 makes a block of 2 channels, too few for attention (8) or "
        "bottlenecks (4)",
    ),
    (
        {"is_deep": True, "is_hierarchical": False},
        (3, 32, 32),
        "`model.is_hierarchical` is off but BigGAN-deep gives the noise to every block",
    ),
    (
        {"shared_width": 0},
        (3, 32, 32),
        "`model.shared_width` is 0 but blocks that get a part of the noise share one embedding",
    ),
]


@pytest.mark.parametrize(("wrong", "shape", "message"), WRONG)
def test_sizes_that_do_not_fit(
    wrong: dict[str, Any], shape: tuple[int, int, int], message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        BigGANGenerator(replace(SMALL, **wrong), shape, NUM_CLASSES)
    assert str(error.value) == message


def test_a_discriminator_names_what_it_cannot_do() -> None:
    with pytest.raises(ConfigError, match="side 32, which no block's output has"):
        BigGANDiscriminator(replace(SMALL, discriminator_attention=(32,)), (3, 32, 32), 3)
    with pytest.raises(ConfigError, match="has no features to align with a teacher"):
        BigGANDiscriminator(SMALL, (3, 32, 32), 3, features=5)


def test_a_deep_stage_may_have_any_number_of_blocks() -> None:
    for blocks in (1, 3):
        with torch.device("meta"):
            generator, discriminator = networks(replace(DEEP, blocks_per_stage=blocks))
            z, labels = torch.empty(2, 24), torch.zeros(2, dtype=torch.int64)
            assert discriminator(generator(z, labels), labels).logits.shape == (2, 1)
        assert len(generator.blocks) == len(discriminator.blocks) == 3 * blocks


def test_without_spectral_norm_weights_act_as_they_are() -> None:
    generator, discriminator = networks(replace(SMALL, has_spectral_norm=False))
    for network in (generator, discriminator):
        assert not any(isinstance(module, SpectralNorm) for module in network.modules())
    with torch.no_grad():
        nn.init.zeros_(generator.stem.weight)
    assert generator(*noise(generator)).isfinite().all()  # a norm would divide zero by zero


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blocks_per_stage": 3}, "`model.blocks_per_stage` is set but only BigGAN-deep"),
        ({"is_deep": True, "is_wide": False}, "`model.is_wide` is off but the blocks of BigGAN"),
        (
            {"has_spectral_norm": False, "power_iterations": 2},
            "power iterations are set but `model.has_spectral_norm` is off",
        ),
    ],
)
def test_settings_without_effect_are_refused(changes: dict[str, Any], message: str) -> None:
    for kind in (BigGANGenerator, BigGANDiscriminator):
        with pytest.raises(ConfigError, match=message):
            kind(replace(SMALL, **changes), (3, 32, 32), NUM_CLASSES)
