import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from scalegan.config.models import GAT_SIZES, GATConfig
from scalegan.errors import ConfigError
from scalegan.interfaces import GuidesStyle, TracksStyle, TruncatesStyle
from scalegan.models.gat import GATDiscriminator, GATGenerator
from tests.support.tiny import MODEL

IMAGENET = (4, 32, 32), 1000  # shape of the latents, classes

# (size, patch): parameters of G, of D with a teacher's 768 features, and of D without
# (the authors' code; G there has a patch embedding whose output is multiplied by zero).
PUBLISHED = {
    ("S", 2): (29_361_344, 39_212_928, 32_654_464),
    ("S", 4): (29_379_968, 39_212_928, 32_654_464),
    ("S", 8): (29_730_944, 39_489_408, 32_930_944),
    ("B", 2): (116_754_752, 104_676_864, 97_331_968),
    ("B", 4): (116_791_808, 104_676_864, 97_331_968),
    ("B", 8): (117_492_992, 105_229_824, 97_884_928),
    ("L", 2): (408_748_576, 323_035_872, 315_166_688),
    ("L", 4): (408_797_920, 323_035_872, 315_166_688),
    ("L", 8): (409_732_576, 323_773_152, 315_903_968),
    ("XL", 2): (602_251_136, 467_678_784, 459_547_456),
    ("XL", 4): (602_306_624, 467_678_784, 459_547_456),
    ("XL", 8): (603_358_016, 468_508_224, 460_376_896),
}

# (size, patch): billions of multiplications with additions, of G and D (768 features).
COSTS = {("S", 2): (6.054, 7.766), ("B", 4): (5.555, 6.098), ("XL", 8): (7.325, 7.767)}


