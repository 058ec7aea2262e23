"""Networks of ours from reference weights and the settings that the reference builds them by.

`scalegan convert` reads sizes off the tensors. Recorded cases also hold the authors' own settings;
these functions turn them into ours, so that the two ways can be compared.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from scalegan.config.models import (
    BigGANConfig,
    GANsformerConfig,
    GATConfig,
    LadaGANConfig,
    ModelConfig,
)
from scalegan.convert import biggan
from scalegan.convert.convert import SYSTEMS
from scalegan.convert.renaming import Sizes
from scalegan.models.biggan import GENERATOR_WIDTHS

Settings = Mapping[str, Any]
Weights = dict[str, Tensor]


def load_reference(system: str, role: str, settings: Settings, weights: Weights) -> Any:
    """One of our networks, in evaluation mode, from a reference's settings and weights.

    Args:
        system: whose weights: "gat", "ladagan", "biggan", "biggan-hub" or "gansformer".
        role: "generator" or "discriminator".
        settings: under the reference's names.
        weights: every tensor of the network, under the reference's keys.
    """
    if system == "biggan-hub":
        return biggan.hub_generator(settings, weights)
    model, sizes = SETTINGS[system](role, settings, weights)
    return SYSTEMS[system].module.network(role, model, sizes, weights)


def of_gat(role: str, settings: Settings, weights: Weights) -> tuple[GATConfig, Sizes]:
    model = GATConfig(
        width=settings["hidden_size"],
        depth=settings["depth"],
        num_heads=settings["num_heads"],
        patch_size=settings["patch_size"],
        mlp_ratio=float(settings.get("mlp_ratio", 4.0)),
        z_width=settings["latent_size"],
        label_width=settings.get("cmap_dim", 2048),
        projector_width=settings.get("projector_dim", 2048),
    )
    side, features = settings["input_size"], settings.get("z_dim", 768)
    shape = (settings.get("in_channels", 4), side, side)
    return model, Sizes({}, shape, settings["num_classes"], features)


def of_ladagan(role: str, settings: Settings, weights: Weights) -> tuple[LadaGANConfig, Sizes]:
    published = LadaGANConfig()
    side = settings["img_size"]

    def stages(name: str, default: tuple[int, ...]) -> tuple[int, ...]:
        value = settings.get(name, default)
        return (value,) * 3 if isinstance(value, int) else tuple(value)

    if role == "generator":
        model = LadaGANConfig(
            z_width=settings.get("noise_dim", published.z_width),
            widths=stages("dim", published.widths),
            num_heads=stages("heads", published.num_heads),
            hidden_widths=stages("mlp_dim", published.hidden_widths),
        )
        return model, Sizes({}, (len(weights["ch_conv.weight"]), side, side), 0)
    encoders = {32: (128, 256), 64: (64, 128, 256), 128: (32, 64, 128, 256)}
    narrow, wide = settings.get("out_dim", published.out_widths)
    model = LadaGANConfig(
        encoder_widths=tuple(settings.get("enc_dim", encoders[side])),
        discriminator_heads=settings.get("heads", published.discriminator_heads),
        discriminator_hidden=settings.get("mlp_dim", published.discriminator_hidden),
        out_widths=(narrow, wide),
    )
    return model, Sizes({}, (weights["inp_conv.0.weight"].shape[1], side, side), 0)


# The settings of the PyTorch port where a config is silent.
PORT: dict[str, Any] = {
    "model": "BigGAN",
    "resolution": 128,
    "n_classes": 1000,
    "G_ch": 64,
    "D_ch": 64,
    "G_depth": 2,
    "D_depth": 2,
    "G_attn": "64",
    "D_attn": "64",
    "D_wide": True,
    "dim_z": 128,
    "G_shared": True,
    "shared_dim": 0,
    "hier": False,
    "SN_eps": 1e-12,
    "BN_eps": 1e-5,
    "num_G_SVs": 1,
    "num_D_SVs": 1,
    "num_G_SV_itrs": 1,
    "num_D_SV_itrs": 1,
}


def of_biggan(role: str, settings: Settings, weights: Weights) -> tuple[BigGANConfig, Sizes]:
    sizes = {**PORT, **settings}
    side = sizes["resolution"]
    return biggan_config(role, settings), Sizes({}, (3, side, side), sizes["n_classes"])


def biggan_config(role: str, settings: Settings) -> BigGANConfig:
    """The port's settings as ours; one config fits both networks where G and D agree in width."""
    sizes = {**PORT, **settings}
    letter, side, is_deep = role[0].upper(), sizes["resolution"], sizes["model"] == "BigGAN-deep"
    z_width = sizes["dim_z"]
    if sizes["hier"] and not is_deep:  # rounded down without a word
        z_width -= z_width % len(GENERATOR_WIDTHS[side])
    generator_sides = [8 << i for i in range(8) if 8 << i <= side]
    discriminator_sides = [side >> i for i in range(1, 8) if side >> i >= 4]
    return BigGANConfig(
        is_deep=is_deep,
        channels=sizes[f"{letter}_ch"],
        z_width=z_width,
        shared_width=(sizes["shared_dim"] or sizes["dim_z"]) if sizes["G_shared"] else 0,
        is_hierarchical=sizes["hier"] or is_deep,
        generator_attention=attended(sizes["G_attn"], generator_sides),
        # The port's table for 32 pixels says 16 of every block, whose sides are 16, 8, 8 and 8.
        discriminator_attention=attended(sizes["D_attn"], discriminator_sides)
        if side != 32
        else ((16, 8) if attended(sizes["D_attn"], [16]) else ()),
        blocks_per_stage=sizes[f"{letter}_depth"] if is_deep else 2,
        is_wide=sizes["D_wide"],
        norm_eps=float(sizes["BN_eps"]),
        spectral_eps=float(sizes["SN_eps"]),
        power_iterations=sizes[f"num_{letter}_SV_itrs"],
        num_singular_values=sizes[f"num_{letter}_SVs"],
    )


