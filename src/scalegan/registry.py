"""The tables of names: what a recipe may ask for, and what it gets. Nothing else is here."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import nn

from scalegan.autoencoders.base import identity
from scalegan.autoencoders.kl import kl
from scalegan.autoencoders.tiny import taef2, tiny
from scalegan.data import archives, folders, sources, tables
from scalegan.features import dinov2, inception, judge, timm_model, transformers_model
from scalegan.interfaces import Autoencoder, FeatureNetwork
from scalegan.losses import adversarial
from scalegan.metrics import adapters
from scalegan.metrics.accuracy import top_k_accuracy
from scalegan.metrics.density_coverage import density_coverage
from scalegan.metrics.diversity import diversity
from scalegan.metrics.evaluate import Metric
from scalegan.metrics.frechet import frechet_distance
from scalegan.metrics.memorisation import authenticity_percent, copies
from scalegan.metrics.per_class import per_class_distances
from scalegan.metrics.precision_recall import precision_recall
from scalegan.models import biggan, gansformer, gat, ladagan
from scalegan.settings import AutoencoderConfig


class Architecture(NamedTuple):
    """A pair of networks, each made by (config, shape, num_classes, ...)."""

    generator: Callable[..., nn.Module]
    discriminator: Callable[..., nn.Module]


ARCHITECTURES = {
    "gat": Architecture(gat.GATGenerator, gat.GATDiscriminator),
    "ladagan": Architecture(ladagan.LadaGANGenerator, ladagan.LadaGANDiscriminator),
    "biggan": Architecture(biggan.BigGANGenerator, biggan.BigGANDiscriminator),
    "gansformer": Architecture(gansformer.GANsformerGenerator, gansformer.GANsformerDiscriminator),
}

ADVERSARIAL = {
    "relativistic": adversarial.Pair(
        adversarial.relativistic_discriminator, adversarial.relativistic_generator, is_paired=True
    ),
    "logistic": adversarial.Pair(
        adversarial.logistic_discriminator, adversarial.logistic_generator, is_paired=False
    ),
    "hinge": adversarial.Pair(
        adversarial.hinge_discriminator, adversarial.hinge_generator, is_paired=False
    ),
}

AUTOENCODERS: dict[str, Callable[[AutoencoderConfig, int, int], Autoencoder]] = {
    "identity": identity,
    "sd-vae-ft-ema": kl,
    "sd-vae-ft-mse": kl,
    "kl": kl,
    "taesd": tiny,
    "tiny": tiny,
    "taef2": taef2,
}
"""Each made by (config, channels of the pictures: 1 or 3, their side)."""

# Each made by (path, device[, side]).
FEATURES = {name: partial(dinov2.dinov2, name) for name in dinov2.VARIANTS}

FEATURE_NETWORKS: dict[str, Callable[[str, torch.device], FeatureNetwork]] = {
    **{name: partial(inception.inception, name) for name in inception.HANDLINGS},
    "judge": judge.load_judge,
    "transformers": transformers_model.transformers_model,
    "timm": timm_model.timm_model,
    **{name: partial(dinov2.dinov2_features, name) for name in dinov2.VARIANTS},
}
"""Each made by (what follows its name and a colon, device)."""

BANKS = ("real.bank", "fake.bank")
LABELED = ("real.bank", "real.labels", "fake.bank", "fake.labels", "num_classes")
PICTURED = ("real.images", "real.labels", "fake.images", "fake.labels", "num_classes")
METRICS = {
    "fid": Metric("FD", frechet_distance, ("real.moments", "fake.moments"), "FID"),
    "sfid": Metric("sFD", frechet_distance, ("real.spatial", "fake.spatial"), "sFID"),
    "fid-infinity": Metric(
        "FD-infinity", adapters.distance_infinity, ("real.moments", "fake.bank", "seed"),
        "FID-infinity",
    ),
    "kid": Metric("KD", adapters.kernel_distance, BANKS, "KID"),
    "is": Metric("IS", adapters.inception_score, ("fake.logits", "seed"), "IS"),
    "pr": Metric("precision, recall", precision_recall, BANKS),
    "dc": Metric("density, coverage", density_coverage, BANKS),
    "per-class": Metric("mean FD per class", per_class_distances, LABELED),
    "accuracy": Metric(
        "accuracy", top_k_accuracy, ("fake.verdicts", "fake.labels"), floor="held_out_accuracy"
    ),
    "cas": Metric(
        "classification accuracy score",
        partial(adapters.classification_accuracy_score, judge.fit_judge), PICTURED,
    ),
    "authenticity": Metric("authentic %", authenticity_percent, BANKS),
    "nearest": Metric("nearest real, relative", adapters.nearest_ratio, BANKS),
    "copies": Metric("copies", copies, ("real.hashes", "fake.hashes")),
    "diversity": Metric("diversity", diversity, ("fake.bank",)),
}  # fmt: skip
"""Pure functions, each with what it takes: see `metrics.evaluate.Metric`."""
METRIC_GROUPS = {
    "prdc": ("pr", "dc"),
    "memorisation": ("authenticity", "nearest", "copies"),
}

SOURCES: dict[str, Callable[[str], sources.Source]] = {
    "folder": folders.folder,
    "flat": folders.flat,
    "zip": archives.zipped,
    "webdataset": archives.webdataset,
    "parquet": tables.parquet,
    "npz": sources.npz,
    "digits": sources.digits,
}
