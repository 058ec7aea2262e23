"""What blocks and levels contribute: measured without leaving a trace in the generator."""

import pytest
import torch

from scalegan.autoencoders.pixels import Identity
from scalegan.config.schema import AutoencoderConfig
from scalegan.inference.gan import GAN
from scalegan.inference.snapshot import Card
from scalegan.studies import levels
from tests.support import tiny


@pytest.fixture
def gan() -> GAN:
    card = Card("tiny", tiny.MODEL, AutoencoderConfig(), (1, 8, 8), ["a", "b", "c"])
    return GAN(tiny.state().generator.eval(), Identity(1, 8), card)


def test_a_skipped_block_changes_images_and_a_restored_one_gives_the_same_bits(gan: GAN) -> None:
    whole, w = gan.sample(4), gan.style(4)
    exact = gan.generator.synthesize(w)
    for block in gan.generator.blocks:
        with levels.skipped(block):
            assert not torch.equal(gan.generator.synthesize(w), exact)
        assert torch.equal(gan.generator.synthesize(w), exact)
    assert torch.equal(gan.sample(4), whole)


def test_a_block_is_restored_after_an_error(gan: GAN) -> None:
    exact = gan.generator.synthesize(gan.style(2))
    with pytest.raises(KeyboardInterrupt), levels.skipped(gan.generator.blocks[0]):
        raise KeyboardInterrupt
    assert torch.equal(gan.generator.synthesize(gan.style(2)), exact)


def test_a_skipped_block_returns_its_input() -> None:
    block = torch.nn.Linear(3, 3)
    x = torch.randn(2, 3)
    with levels.skipped(block):
        assert torch.equal(block(x), x)
    assert not torch.equal(block(x), x)


def test_levels_add_up_to_the_sample(gan: GAN) -> None:
    rms = levels.level_rms(gan)
    assert len(rms) == gan.num_levels and min(rms) > 0
    with torch.no_grad():
        for head in list(gan.generator.heads)[1:]:  # type: ignore[arg-type]
            head.linear.weight.zero_()
            head.linear.bias.zero_()
    first, *others = levels.level_rms(gan)
    assert first == rms[0] and not any(others)


def test_principal_components_separate_what_varies() -> None:
    torch.manual_seed(0)
    tokens = 1e-3 * torch.randn(2, 16, 6)
    stripes = torch.arange(16) % 4 < 2
    tokens[:, stripes, 3] += 5.0
    images, shares = levels.principal_components(tokens)
    assert images.shape == (2, 3, 4, 4) and shares[0] > 0.999
    red = images[0, 0].flatten()
    assert red[stripes].min() > 250 and red[~stripes].max() < 5, "its sign is the largest weight's"


def test_tokens_are_those_after_each_block(gan: GAN) -> None:
    tokens = levels.tokens_after_blocks(gan)
    assert [x.shape for x in tokens] == [(levels.NUM_IMAGES, 4, 16)] * 4
    assert not gan.generator.blocks[0]._forward_hooks
