import math
import re
from typing import Any

import pytest
import torch
from torch import Tensor

from scalegan.config.models import BigGANConfig
from scalegan.convert.biggan import hub_config, hub_generator, rename
from scalegan.errors import CheckpointError, ConfigError
from scalegan.models.biggan import BigGANDiscriminator, BigGANGenerator, generator_layers
from tests.support.reference_settings import biggan_config, load_reference

PORT = {
    "model": "BigGAN", "resolution": 32, "n_classes": 5, "G_ch": 2, "D_ch": 2, "dim_z": 18,
    "G_attn": "16", "D_attn": "0", "G_shared": True, "shared_dim": 6, "hier": True,
    "SN_eps": 1e-6, "BN_eps": 1e-5,
}  # fmt: skip
DEEP = PORT | {"model": "BigGAN-deep", "hier": True}
HUB = {
    "output_dim": 16, "z_dim": 3, "class_embed_dim": 2, "channel_width": 4, "num_classes": 5,
    "layers": [[False, 4, 4], [True, 4, 4], [True, 4, 2]], "attention_layer_position": 2,
    "eps": 1e-4, "n_stats": 5,
}  # fmt: skip


def port_weights(config: dict[str, Any]) -> dict[str, Tensor]:
    """Weights under the port's names, of a generator without blocks' attention at work."""
    names = {
        "stem": "linear", "norm.": "output_layer.0.", "head": "output_layer.2",
        ".query": ".theta", ".key": ".phi", ".value": ".g", ".out": ".o",
        "attention": "1", "shortcut": "conv_sc", "normal.u": "u0", "normal.sigma": "sv0",
        ".mean": ".stored_mean", ".variance": ".stored_var",
    }  # fmt: skip
    torch.manual_seed(0)
    network = BigGANGenerator(biggan_config("generator", config), (3, 32, 32), 5)
    weights = {}
    for key, value in network.state_dict().items():
        if key.startswith("blocks."):
            parts = key.split(".", 2)
            rest = parts[2].replace("norm1", "bn1").replace("norm2", "bn2")
            key = f"blocks.{parts[1]}." + ("" if rest.startswith("attention") else "0.") + rest
        for ours, theirs in names.items():
            starts = key.startswith(ours) and not ours.startswith(".")
            if starts or (not ours.startswith(("stem", "norm.", "head")) and ours in key):
                key = key.replace(ours, theirs, 1)
        weights[key] = value
    return weights


def discriminator_weights(config: dict[str, Any]) -> dict[str, Tensor]:
    """Random weights under the port's names, of a discriminator without attention."""
    torch.manual_seed(1)
    network = BigGANDiscriminator(biggan_config("discriminator", config), (3, 32, 32), 5)
    weights = {}
    for key, value in network.state_dict().items():
        key = re.sub(r"^(blocks\.\d+)\.", r"\1.0.", key).replace("shortcut", "conv_sc")
        key = key.replace("normal.u", "u0").replace("normal.sigma", "sv0")
        weights[re.sub("^head", "linear", re.sub("^classes", "embed", key))] = value
    return weights


