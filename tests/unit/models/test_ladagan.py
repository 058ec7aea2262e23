import re
from dataclasses import replace
from itertools import pairwise
from math import prod
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from scalegan.config.models import LadaGANConfig
from scalegan.errors import ConfigError
from scalegan.interfaces import Discriminator, Generator, TruncatesStyle
from scalegan.losses.adversarial import logistic_discriminator, logistic_generator
from scalegan.losses.penalties import exact
from scalegan.models.ladagan import LadaGANDiscriminator, LadaGANGenerator

ENCODERS = {
    32: (128, 256),
    64: (64, 128, 256),
    128: (32, 64, 128, 256),
    256: (16, 32, 64, 128, 256),
}
# Side: parameters and billions of multiplications with additions, of G and of D (the
# authors' code).
PUBLISHED = {
    32: (19_901_647, 0.758, 6_775_940, 0.709),
    64: (19_900_351, 0.758, 7_004_356, 0.947),
    128: (19_900_027, 0.758, 7_061_220, 1.189),
    256: (19_899_946, 0.758, 7_075_316, 1.438),
}
FFHQ = LadaGANConfig(
    widths=(1024, 512, 256), decoder_widths=(128, 64), encoder_widths=ENCODERS[128]
)
SMALL = LadaGANConfig(
    z_width=6, widths=(64, 48, 16), num_heads=(4, 4, 2), hidden_widths=(24, 20, 16),
    encoder_widths=(8, 16), discriminator_heads=4, discriminator_hidden=24, out_widths=(12, 20),
)  # fmt: skip
DIGITS = replace(
    SMALL, base=4, widths=(32, 16), num_heads=(4, 2), hidden_widths=(24, 16), encoder_widths=(16,)
)


def generator(
    config: LadaGANConfig = DIGITS, shape: tuple[int, int, int] = (1, 8, 8), num_classes: int = 0
) -> LadaGANGenerator:
    torch.manual_seed(0)
    return LadaGANGenerator(config, shape, num_classes)


def make_discriminator(
    config: LadaGANConfig = DIGITS, shape: tuple[int, int, int] = (1, 8, 8), num_classes: int = 0
) -> LadaGANDiscriminator:
    torch.manual_seed(1)
    return LadaGANDiscriminator(config, shape, num_classes)


def labels(count: int, num_classes: int = 3) -> Tensor:
    return torch.arange(count) % num_classes


def operations(network: nn.Module, *inputs: Tensor) -> int:
    """Multiplications with additions of one forward."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(*inputs)
    return counter.get_total_flops() // 2


def block_operations(tokens: int, width: int, heads: int, hidden: int) -> int:
    """Of additive attention and feed-forward: linear in the number of tokens."""
    return tokens * (4 * width**2 + width * heads + width + 2 * width * hidden)


def generator_operations(config: LadaGANConfig, shape: tuple[int, int, int], classes: int) -> int:
    """The closed form, with heads that spread channels over pixels."""
    condition = config.z_width * (2 if classes else 1)
    total, grid = condition * config.base**2 * config.widths[0], config.base
    for i, width in enumerate(config.widths):
        if i > 0:
            grid *= 2
            total += 9 * grid**2 * config.widths[i - 1] // 4 * width
        total += block_operations(grid**2, width, config.num_heads[i], config.hidden_widths[i])
        total += 2 * (condition * width + 2 * width**2)  # two modulations
    scale = shape[1] // grid
    return total + 9 * config.widths[-1] // scale**2 * prod(shape)


def discriminator_operations(
    config: LadaGANConfig, shape: tuple[int, int, int], num_classes: int = 0
) -> int:
    """The closed form; a class has a kernel as large as the verdict's."""
    channels, side, _ = shape
    widths, (narrow, wide) = config.encoder_widths, config.out_widths
    total = 9 * side**2 * channels * widths[0]
    for into, out in pairwise(widths):
        side //= 2
        total += side**2 * (10 * into * out + 9 * out**2)
    total += block_operations(
        side**2, widths[-1], config.discriminator_heads, config.discriminator_hidden
    )
    half = side // 2
    total += half**2 * (9 * 4 * widths[-1] * narrow + narrow * wide)
    return total + (half - 3) ** 2 * 16 * wide * (2 if num_classes else 1)


