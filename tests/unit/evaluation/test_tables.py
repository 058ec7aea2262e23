"""What each metric is, as protocols and fingerprints have it."""

import pytest

from scalegan.errors import ConfigError
from scalegan.evaluation.tables import METRIC_GROUPS, METRICS, named_metrics

DEFINITIONS = {
    "fid": ("distance", {"id": "frechet-distance"}),
    "sfid": ("distance", {"id": "frechet-distance-spatial"}),
    "fid-infinity": ("distance", {"id": "frechet-distance-infinity", "num_sizes": 15}),
    "kid": ("distance", {"id": "kernel-distance", "subsets": 100, "size": 1000, "seed": 2020}),
    "is": ("score", {"id": "inception-score", "splits": 10}),
    "pr": ("share", {"id": "precision-recall", "k": 3}),
    "dc": ("share", {"id": "density-coverage", "k": 5}),
    "per-class": ("distance", {"id": "frechet-distance-per-class"}),
    "accuracy": ("share", {"id": "top-k-accuracy", "k": 1}),
    "cas": ("share", {"id": "classification-accuracy-score"}),
    "authenticity": ("share", {"id": "authenticity"}),
    "nearest": ("score", {"id": "nearest-ratio"}),
    "copies": ("share", {"id": "copies"}),
    "diversity": ("score", {"id": "mean-pairwise-distance"}),
}


def test_definitions_change_only_when_a_number_means_something_else() -> None:
    found = {name: (m.kind, {"id": m.id, **m.parameters}) for name, m in METRICS.items()}
    assert found == DEFINITIONS


def test_groups_are_of_metrics() -> None:
    for group in METRIC_GROUPS.values():
        assert set(group) <= set(METRICS)


def test_names_and_groups_are_read_in_order_and_once() -> None:
    assert list(named_metrics("kid, prdc,pr,,kid")) == ["kid", "pr", "dc"]


@pytest.mark.parametrize(("text", "message"), [("fud", "no metric `fud`"), (" ,", "no metric is")])
def test_unknown_names_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        named_metrics(text)
