"""Weights of other implementations become networks of ours, and snapshots.

Each system has a file with its table of names and what its shapes tell.
"""

from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from scalegan.config.models import ModelConfig
from scalegan.config.reading import parse_model
from scalegan.config.schema import AutoencoderConfig
from scalegan.convert import biggan, gansformer, gat, ladagan
from scalegan.convert.renaming import Sizes, Weights
from scalegan.errors import CheckpointError, ConfigError
from scalegan.inference.snapshot import Card, save_snapshot
from scalegan.models.biggan import generator_layers
from scalegan.runtime.files import read_json
from scalegan.runtime.foreign import read_tensors

Parts = dict[str, Weights]
"""Weights by role: "generator" and, where there is one, "discriminator"."""


class System(NamedTuple):
    """How another implementation's weights are recognized, sized and loaded."""

    title: str
    generator: str
    """A tensor that no other system's networks have under this name."""
    discriminator: str
    module: ModuleType
    """With `sizes_of` its weights, and `network` of a role, our config, sizes and weights."""


SYSTEMS = {
    "gat": System(
        "GAT's official code", "final_layers.0.adaLN_modulation.1.weight", "cls_token", gat
    ),
    "ladagan": System("LadaGAN's official code", "init.0.weight", "inp_conv.0.weight", ladagan),
    "biggan": System("BigGAN's PyTorch port", "output_layer.2.weight", "embed.weight", biggan),
    "gansformer": System(
        "GANsformer's official code", "synthesis.b4.const", "b4.conv.weight", gansformer
    ),
}
HUB, HUB_SIGN = "biggan-hub", "embeddings.weight"
"""BigGAN-deep of the hub, whose config.json lists its layers."""
ROLES = {
    "generator": "generator",
    "G": "generator",
    "discriminator": "discriminator",
    "D": "discriminator",
    "ema": "average",
    "G_ema": "average",
    "generator_ema": "average",
}
"""What networks are called in files that hold several."""


def convert(
    source: Path,
    out: Path,
    class_names: Path | None = None,
    is_trusted: bool = False,
    system: str = "",
    model: Path | None = None,
) -> list[str]:
    """Turn weights of another implementation into a snapshot.

    Sizes are read off the tensors' shapes as far as these tell them. The averaged generator is
    taken where there is one.

    Args:
        source: .safetensors, or a pickle of tensors (opened in a child process only).
        out: the snapshot's folder; must not exist.
        class_names: a text file with one name a line; numbers if not given.
        is_trusted: open a pickle that weights-only loading refuses, in the child process.
        system: one of `SYSTEMS`, or `HUB`; empty = as the tensors' names say.
        model: a JSON file with fields of our config of the architecture, which go before what the
            shapes say; of the hub's BigGAN the config.json beside its weights.

    Returns:
        Lines on what was read and written.

    Raises:
        CheckpointError: if the file is not what it should be, or `out` exists.
        ConfigError: if a size is missing or cannot be built.
    """
    if out.exists():
        raise CheckpointError(f"`{out}` exists already", "choose another folder")
    tensors = {k.removeprefix("weights."): v for k, v in read_tensors(source, is_trusted).items()}
    given = read_model(model)
    is_hub = system == HUB or (not system and HUB_SIGN in tensors)
    parts = {"generator": tensors} if is_hub else split_networks(tensors)
    system = HUB if is_hub else system or recognize(parts, source)
    config, sizes, networks = (of_hub if is_hub else of_system)(system, parts, given)
    lines = [f"system: {HUB if is_hub else f'{system} ({SYSTEMS[system].title})'}"]
    lines += [f"{role}: {len(parts[role])} tensors of `{source}`" for role in networks]
    if assumed := [name for name in sizes.assumed if name not in given]:
        values = ", ".join(f"`{name}` {getattr(config, name)}" for name in assumed)
        lines.append(f"notice: the tensors do not show {values}; state others by --model FILE")
    card = Card(
        name=source.stem,
        model=config,
        autoencoder=AutoencoderConfig(),
        shape=sizes.shape,
        class_names=_class_names(class_names, sizes.num_classes),
        features=sizes.features,
        step=int(tensors.get("steps", torch.tensor(0))),
    )
    save_snapshot(out, card, networks["generator"], networks.get("discriminator"))
    return [*lines, f"snapshot: `{out}`; next: scalegan info {out}"]