@pytest.mark.parametrize("side", PUBLISHED)
def test_published_sizes_and_costs(side: int) -> None:
    config, shape = LadaGANConfig(encoder_widths=ENCODERS[side]), (3, side, side)
    no_label = torch.zeros(1, dtype=torch.int64, device="meta")
    with torch.device("meta"):
        networks = (
            (LadaGANGenerator(config, shape, 0), torch.empty(1, 128)),
            (LadaGANDiscriminator(config, shape, 0), torch.empty(1, 1, *shape)),
        )
        found: list[Any] = []
        for network, given in networks:
            found += [sum(p.numel() for p in network.parameters())]
            found += [operations(network, given, no_label)]
    assert (found[0], round(found[1] / 1e9, 3), found[2], round(found[3] / 1e9, 3)) == (
        PUBLISHED[side]
    )
    assert found[1] == generator_operations(config, shape, 0)
    assert found[3] == discriminator_operations(config, shape)


@pytest.mark.parametrize(("config", "shape"), [(SMALL, (4, 32, 32)), (DIGITS, (1, 8, 8))])
@pytest.mark.parametrize("num_classes", [0, 3])
def test_closed_forms_hold_for_other_sizes(
    config: LadaGANConfig, shape: tuple[int, int, int], num_classes: int
) -> None:
    made, discriminator = (
        generator(config, shape, num_classes),
        make_discriminator(config, shape, num_classes),
    )
    of_generator = operations(made, torch.zeros(1, config.z_width), labels(1))
    assert of_generator == generator_operations(config, shape, num_classes)
    of_discriminator = operations(discriminator, torch.zeros(1, 1, *shape), labels(1))
    assert of_discriminator == discriminator_operations(config, shape, num_classes)


def test_the_published_size_of_the_decoder() -> None:
    with torch.device("meta"):
        network = LadaGANGenerator(FFHQ, (3, 128, 128), 0)
        made = network(torch.empty(1, 128), torch.zeros(1, dtype=torch.int64))
    assert made.shape == (1, 1, 3, 128, 128)
    trained = sum(parameter.numel() for parameter in network.parameters())
    counters = 2  # how often batch statistics moved, which the reference does not keep
    saved = sum(value.numel() for value in network.state_dict().values()) - counters
    assert (trained, saved) == (24_025_871, 24_026_255)


@pytest.mark.parametrize("num_classes", [0, 3])
@pytest.mark.parametrize(
    ("config", "shape", "num_logits"),
    [
        (DIGITS, (1, 8, 8), 1),
        (SMALL, (3, 32, 32), 25),
        (SMALL, (4, 32, 32), 25),  # latents
        (replace(SMALL, encoder_widths=(6, 8, 16)), (3, 64, 64), 25),
        (replace(SMALL, encoder_widths=(4, 6, 8, 16)), (3, 128, 128), 25),
        (replace(SMALL, decoder_widths=(12, 8), encoder_widths=(4, 6, 8, 16)), (3, 128, 128), 25),
        (replace(SMALL, widths=(64, 48, 18), num_heads=(4, 4, 2)), (3, 96, 96), 441),
    ],
)
def test_shapes(
    config: LadaGANConfig, shape: tuple[int, int, int], num_logits: int, num_classes: int
) -> None:
    made, discriminator = (
        generator(config, shape, num_classes),
        make_discriminator(config, shape, num_classes),
    )
    assert isinstance(made, Generator) and isinstance(discriminator, Discriminator)
    assert (made.z_shape, made.num_levels, made.num_classes) == ((6,), 1, num_classes)
    w = made.map(torch.randn(2, 6), labels(2))
    assert w.shape == (2, 12 if num_classes else 6)
    levels = made.synthesize(w)
    assert levels.shape == (2, 1, *shape) and levels.dtype == torch.float32
    logits, features = discriminator(levels, labels(2))
    assert logits.shape == (2, num_logits) and logits.dtype == torch.float32 and features is None


@pytest.mark.parametrize("num_classes", [0, 3])
@pytest.mark.parametrize(
    ("config", "shape"),
    [
        (DIGITS, (1, 8, 8)),
        (replace(SMALL, decoder_widths=(12,), encoder_widths=(4, 8, 16)), (3, 64, 64)),
    ],
)
def test_every_parameter_gets_a_gradient_from_the_losses_it_trains_on(
    config: LadaGANConfig, shape: tuple[int, int, int], num_classes: int
) -> None:
    made, discriminator = (
        generator(config, shape, num_classes),
        make_discriminator(config, shape, num_classes),
    )
    z, real, by = torch.randn(6, 6), torch.randn(6, 1, *shape, requires_grad=True), labels(6)
    fake = made(z, by)
    real_logits = discriminator(real, by).logits
    loss = logistic_discriminator(real_logits, discriminator(fake.detach(), by).logits)
    (loss + 1e-4 * exact(real_logits, real)).mean().backward()
    # A bias in front of a norm over the same axis moves nothing but by rounding.
    idle = [f"head.{4 * i + 1}.bias" for i in range(len(config.decoder_widths))]
    assert [name for name, p in discriminator.named_parameters() if not moves(p)] == []
    discriminator.requires_grad_(False)
    logistic_generator(discriminator(fake, by).logits).mean().backward()
    assert [n for n, p in made.named_parameters() if not moves(p) and n not in idle] == []


