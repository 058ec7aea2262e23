"""The feature networks by name: teachers to align with, and networks to evaluate with."""

from collections.abc import Callable
from functools import partial

import torch

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