def hub_weights(hub: dict[str, Any] = HUB) -> dict[str, Tensor]:
    """Random weights in the layout of the hub's files, for four channels and attention."""
    place = hub["attention_layer_position"]
    layers = [(4 * inputs, 4 * outputs) for _, inputs, outputs in hub["layers"]]
    width, last = layers[place - 1][1], layers[-1][1]
    rng = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=rng) / 3

    weights = {"embeddings.weight": draw(2, 5)}

    def normalized(key: str, *shape: int, bias: bool = True) -> None:
        columns = math.prod(shape[1:])
        key = f"generator.{key}"
        weights[f"{key}.weight_orig"] = draw(*shape)
        weights[f"{key}.weight_u"], weights[f"{key}.weight_v"] = draw(shape[0]), draw(columns)
        if bias:
            weights[f"{key}.bias"] = draw(shape[0])

    def statistics(key: str, width: int) -> None:
        weights[f"generator.{key}.running_means"] = draw(5, width)
        weights[f"generator.{key}.running_vars"] = 0.5 + draw(5, width).abs()

    normalized("gen_z", 16 * layers[0][0], 5)
    for index, (inputs, outputs) in enumerate(layers):
        index, hidden = index + (index >= place), inputs // 4
        for i, (a, b, kernel) in enumerate(
            [(inputs, hidden, 1), (hidden, hidden, 3), (hidden, hidden, 3), (hidden, outputs, 1)]
        ):
            normalized(f"layers.{index}.conv_{i}", b, a, kernel, kernel)
            statistics(f"layers.{index}.bn_{i}", a)
            normalized(f"layers.{index}.bn_{i}.scale", a, 5, bias=False)
            normalized(f"layers.{index}.bn_{i}.offset", a, 5, bias=False)
    few, half = width // 8, width // 2
    for part, b, a in (
        ("theta", few, width), ("phi", few, width), ("g", half, width), ("o_conv", width, half)
    ):  # fmt: skip
        normalized(f"layers.{place}.snconv1x1_{part}", b, a, 1, 1, bias=False)
    weights[f"generator.layers.{place}.gamma"] = torch.tensor([0.6])
    statistics("bn", last)
    weights |= {"generator.bn.weight": 1 + draw(last), "generator.bn.bias": draw(last)}
    normalized("conv_to_rgb", last, last, 3, 3)
    return weights


def test_a_ports_generator_is_loaded() -> None:
    weights = port_weights(PORT)
    network = load_reference("biggan", "generator", PORT, weights)
    assert isinstance(network, BigGANGenerator) and not network.training
    assert torch.equal(network.stem.weight, weights["linear.weight"])
    assert torch.equal(network.blocks[1].attention.key.normal.u, weights["blocks.1.1.phi.u0"])
    assert torch.equal(network.norm.variance, weights["output_layer.0.stored_var"])


def test_names_of_both_networks() -> None:
    plain, deep = biggan_config("generator", PORT), biggan_config("discriminator", DEEP)
    assert rename("generator", "linear.u0", plain) == ("stem.normal.u", 0)
    assert rename("discriminator", "linear.sv1", plain) == ("head.normal.sigma", 1)
    assert rename("discriminator", "embed.weight", plain) == ("classes.weight", None)
    assert rename("generator", "blocks.2.1.o.weight", plain)[0] == "blocks.2.attention.out.weight"
    # The deep discriminator's stages hold two blocks and attention.
    assert rename("discriminator", "blocks.1.1.conv_sc.bias", deep)[0] == "blocks.3.shortcut.bias"
    assert rename("discriminator", "blocks.1.2.gamma", deep)[0] == "blocks.3.attention.gamma"


def test_settings_of_the_port() -> None:
    found = biggan_config("generator", PORT)
    assert found.z_width == 16  # rounded down to a multiple of four parts
    assert found == BigGANConfig(
        channels=2, z_width=16, shared_width=6, generator_attention=(16,), spectral_eps=1e-6
    )
    assert biggan_config("generator", DEEP).z_width == 18
    # Its discriminators of 32 pixels attend everywhere or nowhere; unknown sides are passed over.
    for text, sides in (("16", (16, 8)), ("8_64", ()), ("0", ())):
        found = biggan_config("discriminator", PORT | {"D_attn": text})
        assert found.discriminator_attention == sides
    large = biggan_config("discriminator", {"resolution": 128, "D_attn": "64_256"})
    assert large.discriminator_attention == (64,)
    assert biggan_config("generator", {"G_shared": False}).shared_width == 0
    assert biggan_config("generator", {}).shared_width == 128  # as wide as z where it is 0