def moves(parameter: Tensor) -> bool:
    return parameter.grad is not None and bool(parameter.grad.any())


def test_without_labels_of_its_own_a_conditional_network_is_the_unconditional_one() -> None:
    plain, discriminator = make_discriminator(), make_discriminator(num_classes=3)
    discriminator.load_state_dict(plain.state_dict(), strict=False)
    x = torch.randn(4, 1, 1, 8, 8)
    assert not discriminator.labels.weight.any()
    assert torch.equal(discriminator(x, labels(4)).logits, plain(x, labels(4)).logits)


def test_a_class_has_a_kernel_for_the_piece_that_a_logit_is_about() -> None:
    shape = (3, 32, 32)
    discriminator = make_discriminator(SMALL, shape, num_classes=3).eval()
    seen: list[Tensor] = []
    discriminator.verdict.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    x, by = torch.randn(2, 1, *shape), torch.tensor([2, 0])
    before = discriminator(x, by).logits
    nn.init.normal_(discriminator.labels.weight)
    change = (discriminator(x, by).logits - before).unflatten(1, (5, 5))
    for sample, row, column in ((0, 0, 0), (1, 3, 4)):
        piece = seen[0][sample, :, row : row + 4, column : column + 4]
        expected = (discriminator.labels.weight[by[sample]].view_as(piece) * piece).sum()
        torch.testing.assert_close(change[sample, row, column], expected, rtol=1e-4, atol=1e-5)


def test_a_logit_is_about_its_own_window_of_the_last_map() -> None:
    discriminator = make_discriminator(SMALL, (3, 32, 32)).eval()
    given = torch.randn(1, 20, 8, 8)
    moved = given.clone()
    moved[:, :, :4, :4] += 1
    differs = (discriminator.verdict(moved) != discriminator.verdict(given))[0, 0]
    expected = torch.zeros(5, 5, dtype=torch.bool)
    expected[:4, :4] = True
    assert torch.equal(differs, expected)


def test_labels_change_what_is_generated_and_zero_classes_ignore_them() -> None:
    z = torch.randn(2, 6)
    made = generator(num_classes=3)
    assert not torch.equal(made(z, torch.tensor([0, 1])), made(z, torch.tensor([1, 1])))
    plain = generator()
    assert torch.equal(plain(z, torch.tensor([0, 1])), plain(z, torch.tensor([1, 1])))


@pytest.mark.parametrize("num_classes", [0, 3])
def test_truncation_scales_the_noise_alone(num_classes: int) -> None:
    made = generator(num_classes=num_classes)
    assert isinstance(made, TruncatesStyle)
    z, by = torch.randn(3, 6), labels(3)
    w = made.map(z, by)
    assert torch.equal(made.truncate(w, by, 1.0), w)
    torch.testing.assert_close(made.truncate(w, by, 0.3), made.map(0.3 * z, by))


def test_start_values() -> None:
    made, discriminator = generator(SMALL, (3, 32, 32), 3), make_discriminator(SMALL, (3, 32, 32))
    matrices = [
        made.first.weight,
        *(position[0] for position in made.positions),
        discriminator.position[0],
    ]
    for module in [*made.modules(), *discriminator.modules()]:
        if isinstance(module, nn.Linear | nn.Conv2d) and not is_fused(module):
            matrices.append(module.weight.flatten(1))
    for block in (*made.blocks, discriminator.blocks[-1]):
        matrices += block.attention.into.weight.chunk(3)  # q, k and v on their own
    for matrix in matrices:
        small = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
        identity = torch.eye(len(small))
        torch.testing.assert_close(small @ small.T, identity, rtol=0, atol=1e-5)
    for network in (made, discriminator):
        for name, value in network.named_parameters():
            assert not (name.endswith("bias") and value.any()), name
    assert made.labels.weight.std().item() == pytest.approx(1, abs=0.5)


def is_fused(module: nn.Module) -> bool:
    weight = module.weight
    return isinstance(module, nn.Linear) and weight.shape[0] == 3 * weight.shape[1]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), st.integers(0, 2**16))
