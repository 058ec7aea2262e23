"""The metrics by name: pure functions, each with what it takes."""

from functools import partial

from scalegan.evaluation import adapters
from scalegan.evaluation.measure import Metric
from scalegan.features import classifier
from scalegan.metrics.accuracy import top_k_accuracy
from scalegan.metrics.diversity import diversity
from scalegan.metrics.frechet import frechet_distance
from scalegan.metrics.kernel import kernel_distance
from scalegan.metrics.memorization import authenticity_percent, copies, nearest_ratio
from scalegan.metrics.per_class import per_class_distances
from scalegan.metrics.precision_recall import density_coverage, precision_recall

BANKS = ("real.bank", "fake.bank")
LABELED = ("real.bank", "real.labels", "fake.bank", "fake.labels", "num_classes")
IMAGED = ("real.images", "real.labels", "fake.images", "fake.labels", "num_classes")
METRICS = {
    "fid": Metric("FD", frechet_distance, ("real.moments", "fake.moments"), "FID"),
    "sfid": Metric("sFD", frechet_distance, ("real.spatial", "fake.spatial"), "sFID"),
    "fid-infinity": Metric(
        "FD-infinity", adapters.distance_infinity, ("real.moments", "fake.bank", "seed"),
        "FID-infinity",
    ),
    "kid": Metric("KD", kernel_distance, BANKS, "KID"),
    "is": Metric("IS", adapters.inception_score, ("fake.logits", "seed"), "IS"),
    "pr": Metric("precision, recall", precision_recall, BANKS),
    "dc": Metric("density, coverage", density_coverage, BANKS),
    "per-class": Metric("mean FD per class", per_class_distances, LABELED),
    "accuracy": Metric(
        "accuracy", top_k_accuracy, ("fake.verdicts", "fake.labels"), floor="held_out_accuracy"
    ),
    "cas": Metric(
        "classification accuracy score",
        partial(adapters.classification_accuracy_score, classifier.fit_classifier), IMAGED,
    ),
    "authenticity": Metric("authentic %", authenticity_percent, BANKS),
    "nearest": Metric("nearest real, relative", nearest_ratio, BANKS),
    "copies": Metric("copies", copies, ("real.hashes", "fake.hashes")),
    "diversity": Metric("diversity", diversity, ("fake.bank",)),
}  # fmt: skip
"""Pure functions, each with what it takes: see `metrics.evaluate.Metric`."""
METRIC_GROUPS = {
    "prdc": ("pr", "dc"),
    "memorization": ("authenticity", "nearest", "copies"),
}
