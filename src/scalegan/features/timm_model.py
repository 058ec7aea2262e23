"""Any image model of `timm` as a feature network, with the preprocessing that its config states."""

from typing import Any

import torch
from torch import Tensor, nn

from scalegan.errors import ConfigError
from scalegan.features.pretrained import Pretrained


class _Called(nn.Module):
    """Calls a timm model as transformers' are called."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixel_values: Tensor) -> Any:
        return _Out(self.network(pixel_values))


class _Out:
    def __init__(self, pooler_output: Tensor) -> None:
        self.pooler_output = pooler_output


def timm_model(name: str, device: torch.device) -> Pretrained:
    """Load a model by its name, without its classifier.

    Args:
        name: as timm has it, weights from its cache or the hub; `NAME@FILE` takes them from a
            safetensors file.

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
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"timm's model `{name}` cannot be had: {first}",
            f"fetch its weights where there is a network, then timm:{name}@FILE.safetensors",
        ) from None
    said = timm.data.resolve_model_data_config(network)
    about = {
        "size": int(said["input_size"][-1]),
        "mean": tuple(said["mean"]),
        "std": tuple(said["std"]),
        "filter": said["interpolation"] if said["interpolation"] != "random" else "bicubic",
    }
    return Pretrained(_Called(network).to(device), about, f"timm {name}", file or name)
