"""Any image model of `transformers`, from a folder, as a feature network.

Preprocessing is what the model's own `preprocessor_config.json` says, done here in float32: resized
with antialias to its size (stretched, not cropped), scaled, normalized.
"""

import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from scalegan.errors import ConfigError
from scalegan.features.dinov2 import digest_of, transformers
from scalegan.interfaces import Features, Images

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MODES = {0: "nearest", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of filters; Lanczos (1) is not to be had and bicubic stands in."""


class Pretrained:
    """A frozen network with its stated preprocessing.

    Args:
        network: from normalized images to an output with `pooler_output` or `last_hidden_state`.
        about: size, mean, std, filter.
        kind: how it is called in a protocol.
    """

    def __init__(self, network: Any, about: dict[str, Any], kind: str, path: str) -> None:
        self.network = network.eval().requires_grad_(False)
        self.about, self.kind, self.path = about, kind, path
        self.digest = digest_of(network.state_dict())
        device = next(network.parameters()).device
        self.mean, self.deviation = (
            torch.tensor(about[name], device=device).view(-1, 1, 1) for name in ("mean", "std")
        )

    @torch.no_grad()
    def __call__(self, images: Images) -> Features:
        x = resize(images.to(self.mean.device).float(), self.about["size"], self.about["filter"])
        out = self.network(pixel_values=(x / 255 - self.mean) / self.deviation)
        return Features(pooled(out).float())

    def identity(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "label": f"{self.kind} {self.digest[:4]}",
            "path": self.path,
            "digest": self.digest,
            "layer": "pooled",
            "resize": f"{self.about['filter']} with antialias to {self.about['size']}, stretched",
            "mean": list(self.about["mean"]),
            "std": list(self.about["std"]),
        }


def resize(images: Tensor, size: int, mode: str) -> Tensor:
    """Squares of another side, in float, neither clipped nor rounded."""
    if images.shape[-1] == size:
        return images
    if mode == "nearest":
        return F.interpolate(images, size=(size, size), mode=mode)
    return F.interpolate(images, size=(size, size), mode=mode, antialias=True)


def pooled(out: Any) -> Tensor:
    """(N, E): the pooled output, else the first token (transformers) or the mean of a map."""
    found = getattr(out, "pooler_output", None)
    if found is not None:
        return found.flatten(1)
    last = out.last_hidden_state
    return last[:, 0] if last.ndim == 3 else last.mean(dim=tuple(range(2, last.ndim)))


def transformers_model(path: str, device: torch.device) -> Pretrained:
    """Load a model that `save_pretrained` wrote.

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
        network = transformers().AutoModel.from_pretrained(
            str(folder), dtype=torch.float32, local_files_only=True, use_safetensors=True
        )
    except Exception as error:  # the library raises many kinds
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"the model in `{path}` cannot be loaded: {first}") from None
    network = getattr(network, "vision_model", network)  # of CLIP and the like
    if getattr(network, "main_input_name", "") != "pixel_values":
        raise ConfigError(f"the model in `{path}` does not look at images")
    about = preprocessing(folder, int(getattr(network.config, "image_size", 224) or 224))
    kind = str(network.config.model_type)
    return Pretrained(network.to(device), about, f"transformers {kind}", path)


def preprocessing(folder: Path, side: int) -> dict[str, Any]:
    """Size, mean, std and filter as the model's files have them; else ImageNet's."""
    path = folder / "preprocessor_config.json"
    try:
        said = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        size = said.get("crop_size", said.get("size", side))
        if isinstance(size, dict):
            size = size.get("height", size.get("shortest_edge", side))
        return {
            "size": int(size),
            "mean": tuple(map(float, said.get("image_mean", MEAN))),
            "std": tuple(map(float, said.get("image_std", DEVIATION))),
            "filter": MODES.get(int(said.get("resample", 3)), "bicubic"),
        }
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"`{path}` is not usable: {error}") from None
