"""Statistics of a reference set in a file: the moments of its features, as ADM's files have them.

ADM's (arXiv 2105.05233) have `mu`, `sigma` of Inception's pooled features over the whole training
set, `mu_s`, `sigma_s` of the spatial ones, and in `arr_0` some of its images. Ours add `count`,
`bank`, `labels`, `hashes` and, as JSON in `protocol`, what they are of.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scalegan.data import arrays
from scalegan.errors import ConfigError, DataError
from scalegan.evaluation.collect import ImageSet, SetFeatures
from scalegan.evaluation.protocol import label_of
from scalegan.interfaces import FeatureNetwork
from scalegan.metrics.statistics import Moments
from scalegan.runtime.files import atomic_file, digest

FORMAT = 2
ROWS = ("bank", "labels", "hashes", "logits", "class_logits")


def is_statistics(text: str) -> bool:
    """Whether a path is an .npz file of statistics."""
    path = Path(text)
    return path.suffix == ".npz" and path.is_file() and "mu" in arrays.headers(path)


def has_images(path: Path) -> bool:
    """Whether a file of statistics holds some of its images, as ADM's do."""
    return arrays.IMAGES in arrays.headers(path)


def save_statistics(path: Path, images: ImageSet, network: FeatureNetwork) -> None:
    """Write the statistics of a set of images in one network's features.

    Raises:
        OSError: if the disk is full or refuses.
    """
    (found,) = images.features.values()
    assert found.moments is not None
    about = {"format": FORMAT, "features": network.identity(), "reference": images.about}
    values: dict[str, Any] = {
        "mu": found.moments.mean.numpy(),
        "sigma": found.moments.covariance.numpy(),
        "count": np.int64(found.moments.count),
        "protocol": np.array(json.dumps(about)),
    }
    if found.spatial is not None:
        values |= {"mu_s": found.spatial.mean.numpy(), "sigma_s": found.spatial.covariance.numpy()}
    if found.bank is not None:
        rows = {name: getattr(found, name) for name in ROWS}
        values |= {name: value.numpy() for name, value in rows.items() if value is not None}
    with atomic_file(path) as draft:
        np.savez(draft, **values)


def load_statistics(path: Path, network: FeatureNetwork) -> tuple[SetFeatures, dict[str, Any]]:
    """Read statistics for use with a network; refuse those of another.

    Returns:
        What is known of the set in the network's features, and its protocol.

    Raises:
        ConfigError, DataError: if they are of another feature network, or the file is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            values = {name: archive[name] for name in archive.files if name != arrays.IMAGES}
        about = json.loads(str(values["protocol"])) if "protocol" in values else None
        first = _moments(values, "mu", "sigma")
        spatial = _moments(values, "mu_s", "sigma_s") if "mu_s" in values else None
        rows = {name: torch.from_numpy(values[name]) for name in ROWS if name in values}
    except (ValueError, KeyError, OSError, EOFError) as error:
        raise DataError(f"`{path}` is no usable file of statistics: {error}") from None
    identity = network.identity()
    if about is None:
        if not identity.get("is_published"):
            raise ConfigError(
                f"`{path}` does not say which network made it, so it is taken for ADM's, of "
                f"Inception; `--features` is {identity['kind']}",
                "use --features inception, or make the file with `scalegan statistics`",
            )
        facts = {"kind": "statistics", "path": str(path), "digest": digest(path)[:16]}
        return SetFeatures(0, moments=first, spatial=spatial), facts
    if about.get("format") != FORMAT:
        raise DataError(
            f"`{path}` has format {about.get('format')}; this version reads {FORMAT}",
            "make it again with `scalegan statistics`",
        )
    theirs = about["features"]
    for name in sorted({*theirs, *identity} - {"path", "label"}):
        if theirs.get(name) != identity.get(name):
            raise ConfigError(
                f"`{path}` was made with other features: their `{name}` is {theirs.get(name)!r}, "
                f"not {identity.get(name)!r}",
                f"use the network it was made with ({label_of(theirs)}), or make it again",
            )
    facts = about["reference"] | {"file": str(path)}
    return SetFeatures(first.count, moments=first, spatial=spatial, **rows), facts


def _moments(values: dict[str, Any], mean: str, covariance: str) -> Moments:
    mu, sigma = (np.asarray(values[name], np.float64) for name in (mean, covariance))
    if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)):
        raise ValueError(f"`{mean}` is {mu.shape} and `{covariance}` is {sigma.shape}")
    if not (np.isfinite(mu).all() and np.isfinite(sigma).all()):
        raise ValueError(f"`{mean}` or `{covariance}` is not finite")
    count = int(values.get("count", 0))
    return Moments(count, torch.from_numpy(mu), torch.from_numpy(sigma))