def test_a_sample_does_not_depend_on_its_batch(count: int, seed: int) -> None:
    made = generator(num_classes=3).eval()
    z = torch.randn(count, 6, generator=torch.manual_seed(seed))
    with torch.no_grad():
        together = made(z, labels(count))
        alone = torch.cat([made(z[i : i + 1], labels(count)[i : i + 1]) for i in range(count)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "side", "message"),
    [
        ({}, 48, "samples of 48x48 do not fit `model.base` 8 and 3 stages, which end at 32x32 tok"),
        ({}, 16, "samples of 16x16 do not fit `model.base` 8 and 3 stages"),
        ({"num_heads": (4, 4)}, 32, "`model.num_heads` and `model.widths` differ in their number"),
        ({"hidden_widths": (9,)}, 32, "`model.hidden_widths` and `model.widths` differ in their"),
        ({"widths": (64, 50, 16), "num_heads": (4, 2, 2)}, 32,
         "`model.widths` holds 50, not a multiple of the 4 pixels that its channels are spread"),
        ({"widths": (64, 48, 24)}, 128, "`model.widths` holds 24, not a multiple of the 16 pixels"),
        ({"num_heads": (4, 5, 2)}, 32, "`model.widths` holds 48, not a multiple of the 5 heads"),
        ({"decoder_widths": (8, 8)}, 64, "`model.decoder_widths` has 2 entries but samples of "),
    ],
)  # fmt: skip
def test_a_generator_that_does_not_fit_is_refused(
    changes: dict[str, Any], side: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        generator(replace(SMALL, **changes), (3, side, side))


@pytest.mark.parametrize(
    ("changes", "shape", "message"),
    [
        ({"encoder_widths": (4, 8, 16, 16)}, (3, 32, 32),
         "samples of 32x32 do not fit `model.encoder_widths` with 4 entries"),
        ({}, (3, 34, 34), "samples of 34x34 do not fit `model.encoder_widths` with 2 entries"),
        ({}, (3, 32, 64), "samples of 32x64 do not fit `model.encoder_widths` with 2 entries"),
        ({"discriminator_heads": 3}, (3, 32, 32), "`model.encoder_widths` holds 16, not a"),
    ],
)  # fmt: skip
def test_a_discriminator_that_does_not_fit_is_refused(
    changes: dict[str, Any], shape: tuple[int, int, int], message: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        make_discriminator(replace(SMALL, **changes), shape)


def test_samples_that_are_not_square_and_a_teacher_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^samples of 32x64 do not fit `model\.base`"):
        generator(SMALL, (3, 32, 64))
    with pytest.raises(ConfigError, match=r"^LadaGAN has no features that a teacher could align$"):
        LadaGANDiscriminator(SMALL, (3, 32, 32), 0, features=5)


@torch.no_grad()
@pytest.mark.parametrize("widths", [(12,), (32, 12), (32, 16, 12)])
@pytest.mark.parametrize("head", ["same side", "spread", "decoder"])
@pytest.mark.parametrize("num_classes", [0, 3])
def test_every_kind_of_generator_is_the_formula(
    widths: tuple[int, ...], head: str, num_classes: int
) -> None:
    """The wiring; a block is what the parity vectors pin."""
    stages, scale = len(widths), 1 if head == "same side" else 2
    config = LadaGANConfig(
        z_width=6,
        base=4,
        widths=widths,
        num_heads=(2,) * stages,
        hidden_widths=(8,) * stages,
        decoder_widths=(5,) if head == "decoder" else (),
    )
    grid = 4 * 2 ** (stages - 1)
    network = LadaGANGenerator(config, (3, scale * grid, scale * grid), num_classes).eval()
    z, labels = torch.randn(2, 6), torch.tensor([1, 2]) % max(1, num_classes)
    w = torch.cat([z, network.labels.weight[labels]], dim=1) if num_classes else z
    x = (w @ network.first.weight.T).view(2, 16, widths[0])  # token after token
    for i, block in enumerate(network.blocks):
        if i > 0:
            side = 4 * 2 ** (i - 1)
            on_map = x.transpose(1, 2).reshape(2, widths[i - 1], side, side)
            x = network.rises[i - 1](torch.nn.functional.pixel_shuffle(on_map, 2))
            x = x.flatten(2).transpose(1, 2)
        x = block(x + network.positions[i], w)
    x = x.transpose(1, 2).reshape(2, widths[-1], grid, grid)
    if head == "decoder":
        *first, last = network.head
        assert [type(part).__name__ for part in first[:2]] == ["Upsample", "Conv2d"]
        norm = first[2]
        x = first[1](x.repeat_interleave(2, -1).repeat_interleave(2, -2))
        x = (x - norm.running_mean[:, None, None]) / (norm.running_var + 1e-3).sqrt()[:, None, None]
        x = last(torch.where(x > 0, x, 0.2 * x))
    else:
        x = network.head[-1](torch.nn.functional.pixel_shuffle(x, scale))
    torch.testing.assert_close(network(z, labels)[:, 0], x, rtol=1e-4, atol=1e-4)
