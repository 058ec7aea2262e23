"""The feature networks by name: teachers to align with, and networks to evaluate with."""

from collections.abc import Callable
from functools import partial

import torch

from scalegan.features import classifier, dinov2, inception, pretrained, timm_model
from scalegan.interfaces import FeatureNetwork

# Each made by (path, device[, side]).
FEATURES = {name: partial(dinov2.dinov2, name) for name in dinov2.VARIANTS}

FEATURE_NETWORKS: dict[str, Callable[[str, torch.device], FeatureNetwork]] = {
    **{name: partial(inception.inception, name) for name in inception.HANDLINGS},
    "classifier": classifier.load_classifier,
    "transformers": pretrained.transformers_model,
    "timm": timm_model.timm_model,
    **{name: partial(dinov2.dinov2_features, name) for name in dinov2.VARIANTS},
}
"""Each made by (what follows its name and a colon, device)."""
