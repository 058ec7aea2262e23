"""Weights of other implementations become networks of ours, and the official GAT's a snapshot.

Parity tests and conversion use the same tables, those of `references`.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scalegan.config.schema import AutoencoderConfig
from scalegan.convert import biggan, gansformer, gat, ladagan
from scalegan.errors import CheckpointError, ConfigError
from scalegan.inference.snapshot import Card, save
from scalegan.models.biggan import generator_layers
from scalegan.runtime.files import read_json
from scalegan.runtime.foreign import read_tensors

Read = Callable[[dict[str, Any], dict[str, Tensor]], nn.Module]

SYSTEMS: dict[str, dict[str, Read]] = {
    "gat": {"generator": gat.generator, "discriminator": gat.discriminator},
    "ladagan": {"generator": ladagan.generator, "discriminator": ladagan.discriminator},
    "biggan": {"generator": biggan.generator, "discriminator": biggan.discriminator},
    "biggan-hub": {"generator": biggan.hub_generator},
    "gansformer": {"generator": gansformer.generator, "discriminator": gansformer.discriminator},
}
"""By whose weights and which network: what reads (config, weights)."""


def load_reference(
    system: str, role: str, config: dict[str, Any], weights: dict[str, Tensor]
) -> nn.Module:
    """Build one of our networks from the weights of a reference implementation.

    Args:
        system: whose weights; one of `SYSTEMS`.
        role: "generator" or "discriminator".
        config: sizes under the reference's names; see the system's file in `references`.
        weights: every tensor of the network, under the reference's keys.

    Returns:
        The network, in evaluation mode.

    Raises:
        ConfigError: if the system, the role or a size is not one we can build.
        CheckpointError: if a tensor is missing, unknown or of the wrong shape.
    """
    if system not in SYSTEMS:
        known = ", ".join(f"`{name}`" for name in SYSTEMS)
        raise ConfigError(f"weights of `{system}` cannot be read; known are {known}")
    if role not in SYSTEMS[system]:
        known = " or ".join(f"`{name}`" for name in SYSTEMS[system])
        raise ConfigError(f"`{role}` is not a network of {system}; expected {known}")
    return SYSTEMS[system][role](config, weights)


def convert(
    source: Path,
    out: Path,
    class_names: Path | None = None,
    is_trusted: bool = False,
    hub_config: Path | None = None,
) -> list[str]:
    """Turn a foreign checkpoint into a snapshot: GAT's official one, or BigGAN-deep's from the hub.

    Sizes of GAT are read off the tensors' shapes. Its averaged generator is taken where there is
    one.

    Args:
        source: .safetensors, or a pickle of the official code (opened in a child process only).
        out: the snapshot's folder; must not exist.
        class_names: a text file with one name a line; numbers if not given.
        is_trusted: open a pickle that weights-only loading refuses, in the child process.
        hub_config: the `config.json` that lies beside the hub's BigGAN-deep weights.

    Returns:
        Lines on what was read and written.

    Raises:
        CheckpointError: if the file is not what it should be, or `out` exists.
    """
    if out.exists():
        raise CheckpointError(f"`{out}` exists already", "choose another folder")
    tensors = read_tensors(source, is_trusted)
    if hub_config:
        card, networks = of_hub(tensors, hub_config)
        lines = [f"generator: {len(tensors)} tensors of `{source}`"]
    else:
        card, networks, lines = of_gat(tensors, source)
    names = card.class_names
    if class_names:
        names = class_names.read_text(encoding="utf-8").splitlines()
        if len(names) != len(card.class_names):
            raise CheckpointError(
                f"`{class_names}` has {len(names)} lines; the model has {len(card.class_names)} "
                "classes"
            )
    card = replace(card, name=source.stem, class_names=names)
    save(out, card, networks["generator"], networks.get("discriminator"))
    return [*lines, f"snapshot: `{out}`; next: scalegan info {out}"]


def of_hub(tensors: dict[str, Tensor], config: Path) -> tuple[Card, dict[str, nn.Module]]:
    """A card and the generator of the hub's BigGAN-deep weights, without truncation."""
    try:
        sizes = read_json(config)
    except ValueError as error:
        raise CheckpointError(f"`{config}` cannot be read: {error}") from None
    model, layers = biggan.hub_config(sizes)
    generator = biggan.hub_generator(sizes, tensors)
    shape = (3, sizes["output_dim"], sizes["output_dim"])
    if layers != generator_layers(model, shape):
        raise CheckpointError(f"`{config}` lists other blocks than a BigGAN-deep of its size has")
    names = [str(index) for index in range(sizes["num_classes"])]
    card = Card("", model, AutoencoderConfig(), shape, names)
    return card, {"generator": generator}


def of_gat(
    tensors: dict[str, Tensor], source: Path
) -> tuple[Card, dict[str, nn.Module], list[str]]:
    """A card and the networks of the official GAT code's weights."""
    parts = split_networks(tensors)
    if "generator" not in parts:
        raise CheckpointError(f"`{source}` holds no generator in the official code's key names")
    networks, lines = {}, []
    for role, weights in parts.items():
        networks[role] = load_reference("gat", role, gat.infer(role, weights), weights)
        lines.append(f"{role}: {len(weights)} tensors of `{source}`")
    config = gat.infer("generator", parts["generator"])
    card = Card(
        name="",
        model=gat.model_config(config),
        autoencoder=AutoencoderConfig(),
        shape=(config["in_channels"], config["input_size"], config["input_size"]),
        class_names=[str(index) for index in range(config["num_classes"])],
        features=gat.infer("discriminator", parts["discriminator"])["z_dim"]
        if "discriminator" in parts
        else 0,
        step=int(tensors.get("steps", torch.tensor(0))),
    )
    return card, networks, lines


def split_networks(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Weights by role, from keys such as `ema.blocks.0...`, or from one bare network's keys."""
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        first, _, rest = key.removeprefix("weights.").partition(".")
        if first in ("ema", "generator", "discriminator"):
            parts.setdefault(first, {})[rest.removeprefix("module.")] = value
    if not parts and "pos_embed" in tensors:
        parts["discriminator" if "cls_token" in tensors else "generator"] = tensors
    if "ema" in parts:
        parts["generator"] = parts.pop("ema")
    return parts
