"""DINOv2 as a frozen teacher: normalized images to the features of all tokens.

Source: DINOv2 (arXiv 2304.07193), registers (arXiv 2309.16588); networks and weights through
`transformers`. The position table is resampled once, as GAT's authors do (spec section 9), not in
every forward as the library does by itself. T tokens of the grid, G its side.
"""

import hashlib
import json
import logging
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from scalegan.config.schema import TEACHER_WIDTHS
from scalegan.errors import ConfigError
from scalegan.interfaces import Features, Images

PLAIN, REGISTERS = "dinov2", "dinov2_with_registers"  # `model_type` in the library's config.json


MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as it was trained


class Variant(NamedTuple):
    """A published DINOv2: where it lies on the hub, and what its width does not tell."""

    hub: str
    kind: str
    depth: int


VARIANTS = {
    "dinov2-s": Variant("facebook/dinov2-small", PLAIN, 12),
    "dinov2-b": Variant("facebook/dinov2-base", PLAIN, 12),
    "dinov2-l": Variant("facebook/dinov2-large", PLAIN, 24),
    "dinov2-s-reg": Variant("facebook/dinov2-with-registers-small", REGISTERS, 12),
    "dinov2-b-reg": Variant("facebook/dinov2-with-registers-base", REGISTERS, 12),
    "dinov2-l-reg": Variant("facebook/dinov2-with-registers-large", REGISTERS, 24),
}


