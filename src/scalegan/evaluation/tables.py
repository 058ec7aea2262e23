"""The metrics by the name that `--metrics` has."""

from functools import partial

from scalegan.errors import ConfigError
from scalegan.evaluation.classifier import classification_accuracy_score
from scalegan.evaluation.collect import Field
from scalegan.evaluation.measure import Metric
from scalegan.features.classifier import fit_classifier
from scalegan.metrics.accuracy import top_k_accuracy
from scalegan.metrics.diversity import diversity
from scalegan.metrics.frechet import frechet_distance, frechet_infinity
from scalegan.metrics.inception_score import inception_score
from scalegan.metrics.kernel import kernel_distance
from scalegan.metrics.memorization import authenticity_percent, copies, nearest_ratio
from scalegan.metrics.per_class import per_class_distances
from scalegan.metrics.precision_recall import density_coverage, precision_recall

MOMENTS, SPATIAL, BANK = (Field.MOMENTS,), (Field.SPATIAL,), (Field.BANK,)
METRICS = {
    "fid": Metric(
        "frechet-distance",
        "FD",
        "distance",
        frechet_distance,
        MOMENTS,
        MOMENTS,
        inception_title="FID",
    ),
    "sfid": Metric(
        "frechet-distance-spatial",
        "sFD",
        "distance",
        frechet_distance,
        SPATIAL,
        SPATIAL,
        inception_title="sFID",
    ),
    "fid-infinity": Metric(
        "frechet-distance-infinity",
        "FD-infinity",
        "distance",
        frechet_infinity,
        MOMENTS,
        BANK,
        {"num_sizes": 15},
        inception_title="FID-infinity",
        is_shuffled=True,
    ),
    "kid": Metric(
        "kernel-distance",
        "KD",
        "distance",
        kernel_distance,
        BANK,
        BANK,
        {"subsets": 100, "size": 1000, "seed": 2020},
        inception_title="KID",
    ),
    "is": Metric(
        "inception-score",
        "IS",
        "score",
        inception_score,
        fake=(Field.LOGITS,),
        parameters={"splits": 10},
        inception_title="IS",
        is_shuffled=True,
    ),
    "pr": Metric(
        "precision-recall", "precision, recall", "share", precision_recall, BANK, BANK, {"k": 3}
    ),
    "dc": Metric(
        "density-coverage", "density, coverage", "share", density_coverage, BANK, BANK, {"k": 5}
    ),
    "per-class": Metric(
        "frechet-distance-per-class",
        "mean FD per class",
        "distance",
        per_class_distances,
        (Field.BANK, Field.LABELS),
        (Field.BANK, Field.LABELS),
        takes_num_classes=True,
    ),
    "accuracy": Metric(
        "top-k-accuracy",
        "accuracy",
        "share",
        top_k_accuracy,
        fake=(Field.CLASS_LOGITS, Field.LABELS),
        parameters={"k": 1},
        floor="held_out_accuracy",
    ),
    "cas": Metric(
        "classification-accuracy-score",
        "classification accuracy score",
        "share",
        partial(classification_accuracy_score, fit_classifier),
        (Field.IMAGES, Field.LABELS),
        (Field.IMAGES, Field.LABELS),
        takes_num_classes=True,
    ),
    "authenticity": Metric(
        "authenticity", "authentic %", "share", authenticity_percent, BANK, BANK
    ),
    "nearest": Metric(
        "nearest-ratio", "nearest real, relative", "score", nearest_ratio, BANK, BANK
    ),
    "copies": Metric("copies", "copies", "share", copies, (Field.HASHES,), (Field.HASHES,)),
    "diversity": Metric("mean-pairwise-distance", "diversity", "score", diversity, fake=BANK),
}
METRIC_GROUPS = {
    "prdc": ("pr", "dc"),
    "memorization": ("authenticity", "nearest", "copies"),
}


def named_metrics(text: str) -> dict[str, Metric]:
    """Metrics of names and groups separated by commas.

    Raises:
        ConfigError: for an unknown one.
    """
    hint = f"some of {', '.join([*METRICS, *METRIC_GROUPS])}"
    found: dict[str, Metric] = {}
    for part in (part.strip() for part in text.split(",") if part.strip()):
        if part not in METRICS and part not in METRIC_GROUPS:
            raise ConfigError(f"there is no metric `{part}`", hint)
        found |= {name: METRICS[name] for name in METRIC_GROUPS.get(part, (part,))}
    if not found:
        raise ConfigError("no metric is named", hint)
    return found