def of_system(
    system: str, parts: Parts, given: dict[str, Any]
) -> tuple[ModelConfig, Sizes, dict[str, nn.Module]]:
    """Config, sizes and networks of one of `SYSTEMS`.

    Raises:
        ConfigError: if a field is neither given nor to be seen in tensors, or not one we can build.
        CheckpointError: if tensors do not fit.
    """
    if "generator" not in parts:
        raise CheckpointError(f"the file holds no generator in the names of {system}")
    try:
        sizes = SYSTEMS[system].module.sizes_of(parts)
    except (KeyError, ValueError, IndexError, TypeError) as error:
        title = SYSTEMS[system].title
        raise CheckpointError(f"the tensors are not those of {title}: {error!r}") from None
    missing = [name for name in sizes.missing if name not in given]
    if missing:
        raise ConfigError(
            f"the tensors of a {system} do not show {', '.join(f'`{name}`' for name in missing)}",
            "state them in a JSON file, --model FILE; `scalegan train --help` and "
            "docs/architectures.md say what they are",
        )
    model = parse_model({"architecture": system} | sizes.model | given)
    build = SYSTEMS[system].module.network
    return model, sizes, {role: build(role, model, sizes, parts[role]) for role in parts}


def of_hub(
    system: str, parts: Parts, given: dict[str, Any]
) -> tuple[ModelConfig, Sizes, dict[str, nn.Module]]:
    """Config, sizes and the generator of the hub's BigGAN-deep weights, without truncation.

    Raises:
        ConfigError: if its config.json is missing or not one.
        CheckpointError: if it does not fit the weights, or lists other blocks than we build.
    """
    if not given:
        raise ConfigError(
            f"weights of {system} need the `config.json` that lies beside them",
            "name it: --model config.json",
        )
    model, layers = biggan.hub_config(given)
    generator = biggan.hub_generator(given, parts["generator"])
    sizes = Sizes({}, (3, given["output_dim"], given["output_dim"]), given["num_classes"])
    if layers != generator_layers(model, sizes.shape):
        raise CheckpointError("the config lists other blocks than a BigGAN-deep of its size has")
    return model, sizes, {"generator": generator}


def recognize(parts: Parts, source: Path) -> str:
    """The system whose names the tensors have.

    Raises:
        CheckpointError: if there is none, or they fit several.
    """
    found = [
        name
        for name, system in SYSTEMS.items()
        if system.generator in parts.get("generator", {})
        or system.discriminator in parts.get("discriminator", {})
    ]
    if len(found) != 1:
        what = f"fit {' and '.join(found)}" if found else "have the names of no system we know"
        raise CheckpointError(
            f"the tensors of `{source}` {what}", f"--system {'|'.join([*SYSTEMS, HUB])}"
        )
    return found[0]


def split_networks(tensors: dict[str, Tensor]) -> Parts:
    """Weights by role, from keys such as `ema.blocks.0...`, or from one bare network's keys."""
    parts: Parts = {}
    for key, value in tensors.items():
        first, _, rest = key.partition(".")
        if first in ROLES and rest:
            parts.setdefault(ROLES[first], {})[rest.removeprefix("module.")] = value
    if not parts:
        is_judged = any(system.discriminator in tensors for system in SYSTEMS.values())
        parts["discriminator" if is_judged else "generator"] = {
            key.removeprefix("module."): value for key, value in tensors.items()
        }
    if "average" in parts:
        parts["generator"] = parts.pop("average")
    return {role: parts[role] for role in ("generator", "discriminator") if role in parts}


def read_model(path: Path | None) -> dict[str, Any]:
    """The fields that a JSON file states; none where there is no file.

    Raises:
        ConfigError: if it cannot be read or is not a table.
    """
    if path is None:
        return {}
    try:
        found = read_json(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"`{path}` cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"`{path}` does not hold a table of sizes")
    return found


def _class_names(path: Path | None, count: int) -> list[str]:
    if path is None:
        return [str(index) for index in range(count)]
    names = path.read_text(encoding="utf-8").splitlines()
    if len(names) != count:
        raise CheckpointError(f"`{path}` has {len(names)} lines; the model has {count} classes")
    return names