def attended(text: str, sides: list[int]) -> tuple[int, ...]:
    """The port's list of sides, "32_64", without those that no block has ("0" is none)."""
    named = {int(number) for number in re.findall(r"\d+", text)}
    return tuple(side for side in sides if side in named)


def of_gansformer(
    role: str, settings: Settings, weights: Weights
) -> tuple[GANsformerConfig, Sizes]:
    side = settings["img_resolution"]
    sizes = Sizes({}, (settings["img_channels"], side, side), settings.get("c_dim", 0))
    if role == "generator":
        return gansformer_config(settings), sizes
    model = GANsformerConfig(
        channel_base=settings.get("channel_base", 32768),
        channel_max=settings.get("channel_max", 512),
        discriminator=ARCHITECTURES[settings.get("architecture", "resnet")],
        deviation_group=settings.get("epilogue_kwargs", {}).get("mbstd_group_size", 4),
    )
    return model, sizes


ARCHITECTURES: dict[str, Any] = {"resnet": "residual", "skip": "skip", "orig": "plain"}
INTEGRATIONS: dict[str, Any] = {"mul": "multiply", "add": "add", "both": "both"}
# "batch" behaves as "layer" in the reference.
NORMS: dict[str | None, Any] = {
    None: "none",
    "layer": "layer",
    "instance": "instance",
    "batch": "layer",
}


def gansformer_config(settings: Settings) -> GANsformerConfig:
    """The config that the arguments of a generator, or of a part of it, amount to."""
    mapping = {**settings, **settings.get("mapping_kwargs", {})}
    synthesis = {**settings, **settings.get("synthesis_kwargs", {})}
    latent = settings.get("w_dim") or settings.get("y_dim") or settings.get("to_dim", 32)
    z_width = settings.get("z_dim", latent)
    return GANsformerConfig(
        num_components=settings.get("k", 1) - 1,
        latent_width=latent,
        z_width=0 if z_width == latent else z_width,
        channel_base=synthesis.get("channel_base", 32768),
        channel_max=synthesis.get("channel_max", 512),
        attention="duplex" if synthesis.get("kmeans") else "simplex",
        num_heads=synthesis.get("num_heads", 1),
        min_attention_side=2 ** max(2, synthesis.get("start_res", 0)),
        max_attention_side=2 ** (synthesis.get("end_res", 8) - 1),
        integration=INTEGRATIONS[synthesis.get("integration", "add")],
        norm=NORMS[synthesis.get("norm")],
        component_gate=synthesis.get("to_gate", False),
        pixel_gate=synthesis.get("from_gate", False),
        clusterings=synthesis.get("kmeans_iters", 1),
        carries_assignments=synthesis.get("iterative", False),
        component_positions=bool(mapping.get("use_pos") or synthesis.get("use_pos")),
        component_attention=mapping.get("ltnt2ltnt", False),
        mapping="residual" if mapping.get("resnet") else "plain",
        mapping_depth=mapping.get("num_layers", 8),
        mapping_heads=mapping.get("num_heads", 1),
        synthesis=ARCHITECTURES[synthesis.get("architecture", "skip")],
        is_styled=synthesis.get("style", True),
    )


SETTINGS: dict[str, Callable[[str, Settings, Weights], tuple[ModelConfig, Sizes]]] = {
    "gat": of_gat,
    "ladagan": of_ladagan,
    "biggan": of_biggan,
    "gansformer": of_gansformer,
}
