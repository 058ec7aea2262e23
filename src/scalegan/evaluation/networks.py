"""Which networks look at the images: what `--features` may say."""

import torch

from scalegan.errors import ConfigError
from scalegan.features.tables import FEATURE_NETWORKS
from scalegan.interfaces import FeatureNetwork

EXAMPLES = "inception, inception-clean, classifier:PATH, dinov2-l, transformers:PATH, timm:NAME"


def open_networks(text: str, device: torch.device) -> dict[str, FeatureNetwork]:
    """Feature networks of names separated by commas, by what they were asked for as.

    Raises:
        ConfigError: if there is none of a name, or its weights are not to be had.
        CheckpointError: if a classifier is damaged.
    """
    networks: dict[str, FeatureNetwork] = {}
    for part in (part.strip() for part in text.split(",") if part.strip()):
        name, _, where = part.partition(":")
        if name not in FEATURE_NETWORKS:
            raise ConfigError(f"`--features` has `{part}`", f"expected some of {EXAMPLES}")
        if not where and name in ("classifier", "transformers", "timm"):
            raise ConfigError(f"`--features {name}` does not say which", f"{name}:...; {EXAMPLES}")
        networks[part] = FEATURE_NETWORKS[name](where, device)
    if not networks:
        raise ConfigError("`--features` is empty", f"expected some of {EXAMPLES}")
    return networks