class Dinov2:
    """A frozen network in float32, or in whatever autocast it is called under.

    Args:
        network: `Dinov2Model` or `Dinov2WithRegistersModel`, square positions; changed in place.
        side: side of the images, a multiple of the patch side.
        digest: what identifies the weights.

    Raises:
        ConfigError: if the side is not a multiple of the patch side.
    """

    def __init__(self, network: Any, side: int, digest: str) -> None:
        patch = int(network.config.patch_size)
        if side % patch:
            raise ConfigError(
                f"`objective.alignment.side` is {side}; the teacher's patches need a multiple of "
                f"{patch}"
            )
        self.network, self.digest = network.requires_grad_(False).eval(), digest
        self.width = int(network.config.hidden_size)
        self.side = side
        self.num_registers = int(getattr(network.config, "num_register_tokens", 0))
        embeddings = network.embeddings
        table = resample_positions(embeddings.position_embeddings.detach(), side // patch)
        # With as many positions as patches the library adds the table as it is.
        embeddings.position_embeddings = nn.Parameter(table, requires_grad=False)

    @torch.no_grad()
    def __call__(self, images: Float[Tensor, "N 3 Q Q"]) -> Float[Tensor, "N S E"]:
        """Tokens after the last norm: class token first, then patches row by row; no registers.

        Raises:
            ConfigError: if the images do not have the side that positions were made for.
        """
        if images.shape[-1] != self.side:
            raise ConfigError(
                f"the teacher was made for images of side {self.side}, not {images.shape[-1]}"
            )
        tokens = self.network(pixel_values=images).last_hidden_state.float()
        return torch.cat([tokens[:, :1], tokens[:, 1 + self.num_registers :]], dim=1)


def resample_positions(table: Float[Tensor, "1 S E"], grid: int) -> Float[Tensor, "1 R E"]:
    """The position table of another grid: bicubic with antialias; the class token's is kept."""
    old = math.isqrt(table.shape[1] - 1)
    if old == grid:
        return table
    maps = table[:, 1:].float().mT.unflatten(2, (old, old))  # (1, E, G, G)
    maps = F.interpolate(maps, size=grid, mode="bicubic", antialias=True)
    return torch.cat([table[:, :1], maps.flatten(2).mT.to(table.dtype)], dim=1)


def dinov2(name: str, path: str, device: torch.device, side: int = 224) -> Dinov2:
    """Load a teacher.

    Args:
        name: one of `VARIANTS`.
        path: folder that `save_pretrained` wrote; empty = the hub's copy, or its cache.
        device: where it computes.
        side: side of the images it is shown.

    Raises:
        ConfigError: if it is not there, is something else, or lacks weights.
    """
    variant = VARIANTS[name]
    where = str(_local(name, path)) if path else variant.hub
    network, info = _load(name, where, is_local=bool(path))
    unfilled = sorted({str(key) for part in ("missing_keys", "mismatched_keys")
                       for key in info[part] if "mask_token" not in str(key)})  # fmt: skip
    if unfilled:  # the library would leave them random, and only warn
        raise ConfigError(
            f"the weights of teacher `{name}` in `{where}` lack {len(unfilled)} tensors, "
            f"`{unfilled[0]}` first"
        )
    return Dinov2(network.to(device), side, digest_of(network.state_dict()))


class Dinov2Features:
    """The class token of a DINOv2, as a distance in its features is defined (metrics.md, 2.2).

    Images are stretched to 224 by antialiased bicubic in float, neither clipped nor rounded, as
    EDM2 does; dgm-eval's Pillow on 8 bits gives nearly the same.
    """

    def __init__(self, network: Dinov2, name: str, device: torch.device) -> None:
        self.network, self.name, self.device = network, name, device
        self.mean, self.deviation = (
            torch.tensor(values, device=device).view(3, 1, 1) for values in (MEAN, DEVIATION)
        )

    @torch.no_grad()
    def __call__(self, images: Images) -> Features:
        x, side = images.to(self.device).float(), self.network.side
        if x.shape[-1] != side:
            x = F.interpolate(x, size=(side, side), mode="bicubic", antialias=True)
        return Features(self.network((x / 255 - self.mean) / self.deviation)[:, 0])

    def identity(self) -> dict[str, Any]:
        return {
            "kind": self.name,
            "label": f"{self.name} {self.network.digest[:4]}",
            "digest": self.network.digest,
            "layer": "class token after the last norm",
            "resize": f"bicubic with antialias in float to {self.network.side}, stretched",
        }


def dinov2_features(name: str, path: str, device: torch.device) -> Dinov2Features:
    """A DINOv2 as a feature network; arguments and errors as `dinov2`."""
    return Dinov2Features(dinov2(name, path, device), name, device)


def untrained(name: str, path: str, device: torch.device, side: int = 224) -> Dinov2:
    """A teacher's network without its weights: it costs the same, and teaches nothing."""
    library = transformers()
    variant = VARIANTS[name]
    kind = library.Dinov2Config
    if variant.kind == REGISTERS:
        kind = library.Dinov2WithRegistersConfig
    if path:
        config = kind.from_pretrained(str(_local(name, path)), local_files_only=True)
    else:
        config = kind(
            hidden_size=TEACHER_WIDTHS[name],
            num_hidden_layers=variant.depth,
            num_attention_heads=TEACHER_WIDTHS[name] // 64,
            image_size=518,
            patch_size=14,
        )
    with device:
        return Dinov2(_class(variant)(config), side, "")


def _local(name: str, path: str) -> Path:
    """The folder, checked to hold the kind of network that the name says."""
    config = Path(path) / "config.json"
    try:
        found = json.loads(config.read_text(encoding="utf-8")).get("model_type")
    except OSError:
        raise ConfigError(
            f"`objective.alignment.teacher_path` is `{path}`, which has no `config.json`",
            f"name a folder that `save_pretrained` wrote, a copy of {VARIANTS[name].hub}",
        ) from None
    except (ValueError, AttributeError) as error:
        raise ConfigError(f"`{config}` is not usable: {error}") from None
    if found != VARIANTS[name].kind:
        raise ConfigError(
            f"teacher `{name}` is a `{VARIANTS[name].kind}` but `{path}` holds a `{found}`",
            "choose the variant with -reg for a network with registers, without for one without",
        )
    return Path(path)


def _load(name: str, where: str, is_local: bool) -> tuple[Any, Mapping[str, Any]]:
    """From a folder; else from the hub's cache on this machine; else from the hub."""
    kind = _class(VARIANTS[name])
    problem: Exception | None = None
    for from_here in [True] if is_local else [True, False]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the library's own; what matters is checked
                return kind.from_pretrained(
                    where,
                    dtype=torch.float32,
                    local_files_only=from_here,
                    use_safetensors=True,  # never a pickle
                    output_loading_info=True,
                )
        except Exception as error:  # the library raises many kinds: files, JSON, shapes, network
            problem = error
    first = str(problem).strip().splitlines()[:1] or [type(problem).__name__]
    if is_local:
        raise ConfigError(f"teacher `{name}` in `{where}` cannot be loaded: {first[0]}") from None
    raise ConfigError(
        f"teacher `{name}` is neither in this machine's cache nor could it be fetched from "
        f"`{where}` on the hub",
        f"fetch it where there is a network (`hf download {where} --local-dir FOLDER`) and set "
        "`objective.alignment.teacher_path` to that folder",
    ) from problem


def _class(variant: Variant) -> Any:
    library = transformers()
    if variant.kind == REGISTERS:
        return library.Dinov2WithRegistersModel
    return library.Dinov2Model


def transformers() -> Any:
    """The library, made quiet.

    Raises:
        ConfigError: if it is not installed.
    """
    try:
        import transformers
    except ImportError:
        raise ConfigError(
            "a network of transformers is named, but the library is not installed",
            "pip install transformers",
        ) from None
    # What matters of their notices is said by our own sentences.
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    return transformers


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes and values: the same however the files are cut."""
    total = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name} {tuple(tensor.shape)}".encode())
        total.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return total.hexdigest()
