"""CAT's discriminator: what each scale sees, and what it must not see."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from scalegan.config.models import GATConfig
from scalegan.errors import ConfigError
from scalegan.models.cat import CATDiscriminator
from scalegan.models.gat import GATDiscriminator
from scalegan.models.tables import gat_discriminator

MODEL = GATConfig(
    width=16, depth=2, num_heads=2, patch_size=2, num_levels=3, label_width=12, projector_width=20
)
SHAPE = (3, 16, 16)
LABELS = torch.tensor([0, 1])


def make(features: int = 0) -> CATDiscriminator:
    torch.manual_seed(0)
    return CATDiscriminator(MODEL, SHAPE, 3, features)


def levels() -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(2, 3, *SHAPE)


def test_one_logit_per_level_and_features_of_the_finest_scale() -> None:
    network = make(features=7)
    plain, aligned = network(levels(), LABELS), network(levels(), LABELS, with_features=True)
    assert plain.logits.shape == (2, 3) and plain.features is None
    assert aligned.features is not None and aligned.features.shape == (2, 1 + 8 * 8, 7)
    torch.testing.assert_close(plain.logits, aligned.logits)


@pytest.mark.parametrize("changed", range(3))
def test_scales_do_not_see_each_other(changed: int) -> None:
    network, samples = make(), levels()
    before = network(samples, LABELS).logits
    samples[:, changed] += torch.randn(SHAPE)
    after = network(samples, LABELS).logits
    differs = (before != after).all(dim=0)
    assert differs.tolist() == [i == changed for i in range(3)]


def test_coarse_levels_are_judged_at_their_own_side() -> None:
    network, samples = make(), levels()
    small = F.interpolate(samples[:, 0], size=(4, 4), mode="bilinear")
    padded = samples.clone()
    # Another image with the same resized version gets the same logit.
    padded[:, 0] = F.interpolate(small, size=(16, 16), mode="nearest")
    torch.testing.assert_close(
        network(samples, LABELS).logits[:, 0], network(padded, LABELS).logits[:, 0]
    )


def test_classes_matter_and_every_parameter_gets_a_gradient() -> None:
    network = make(features=7)
    output = network(levels(), LABELS, with_features=True)
    assert not torch.equal(output.logits, network(levels(), LABELS.flip(0)).logits)
    assert output.features is not None
    (output.logits.square().sum() + output.features.square().sum()).backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_scales_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ConfigError, match="do not divide into 3 scales of patches of 2") as caught:
        CATDiscriminator(MODEL, (3, 12, 12), 3)
    assert caught.value.hint == "their side must be a multiple of 8; set `model.num_levels` lower"


@pytest.mark.parametrize(
    ("name", "kind"), [("noise", GATDiscriminator), ("scales", CATDiscriminator)]
)
def test_supervision_chooses_the_discriminator(name: str, kind: type[nn.Module]) -> None:
    model = GATConfig(**{**vars(MODEL), "supervision": name})
    assert type(gat_discriminator(model, SHAPE, 3)) is kind