def test_wrong_weights_are_named() -> None:
    weights = port_weights(PORT)
    for change, message in (
        ({"what": torch.ones(1)}, r"^the biggan generator has \(1,\) for `what`; expected none$"),
        ({"linear.bias": torch.ones(3)}, r"\(3,\) for `linear.bias`; expected \(128,\)$"),
        ({"linear.bias": torch.ones(128).int()}, r"`linear.bias` is torch.int32; expected"),
    ):
        with pytest.raises(CheckpointError, match=message):
            load_reference("biggan", "generator", PORT, weights | change)
    del weights["blocks.0.0.bn1.stored_mean"]
    with pytest.raises(CheckpointError, match=r"no tensor for `blocks.0.norm1.mean`"):
        load_reference("biggan", "generator", PORT, weights)


def test_the_hubs_layout_is_loaded() -> None:
    weights = hub_weights()
    network = hub_generator(HUB, weights)
    labels, z = torch.tensor([1, 4]), torch.randn(2, 3, generator=torch.Generator().manual_seed(5))
    assert network(z, labels).shape == (2, 1, 3, 16, 16)
    # The first layer by hand: noise before class, quotients, rows ordered (row, column, channel).
    key = "generator.gen_z"
    matrix = weights[f"{key}.weight_orig"]
    matrix = matrix / (weights[f"{key}.weight_u"] @ matrix @ weights[f"{key}.weight_v"])
    condition = torch.cat([z, weights["embeddings.weight"].T[labels]], dim=1)
    first = condition @ matrix.T + weights[f"{key}.bias"]
    expected = first.view(2, 4, 4, 16).permute(0, 3, 1, 2)
    mine = network.stem(network.map(z, labels)).view(2, 16, 4, 4)
    torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-5)
    variance = weights["generator.bn.running_vars"][4]
    torch.testing.assert_close(network.norm.variance + 1e-5, variance + 1e-4)


def test_a_hubs_generator_has_the_statistics_of_no_truncation() -> None:
    weights = hub_weights()
    network = hub_generator(HUB, weights)
    assert network.norm.mean.equal(weights["generator.bn.running_means"][-1])


def test_a_hubs_generator_is_calibrated_for_other_truncations() -> None:
    network = hub_generator(HUB, hub_weights())
    rng = torch.Generator().manual_seed(0)
    z, labels = torch.randn(32, 3, generator=rng), torch.arange(32) % 5
    before = network(z, labels)
    network.calibrate(network.truncate_noise(z, 0.3), labels, batch_size=16)
    assert not torch.allclose(before, network(z, labels), atol=1e-3)


def test_the_hubs_published_layers_are_ours() -> None:
    layers = [[False, 16, 16], [True, 16, 16], [False, 16, 16], [True, 16, 8], [False, 8, 8],
              [True, 8, 4], [False, 4, 4], [True, 4, 2], [False, 2, 2], [True, 2, 1]]  # fmt: skip
    published = HUB | {"layers": layers, "attention_layer_position": 8, "channel_width": 128}
    model, found = hub_config(published)
    assert found == generator_layers(model, (3, 128, 128))
    assert model.generator_attention == (64,)


def test_a_hubs_wrong_files_are_named() -> None:
    with pytest.raises(ConfigError, match="is not the config of a hub generator"):
        hub_generator({"layers": []}, {})
    weights = hub_weights()
    del weights["generator.gen_z.weight_u"]
    with pytest.raises(CheckpointError, match=r"are not those of a hub generator: 'generator\.gen"):
        hub_generator(HUB, weights)


def test_a_deep_discriminator_wants_its_own_weights() -> None:
    with torch.device("meta"):
        network = BigGANDiscriminator(biggan_config("discriminator", DEEP), (3, 32, 32), 5)
    assert len(network.blocks) == 6
    with pytest.raises(CheckpointError, match=r"^the biggan discriminator has "):
        load_reference("biggan", "discriminator", DEEP, port_weights(PORT))