def sized(size: str, patch: int) -> GATConfig:
    return GATConfig(**GAT_SIZES[size]._asdict(), patch_size=patch)


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def cost(network: nn.Module, *inputs: Tensor, **options: bool) -> int:
    """Multiplications with additions of one forward."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.requires_grad_(False)(*inputs, **options)
    return counter.get_total_flops() // 2


def generator(shape: tuple[int, int, int] = (1, 8, 8), num_classes: int = 3) -> GATGenerator:
    torch.manual_seed(0)
    return GATGenerator(MODEL, shape, num_classes)


def make_discriminator(
    shape: tuple[int, int, int] = (1, 8, 8), features: int = 0
) -> GATDiscriminator:
    torch.manual_seed(1)
    return GATDiscriminator(MODEL, shape, 3, features)


@pytest.mark.parametrize(("size", "patch"), PUBLISHED)
def test_published_parameter_counts(size: str, patch: int) -> None:
    of_generator, aligned, plain = PUBLISHED[size, patch]
    model = sized(size, patch)
    dead = model.width * 4 * patch**2 + model.width  # a patch embedding that we leave out
    with torch.device("meta"):
        assert count(GATGenerator(model, *IMAGENET)) == of_generator - dead
        assert count(GATDiscriminator(model, *IMAGENET, features=768)) == aligned
        assert count(GATDiscriminator(model, *IMAGENET)) == plain


@pytest.mark.parametrize(("size", "patch"), COSTS)
def test_published_costs(size: str, patch: int) -> None:
    of_generator, of_discriminator = COSTS[size, patch]
    with torch.device("meta"):
        model = sized(size, patch)
        labels = torch.zeros(1, dtype=torch.int64)
        made = cost(GATGenerator(model, *IMAGENET), torch.empty(1, 64), labels)
        discriminator = GATDiscriminator(model, *IMAGENET, features=768)
        judged = cost(discriminator, torch.empty(1, 4, 4, 32, 32), labels, with_features=True)
    assert round(made / 1e9, 3) == of_generator
    assert round(judged / 1e9, 3) == of_discriminator


def test_without_features_the_last_block_works_for_the_class_token_alone() -> None:
    with torch.device("meta"):
        discriminator = GATDiscriminator(sized("S", 2), *IMAGENET)
        labels = torch.zeros(1, dtype=torch.int64)
        judged = cost(discriminator, torch.empty(1, 4, 4, 32, 32), labels)
    tokens, width, hidden, label_width = 257, 384, 1024, 2048
    block = tokens * (4 * width**2 + 3 * width * hidden) + 2 * tokens**2 * width
    full = 256 * 64 * width + 12 * block + 2 * label_width**2 + label_width * width
    assert round(full / 1e9, 3) == 6.081  # the published cost
    spared = (tokens - 1) * (2 * width**2 + 3 * width * hidden + 2 * tokens * width)
    assert judged == full - spared


def test_start_values_of_size_s() -> None:
    torch.manual_seed(0)
    width, network = 384, GATGenerator(sized("S", 2), *IMAGENET)
    z, labels = torch.randn(8, 64), torch.randint(1000, (8,))
    with torch.no_grad():
        w = network.map(z, labels)
        levels = network.synthesize(w)
    assert w.std().item() == pytest.approx(0.40, abs=0.02)
    for level, expected in enumerate((1.28, 1.45, 1.74, 2.34)):
        # Sixteen rows make a head's whole output: one draw of them differs much from another.
        assert levels[:, level].std().item() == pytest.approx(expected, rel=0.4)
    heads = levels.diff(dim=1, prepend=torch.zeros_like(levels[:, :1]))
    xavier = math.sqrt(width * 2 / (width + 16))  # of unit tokens, unmodulated
    assert heads.square().mean().sqrt().item() == pytest.approx(xavier, rel=0.1)
    assert network.labels.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert not network.style_mean.any() and not network.style_updates.any()


def test_start_values_of_each_kind() -> None:
    made, discriminator = generator(), make_discriminator(features=5)
    for block in discriminator.blocks:
        assert torch.equal(block.scale_a, torch.full((16,), 0.1))
        assert torch.equal(block.scale_f, torch.full((16,), 0.1))
        assert torch.equal(block.norm_a.weight, torch.ones(16))
    assert discriminator.class_token.std().item() == pytest.approx(0.02, rel=0.6)
    for module in [*made.blocks, *made.heads]:
        rows, columns = module.modulation.weight.shape
        assert module.modulation.weight.abs().max() <= 0.1 * math.sqrt(6 / (rows + columns))
    bound = math.sqrt(6 / (16 + 4 * 16))  # a patch embedding counts as one matrix
    assert 0.9 * bound < discriminator.patches.weight.abs().max() <= bound
    for network in (made, discriminator):
        for name, value in network.named_parameters():
            assert not (name.endswith("bias") and value.any()), name
    assert torch.equal(made.position, discriminator.position)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (4, 32, 32), (2, 4, 4)])
def test_any_channels_and_side(shape: tuple[int, int, int]) -> None:
    levels = generator(shape)(torch.randn(2, 8), torch.tensor([0, 2]))
    assert levels.shape == (2, 4, *shape)
    output = make_discriminator(shape, features=5)(levels, torch.tensor([0, 2]), with_features=True)
    assert output.logits.shape == (2, 1)
    assert output.features.shape == (2, 1 + (shape[1] // 4) ** 2, 5)


def test_one_level_one_class_batch_of_one() -> None:
    model = GATConfig(width=8, depth=1, num_heads=1, patch_size=4, num_levels=1, label_width=4)
    made = GATGenerator(model, (1, 4, 4), 1)
    levels = made(torch.randn(1, 64), torch.zeros(1, dtype=torch.int64))
    assert levels.shape == (1, 1, 1, 4, 4)
    discriminator = GATDiscriminator(model, (1, 4, 4), 1)
    assert discriminator(levels, torch.zeros(1, dtype=torch.int64)).logits.shape == (1, 1)


def test_levels_are_sums_of_the_heads_so_far() -> None:
    network = generator()
    w = network.map(torch.randn(2, 8), torch.tensor([0, 1]))
    before = network.synthesize(w)
    with torch.no_grad():
        network.heads[2].linear.bias += 1
    moved = network.synthesize(w) - before
    assert not moved[:, :2].any()
    torch.testing.assert_close(moved[:, 2:], torch.ones(2, 2, 1, 8, 8))


def test_features_do_not_change_the_logits() -> None:
    discriminator, levels, labels = (
        make_discriminator(features=5),
        torch.randn(3, 4, 1, 8, 8),
        torch.arange(3),
    )
    plain, featured = (
        discriminator(levels, labels),
        discriminator(levels, labels, with_features=True),
    )
    assert plain.features is None
    torch.testing.assert_close(plain.logits, featured.logits)


def test_discriminator_sees_every_level_and_the_label() -> None:
    discriminator = make_discriminator()
    levels, label = torch.randn(1, 4, 1, 8, 8, requires_grad=True), torch.tensor([0])
    logits = discriminator(levels, label).logits
    logits.sum().backward()
    assert (levels.grad.flatten(2).abs().amax(2) > 0).all()
    assert not torch.equal(discriminator(levels, torch.tensor([1])).logits, logits)


def test_truncation_one_changes_nothing_and_zero_is_the_mean() -> None:
    network, labels = generator(), torch.tensor([0, 1])
    w = torch.randn(2, 16)
    network.track(w, labels)
    torch.testing.assert_close(network.truncate(w + 1, labels, 1.0), w + 1)
    # One update: the mean is what was seen, though the buffer holds only 0.5% of it.
    torch.testing.assert_close(network.truncate(w + 1, labels, 0.0), w)
    torch.testing.assert_close(network.truncate(w + 1, labels, 0.25), w + 0.25)
    torch.testing.assert_close(network.style_mean[:2], 0.005 * w)


def test_truncation_leaves_classes_without_a_mean_alone() -> None:
    network = generator()
    network.track(torch.randn(1, 16), torch.tensor([0]))
    w = torch.randn(1, 16)
    assert torch.equal(network.truncate(w, torch.tensor([2]), 0.0), w)


def test_track_follows_the_mean_of_each_class_in_the_batch() -> None:
    network = generator()
    w = torch.randn(4, 16)
    network.track(w, torch.tensor([0, 2, 0, 0]))
    network.track(w, torch.tensor([2, 2, 2, 2]))
    first, second = w[[0, 2, 3]].mean(0), 0.995 * 0.005 * w[1] + 0.005 * w.mean(0)
    expected = torch.stack([0.005 * first, torch.zeros(16), second])
    torch.testing.assert_close(network.style_mean, expected)
    assert network.style_updates.tolist() == [1, 0, 2]


def test_bias_correction_weighs_updates_by_their_age() -> None:
    network, label = generator(), torch.tensor([0])
    first, second = torch.randn(1, 16), torch.randn(1, 16)
    network.track(first, label)
    network.track(second, label)
    expected = (0.995 * first + second) / 1.995
    torch.testing.assert_close(network.truncate(torch.zeros(1, 16), label, 0.0), expected)


@pytest.mark.parametrize("num_classes", [1, 3, 130])  # below and above one part of the sum
def test_mean_over_classes_is_the_mean_of_all_mappings(num_classes: int) -> None:
    network, z = generator(num_classes=num_classes), torch.randn(2, 8)
    nn.init.normal_(network.labels.weight)
    nn.init.normal_(network.mapping[0].bias, std=30)
    nn.init.normal_(network.mapping[2].bias, std=30)
    all_styles = [
        network.map(z, torch.full((2,), label, dtype=torch.int64)) for label in range(num_classes)
    ]
    torch.testing.assert_close(network.mean_over_classes(z), torch.stack(all_styles).mean(0))


def test_guidance_one_changes_nothing_and_two_doubles_the_way_from_the_mean() -> None:
    network, z = generator(), torch.randn(2, 8)
    w = network.map(z, torch.tensor([0, 1]))
    mean = network.mean_over_classes(z)
    torch.testing.assert_close(network.guide(w, z, 1.0), w)
    torch.testing.assert_close(network.guide(w, z, 2.0), mean + 2 * (w - mean))
    each = network.guide(w, z, torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(each, torch.stack([w[0], mean[1]]))


def test_abilities() -> None:
    for ability in (TracksStyle, TruncatesStyle, GuidesStyle):
        assert isinstance(generator(), ability)


def test_eval_draws_nothing() -> None:
    network, z, labels = generator().eval(), torch.randn(2, 8), torch.tensor([0, 1])
    state = torch.get_rng_state()
    first = network(z, labels)
    assert torch.equal(first, network(z, labels))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("changes", "shape", "num_classes", "message"),
    [
        ({}, (1, 8, 12), 3, "samples of 8x12 do not fit `model.patch_size` 4"),
        ({"patch_size": 3}, (1, 8, 8), 3, "samples of 8x8 do not fit `model.patch_size` 3"),
        ({"width": 20}, (1, 8, 8), 3,
         "a width of 20 is not a multiple of four times its 2 heads"),
        ({"num_heads": 0}, (1, 8, 8), 3,
         "a width of 16 is not a multiple of four times its 0 heads"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", [GATGenerator, GATDiscriminator])
def test_sizes_that_do_not_fit_are_refused(
    kind: type[nn.Module],
    changes: dict[str, int],
    shape: tuple[int, int, int],
    num_classes: int,
    message: str,
) -> None:
    model = GATConfig(**{**vars(MODEL), **changes})
    with pytest.raises(ConfigError) as caught:
        kind(model, shape, num_classes)
    assert str(caught.value) == message
    assert caught.value.hint


def test_the_discriminator_may_be_of_another_size() -> None:
    model = GATConfig(**{**vars(MODEL), "discriminator": "tiny"}).with_numbers()
    network = GATDiscriminator(model, (1, 8, 8), 3)
    assert (network.position.shape[-1], len(network.blocks)) == GAT_SIZES["tiny"][:2]
    assert network.blocks[0].attention.num_heads == GAT_SIZES["tiny"].num_heads
    assert len(GATGenerator(model, (1, 8, 8), 3).blocks) == MODEL.depth


def test_a_larger_gain_starts_with_more_varied_samples() -> None:
    def spread(gain: float) -> float:
        torch.manual_seed(0)
        model = GATConfig(**{**vars(MODEL), "modulation_gain": gain})
        samples = GATGenerator(model, (1, 8, 8), 3)(torch.randn(16, 8), torch.zeros(16).long())
        return (samples[:, -1].std(dim=0).mean() / samples[:, -1].std()).item()

    assert spread(0.1) < 0.15 and spread(1.5) > 3 * spread(0.1)


@pytest.mark.parametrize("layer_scale", [0.1, 0.5])
def test_layers_of_the_discriminator_start_at_their_scale(layer_scale: float) -> None:
    network = GATDiscriminator(
        GATConfig(**{**vars(MODEL), "layer_scale": layer_scale}), (1, 8, 8), 3
    )
    for block in network.blocks:
        assert (block.scale_a == layer_scale).all() and (block.scale_f == layer_scale).all()


def test_only_the_generator_needs_as_many_blocks_for_every_level() -> None:
    model = GATConfig(**{**vars(MODEL), "depth": 6})
    with pytest.raises(ConfigError) as caught:
        GATGenerator(model, (1, 8, 8), 3)
    assert str(caught.value) == "`model.depth` 6 is not a multiple of `model.num_levels` 4"
    assert len(GATDiscriminator(model, (1, 8, 8), 3).blocks) == 6


@torch.no_grad()
@pytest.mark.parametrize(("depth", "num_levels"), [(1, 1), (4, 1), (4, 2), (6, 3), (4, 4)])
@pytest.mark.parametrize("patch", [1, 2, 4])
@pytest.mark.parametrize("num_classes", [0, 3])
def test_every_size_of_generator_is_the_formula(
    depth: int, num_levels: int, patch: int, num_classes: int
) -> None:
    """The wiring; a block is what the parity vectors pin."""
    sizes = {"depth": depth, "num_levels": num_levels, "patch_size": patch}
    network = GATGenerator(GATConfig(**{**vars(MODEL), **sizes}), (2, 8, 8), num_classes)
    z, labels = torch.randn(2, 8), torch.tensor([1, 2])

    def unit(x: torch.Tensor) -> torch.Tensor:
        return x / (x.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()

    def linear(layer: nn.Linear, x: torch.Tensor) -> torch.Tensor:
        return x @ (0.01 * layer.weight).T + 0.01 * layer.bias

    rows = network.labels.weight[labels if num_classes else labels * 0]
    first, _, last = network.mapping
    w = linear(last, nn.functional.silu(linear(first, torch.cat([unit(rows), unit(z)], dim=1))))
    x, image, levels = network.position.expand(2, -1, -1), 0, []
    for i, block in enumerate(network.blocks):
        x = block(x, w, network.rotary)
        if (i + 1) % (depth // num_levels) == 0:
            head = network.heads[len(levels)]
            scale = 1 + nn.functional.silu(w) @ head.modulation.weight.T + head.modulation.bias
            normal = x / (x.square().mean(dim=2, keepdim=True) + 1e-6).sqrt()
            tokens = (normal * scale[:, None]) @ head.linear.weight.T + head.linear.bias
            grid = 8 // patch
            for row, column in itertools.product(range(8), repeat=2):
                token = tokens[:, row // patch * grid + column // patch]
                place = (row % patch * patch + column % patch) * 2
                if row == column == 0:
                    detail = torch.empty(2, 2, 8, 8)
                detail[:, :, row, column] = token[:, place : place + 2]
            image = image + detail
            levels.append(image)
    expected = torch.stack(levels, dim=1)
    torch.testing.assert_close(network(z, labels), expected, rtol=1e-4, atol=1e-5)


def test_a_feed_forward_layer_without_hidden_units_is_refused() -> None:
    for kind in (GATGenerator, GATDiscriminator):
        with pytest.raises(ConfigError, match=r"`model.mlp_ratio` 0.01 leaves no hidden units"):
            kind(GATConfig(**{**vars(MODEL), "mlp_ratio": 0.01}), (1, 8, 8), 3)
