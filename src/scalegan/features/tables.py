"""The feature networks by name: teachers to align with, and networks to evaluate with."""

from collections.abc import Callable
from functools import partial

import torch

from scalegan.errors import ConfigError
from scalegan.features.classifier import load_classifier
from scalegan.features.inception import HANDLINGS, inception
from scalegan.features.pretrained import (
    VARIANTS,
    dinov2,
    dinov2_features,
    timm_model,
    transformers_model,
)
from scalegan.interfaces import FeatureNetwork

TEACHERS = {name: partial(dinov2, name) for name in VARIANTS}
"""By the name that `objective.alignment.teacher` has, each made by (path, device, side)."""

FEATURE_NETWORKS: dict[str, Callable[[str, torch.device], FeatureNetwork]] = {
    **{name: partial(inception, name) for name in HANDLINGS},
    "classifier": load_classifier,
    "transformers": transformers_model,
    "timm": timm_model,
    **{name: partial(dinov2_features, name) for name in VARIANTS},
}
"""By the name that `--features` has, each made by (what follows name and colon, device)."""
EXAMPLES = "inception, inception-clean, classifier:PATH, dinov2-l, transformers:PATH, timm:NAME"


def open_networks(text: str, device: torch.device) -> dict[str, FeatureNetwork]:
    """Open feature networks of names separated by commas, by those names.

    Raises:
        ConfigError: if there is none of a name, or its weights are not on this machine.
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
