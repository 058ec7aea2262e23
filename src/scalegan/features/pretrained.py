"""Image models of `transformers` and `timm`, frozen: DINOv2 as a teacher, any as a feature network.

Sources: DINOv2 (arXiv 2304.07193), registers (arXiv 2309.16588). Images are brought to a model as
its own files say, in float32: resized with antialias to its side (stretched, not cropped), scaled,
normalized. S tokens: the class token and the patches row by row.
"""

import json
import logging
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from scalegan.config.objective import TEACHER_WIDTHS
from scalegan.errors import ConfigError
from scalegan.interfaces import IMAGENET_DEVIATION, IMAGENET_MEAN, Features, Images
from scalegan.runtime.weights import digest_of_weights

PLAIN, REGISTERS = "dinov2", "dinov2_with_registers"  # `model_type` in the library's config.json
FILTERS = {0: "nearest", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of filters; for Lanczos (1), which PyTorch lacks, bicubic stands in."""


class Preprocessing(NamedTuple):
    """How images become the normalized input of a network."""

    side: int
    filter: str = "bicubic"
    mean: tuple[float, ...] = IMAGENET_MEAN
    deviation: tuple[float, ...] = IMAGENET_DEVIATION

    def __call__(self, images: Float[Tensor, "N 3 P P"]) -> Float[Tensor, "N 3 Q Q"]:
        """Resize 0..255 in float, neither clipped nor rounded, then normalize."""
        if images.shape[-1] != self.side:
            size, antialias = (self.side, self.side), self.filter != "nearest"
            images = F.interpolate(images, size=size, mode=self.filter, antialias=antialias)
        mean, deviation = (
            torch.tensor(values, device=images.device).view(3, 1, 1)
            for values in (self.mean, self.deviation)
        )
        return (images / 255 - mean) / deviation


class Pretrained:
    """A frozen network that others trained, with its preprocessing, as a feature network.

    Args:
        features: from normalized images to one vector each.
        preprocessing: what it was trained with.
        about: what `identity` says of it.
    """

    def __init__(
        self,
        features: Callable[[Tensor], Float[Tensor, "N E"]],
        preprocessing: Preprocessing,
        about: dict[str, Any],
        device: torch.device,
    ) -> None:
        self.features, self.preprocessing = features, preprocessing
        self.about, self.device = about, device

    @torch.no_grad()
    def __call__(self, images: Images) -> Features:
        x = self.preprocessing(images.to(self.device).float())
        return Features(self.features(x).float())

    def identity(self) -> dict[str, Any]:
        return self.about


class Dinov2:
    """A frozen DINOv2, from normalized images to tokens: a teacher to align with.

    It computes in float32, or in whatever autocast it is called under. Its table of positions is
    resampled once, as the official GAT code does, and not in every forward as the library does.

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
        self.network, self.side, self.digest = network.requires_grad_(False).eval(), side, digest
        self.width = int(network.config.hidden_size)
        self.num_registers = int(getattr(network.config, "num_register_tokens", 0))
        embeddings = network.embeddings
        table = resample_positions(embeddings.position_embeddings.detach(), side // patch)
        # With as many positions as patches the library adds the table as it is.
        embeddings.position_embeddings = nn.Parameter(table, requires_grad=False)

    @torch.no_grad()
    def __call__(self, images: Float[Tensor, "N 3 Q Q"]) -> Float[Tensor, "N S E"]:
        """Tokens after the last norm: class token first, then patches row by row; no registers."""
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


def dinov2(name: str, path: str, device: torch.device, side: int = 224) -> Dinov2:
    """Load a DINOv2 as a teacher.

    Args:
        name: one of `VARIANTS`.
        path: folder that `save_pretrained` wrote; empty = the hub's copy, or its cache.
        device: where it computes.
        side: side of the images it is shown.

    Raises:
        ConfigError: if it is not there, is something else, or lacks weights.
    """
    where = _checked_folder(name, path) if path else VARIANTS[name].hub
    network, info = _load_dinov2(name, where, is_local=bool(path))
    keys = [str(key) for part in ("missing_keys", "mismatched_keys") for key in info[part]]
    unfilled = sorted(key for key in keys if "mask_token" not in key)
    if unfilled:  # the library would leave them random, and only warn
        raise ConfigError(
            f"the weights of teacher `{name}` in `{where}` lack {len(unfilled)} tensors, "
            f"`{unfilled[0]}` first"
        )
    return Dinov2(network.to(device), side, _digest(network))


def dinov2_features(name: str, path: str, device: torch.device) -> Pretrained:
    """The class token of a DINOv2 as a feature network; arguments and errors as `dinov2`.

    Images are stretched to 224 by antialiased bicubic in float, as EDM2 does; dgm-eval's Pillow on
    8 bits gives nearly the same.
    """
    network = dinov2(name, path, device)
    about = {
        "kind": name,
        "label": f"{name} {network.digest[:4]}",
        "digest": network.digest,
        "layer": "class token after the last norm",
        "resize": f"bicubic with antialias in float to {network.side}, stretched",
    }
    return Pretrained(lambda x: network(x)[:, 0], Preprocessing(network.side), about, device)


def untrained_dinov2(name: str, path: str, device: torch.device, side: int = 224) -> Dinov2:
    """A teacher's network without its weights: it costs the same, and teaches nothing."""
    library = transformers()
    if path:
        folder = _checked_folder(name, path)
        config = library.AutoConfig.from_pretrained(folder, local_files_only=True)
    else:
        config = library.AutoConfig.for_model(
            VARIANTS[name].kind,
            hidden_size=TEACHER_WIDTHS[name],
            num_hidden_layers=VARIANTS[name].depth,
            num_attention_heads=TEACHER_WIDTHS[name] // 64,
            image_size=518,
            patch_size=14,
        )
    with device:
        network = library.AutoModel.from_config(config, dtype=torch.float32)
        return Dinov2(network, side, "")


def transformers_model(path: str, device: torch.device) -> Pretrained:
    """Any image model that `save_pretrained` wrote, pooled, as a feature network.

    Raises:
        ConfigError: if there is none, or it is not a model of images.
    """
    folder = Path(path)
    if not (folder / "config.json").is_file():
        raise ConfigError(
            f"`{path}` holds no model: there is no `config.json`",
            "name a folder that `save_pretrained` wrote, as in transformers:PATH",
        )
    try:
        network, _ = _load(path, from_here=True)
    except Exception as error:  # the library raises many kinds
        raise ConfigError(f"the model in `{path}` cannot be loaded: {_first_line(error)}") from None
    network = getattr(network, "vision_model", network)  # of CLIP and the like
    if getattr(network, "main_input_name", "") != "pixel_values":
        raise ConfigError(f"the model in `{path}` does not take images")
    found = preprocessing(folder, int(getattr(network.config, "image_size", 224) or 224))
    network = network.to(device).eval().requires_grad_(False)
    about = _about(f"transformers {network.config.model_type}", path, network, found)
    return Pretrained(lambda x: pooled(network(pixel_values=x)), found, about, device)


def pooled(out: Any) -> Float[Tensor, "N E"]:
    """The pooled output of a model of `transformers`, else its first token or its map's mean."""
    found = getattr(out, "pooler_output", None)
    if found is not None:
        return found.flatten(1)
    last = out.last_hidden_state
    return last[:, 0] if last.ndim == 3 else last.mean(dim=tuple(range(2, last.ndim)))


def preprocessing(folder: Path, side: int) -> Preprocessing:
    """Side, filter, mean and deviation as the model's files state them; else ImageNet's.

    Raises:
        ConfigError: if `preprocessor_config.json` cannot be used.
    """
    path = folder / "preprocessor_config.json"
    try:
        stated = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        size = stated.get("crop_size", stated.get("size", side))
        if isinstance(size, dict):
            size = size.get("height", size.get("shortest_edge", side))
        return Preprocessing(
            int(size),
            FILTERS.get(int(stated.get("resample", 3)), "bicubic"),
            tuple(map(float, stated.get("image_mean", IMAGENET_MEAN))),
            tuple(map(float, stated.get("image_std", IMAGENET_DEVIATION))),
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"`{path}` is not usable: {error}") from None


def timm_model(name: str, device: torch.device) -> Pretrained:
    """Any image model of timm by its name, without its classifier, as a feature network.

    Args:
        name: as timm has it, weights from its cache or the hub; `NAME@FILE` takes them from a
            safetensors file.
        device: where it computes.

    Raises:
        ConfigError: if timm is missing, or there is no such model, or no weights of it.
    """
    try:
        import timm
    except ImportError as error:
        raise ConfigError(
            f"timm:{name} needs timm, which cannot be imported: {error}",
            'pip install "scalegan[timm]"',
        ) from None
    name, _, file = name.partition("@")
    extra = {"pretrained_cfg_overlay": {"file": file}} if file else {}
    try:
        network = timm.create_model(name, pretrained=True, num_classes=0, **extra)
    except Exception as error:  # the library raises many kinds: names, network, shapes
        raise ConfigError(
            f"timm's model `{name}` cannot be loaded: {_first_line(error)}",
            f"fetch its weights where there is a network, then timm:{name}@FILE.safetensors",
        ) from None
    stated = timm.data.resolve_model_data_config(network)
    filter = stated["interpolation"] if stated["interpolation"] != "random" else "bicubic"
    side = int(stated["input_size"][-1])
    found = Preprocessing(side, filter, tuple(stated["mean"]), tuple(stated["std"]))
    network = network.to(device).eval().requires_grad_(False)
    about = _about(f"timm {name}", file or name, network, found)
    return Pretrained(lambda x: network(x).flatten(1), found, about, device)


def _about(kind: str, path: str, network: nn.Module, used: Preprocessing) -> dict[str, Any]:
    digest = _digest(network)
    return {
        "kind": kind,
        "label": f"{kind} {digest[:4]}",
        "path": path,
        "digest": digest,
        "layer": "pooled",
        "resize": f"{used.filter} with antialias to {used.side}, stretched",
        "mean": list(used.mean),
        "std": list(used.deviation),
    }


def _digest(network: nn.Module) -> str:
    """Of values as floats, counts of batch norms too: results on disk hold such digests."""
    return digest_of_weights({key: value.float() for key, value in network.state_dict().items()})


def _checked_folder(name: str, path: str) -> str:
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
    return path


def _load_dinov2(name: str, where: str, is_local: bool) -> tuple[Any, dict[str, Any]]:
    """From a folder; else from the hub's cache on this machine; else from the hub."""
    problem: Exception | None = None
    for from_here in [True] if is_local else [True, False]:
        try:
            return _load(where, from_here)
        except Exception as error:  # the library raises many kinds: files, JSON, shapes, network
            problem = error
    assert problem is not None
    if is_local:
        raise ConfigError(
            f"teacher `{name}` in `{where}` cannot be loaded: {_first_line(problem)}"
        ) from None
    raise ConfigError(
        f"teacher `{name}` is neither in this machine's cache nor could it be fetched from "
        f"`{where}` on the hub",
        f"fetch it where there is a network (`hf download {where} --local-dir FOLDER`) and set "
        "`objective.alignment.teacher_path` to that folder",
    ) from problem


def _load(where: str, from_here: bool) -> tuple[Any, Any]:
    """A network of a folder or of the hub, and what the library says of its loading."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library's own; what matters is checked
        return transformers().AutoModel.from_pretrained(
            where,
            dtype=torch.float32,
            local_files_only=from_here,
            use_safetensors=True,  # never a pickle
            output_loading_info=True,
        )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def transformers() -> Any:
    """The library of that name, made quiet; importing it takes seconds."""
    import transformers

    # What matters of their notices is said by our own sentences.
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    return transformers
